package remote_test

import (
	"context"
	"encoding/hex"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// unlucky is a memory backend under Retry. Its first change is met by the fault of
// the test and what comes between that and the next attempt.
type unlucky struct {
	remote.Backend
	below *memory.Backend
	puts  int // that reached the backend
}

// Unwrap implements remote.Unwrapper.
func (u *unlucky) Unwrap() remote.Backend { return u.Backend }

// newUnlucky carries the first change out if done, lets between happen, and loses
// the answer.
func newUnlucky(t *testing.T, opts memory.Options, done bool, between func(b remote.Backend)) *unlucky {
	t.Helper()
	u := &unlucky{below: memory.New(opts)}
	first := true
	b := remote.Intercept(u.below, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpPut {
			u.puts++
		}
		if !first || !c.Op.Mutates() {
			return next(ctx)
		}
		first = false
		if done {
			if err := next(ctx); err != nil {
				return err
			}
		}
		if between != nil {
			between(u.below)
		}
		e := c.Fail(remote.Unavailable, nil)
		e.Unsure = true
		return e
	})
	u.Backend = remote.Retry(b, remote.RetryOptions{Wait: time.Millisecond})
	return u
}

func plant(t *testing.T, b remote.Backend) {
	put(t, b, "/f", "file")
	put(t, b, "/other", "other")
	for _, dir := range []string{"/d", "/full"} {
		if _, err := b.Mkdir(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	put(t, b, "/full/x", "x")
	if err := b.(remote.Xattrer).SetXattr(t.Context(), "/other", xattr, []byte("old"), remote.XattrAny); err != nil {
		t.Error(err)
	}
}

// settleCase is a change that is met by a lost answer.
type settleCase struct {
	name    string
	between func(t *testing.T) func(b remote.Backend) // what others do meanwhile
	change  func(ctx context.Context, b remote.Backend) error
	want    remote.Kind // Other for success, if the change was done at first
	wantNot remote.Kind // if it was not
}

func putText(text string, opts remote.PutOptions) func(context.Context, remote.Backend) error {
	return func(ctx context.Context, b remote.Backend) error {
		_, err := b.Put(ctx, "/new", remotetest.Bytes([]byte(text)), opts)
		return err
	}
}

var exclusive = remote.PutOptions{Cond: remote.Cond{NotExist: true}}

var settleCases = []settleCase{
	{name: "put", change: putText("mine", remote.PutOptions{})},
	{name: "put exclusively", change: putText("mine", exclusive)},
	{name: "put nothing", change: putText("", exclusive)},
	{
		name: "put, then others put as much", change: putText("mine", exclusive), want: remote.Exist, wantNot: remote.Exist,
		between: func(t *testing.T) func(remote.Backend) { return func(b remote.Backend) { put(t, b, "/new", "your") } },
	},
	{
		name: "put, then others put more", change: putText("mine", exclusive), want: remote.Exist, wantNot: remote.Exist,
		between: func(t *testing.T) func(remote.Backend) {
			return func(b remote.Backend) { put(t, b, "/new", "longer") }
		},
	},
	{
		name: "mkdir",
		change: func(ctx context.Context, b remote.Backend) error {
			e, err := b.Mkdir(ctx, "/new")
			if err == nil && (e.Path != "/new" || e.Type != remote.Dir) {
				return remote.Corrupt
			}
			return err
		},
	},
	{
		name: "mkdir, then others fill it", want: remote.Exist, wantNot: remote.NotExist,
		change: func(ctx context.Context, b remote.Backend) error { _, err := b.Mkdir(ctx, "/new"); return err },
		between: func(t *testing.T) func(remote.Backend) {
			return func(b remote.Backend) {
				if _, err := b.Stat(t.Context(), "/new"); err == nil {
					put(t, b, "/new/theirs", "x")
				}
			}
		},
	},
	{
		name: "remove",
		change: func(ctx context.Context, b remote.Backend) error {
			return b.Remove(ctx, "/f", remote.RemoveOptions{Type: remote.File})
		},
	},
	{
		name: "remove a directory",
		change: func(ctx context.Context, b remote.Backend) error {
			return b.Remove(ctx, "/d", remote.RemoveOptions{Type: remote.Dir})
		},
	},
	{
		name: "rename",
		change: func(ctx context.Context, b remote.Backend) error {
			return b.Rename(ctx, "/f", "/new", remote.RenameOptions{})
		},
	},
	{
		name: "rename, not replacing",
		change: func(ctx context.Context, b remote.Backend) error {
			return b.Rename(ctx, "/f", "/new", remote.RenameOptions{NoReplace: true})
		},
	},
	{
		name: "rename over a file",
		change: func(ctx context.Context, b remote.Backend) error {
			return b.Rename(ctx, "/f", "/other", remote.RenameOptions{})
		},
	},
	{
		name: "rename, then others remove the target", want: remote.NotExist,
		change: func(ctx context.Context, b remote.Backend) error {
			return b.Rename(ctx, "/f", "/new", remote.RenameOptions{})
		},
		between: func(t *testing.T) func(remote.Backend) {
			return func(b remote.Backend) { _ = b.Remove(t.Context(), "/new", remote.RemoveOptions{Type: remote.File}) }
		},
	},
	{
		name: "rename, not replacing, then others make the target", wantNot: remote.Exist,
		change: func(ctx context.Context, b remote.Backend) error {
			return b.Rename(ctx, "/f", "/new", remote.RenameOptions{NoReplace: true})
		},
		between: func(t *testing.T) func(remote.Backend) {
			return func(b remote.Backend) {
				if _, err := b.Stat(t.Context(), "/new"); err != nil {
					put(t, b, "/new", "theirs")
				}
			}
		},
	},
	{
		name: "symlink",
		change: func(ctx context.Context, b remote.Backend) error {
			_, err := b.(remote.Symlinker).Symlink(ctx, "/new", "f")
			return err
		},
	},
	{
		name: "symlink, then others make another", want: remote.Exist, wantNot: remote.Exist,
		change: func(ctx context.Context, b remote.Backend) error {
			_, err := b.(remote.Symlinker).Symlink(ctx, "/new", "f")
			return err
		},
		between: func(t *testing.T) func(remote.Backend) {
			return func(b remote.Backend) {
				_ = b.Remove(t.Context(), "/new", remote.RemoveOptions{Type: remote.File})
				if _, err := b.(remote.Symlinker).Symlink(t.Context(), "/new", "theirs"); err != nil {
					t.Error(err)
				}
			}
		},
	},
	{
		name: "setattr",
		change: func(ctx context.Context, b remote.Backend) error {
			when := time.Unix(5, 0)
			_, err := b.(remote.AttrSetter).SetAttr(ctx, "/f", remote.Attrs{MTime: &when})
			return err
		},
	},
}

const xattr = memory.XattrPrefix + "name"

func setXattr(value string, mode remote.XattrMode) func(context.Context, remote.Backend) error {
	return func(ctx context.Context, b remote.Backend) error {
		return b.(remote.Xattrer).SetXattr(ctx, "/f", xattr, []byte(value), mode)
	}
}

// othersSet has others give the attribute another value meanwhile.
func othersSet(t *testing.T) func(remote.Backend) {
	return func(b remote.Backend) {
		if err := setXattr("theirs", remote.XattrAny)(t.Context(), b); err != nil {
			t.Error(err)
		}
	}
}

// attributeCases are changes of attributes and removals of trees.
var attributeCases = []settleCase{
	{name: "setxattr", change: setXattr("mine", remote.XattrAny)},
	{name: "create an attribute", change: setXattr("mine", remote.XattrCreate)},
	{name: "create an empty attribute", change: setXattr("", remote.XattrCreate)},
	{
		name: "create an attribute, then others set it", change: setXattr("mine", remote.XattrCreate),
		want: remote.Exist, wantNot: remote.Exist, between: othersSet,
	},
	{
		name: "create an attribute, then others remove the file", change: setXattr("mine", remote.XattrCreate),
		want: remote.NotExist, wantNot: remote.NotExist,
		between: func(t *testing.T) func(remote.Backend) {
			return func(b remote.Backend) {
				if err := b.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File}); err != nil {
					t.Error(err)
				}
			}
		},
	},
	{name: "replace an attribute that is not there", change: setXattr("mine", remote.XattrReplace), want: remote.NoXattr, wantNot: remote.NoXattr},
	{
		name: "replace an attribute", change: func(ctx context.Context, b remote.Backend) error {
			return b.(remote.Xattrer).SetXattr(ctx, "/other", xattr, []byte("mine"), remote.XattrReplace)
		},
	},
	{
		name: "remove an attribute", change: func(ctx context.Context, b remote.Backend) error {
			return b.(remote.Xattrer).RemoveXattr(ctx, "/other", xattr)
		},
	},
	{
		name: "remove an attribute that is not there", want: remote.NoXattr, wantNot: remote.Other,
		change: func(ctx context.Context, b remote.Backend) error {
			return b.(remote.Xattrer).RemoveXattr(ctx, "/f", xattr)
		},
	},
	{
		name: "remove a tree", change: func(ctx context.Context, b remote.Backend) error {
			return b.(remote.TreeRemover).RemoveTree(ctx, "/full")
		},
	},
	{
		name: "remove a file as a tree", want: remote.NotDir, wantNot: remote.NotDir,
		change: func(ctx context.Context, b remote.Backend) error {
			return b.(remote.TreeRemover).RemoveTree(ctx, "/f")
		},
	},
}

// TestSettle loses the first answer of each change, done or not, on servers with
// and without checksums.
func TestSettle(t *testing.T) {
	for _, c := range slices.Concat(settleCases, attributeCases) {
		for _, done := range []bool{true, false} {
			for _, sums := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) { c.run(t, done, sums) })
			}
		}
	}
}

func (c settleCase) run(t *testing.T, done, sums bool) {
	var between func(remote.Backend)
	if c.between != nil {
		between = c.between(t)
	}
	u := newUnlucky(t, memory.Options{Checksums: sums}, done, between)
	plant(t, u.below)
	want := c.want
	if !done {
		want = c.wantNot
	}
	if c.name == "mkdir, then others fill it" && !done {
		want = remote.Other // nobody could fill what was not there
	}
	err := c.change(t.Context(), u.Backend.(decorated))
	if want == remote.Other && err != nil {
		t.Errorf("%s (done %v): %v", c.name, done, err)
	}
	if want != remote.Other {
		wantKind(t, err, want)
	}
}

// decorated is what every decorator is.
type decorated interface {
	remote.Backend
	remote.AttrSetter
	remote.Symlinker
	attributed
}

// TestSettleSavesUploads wants a Put that has arrived not to be sent again, and its
// entry back.
func TestSettleSavesUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, sums := range []bool{true, false} {
			u := newUnlucky(t, memory.Options{Checksums: sums}, true, nil)
			data := remotetest.Pattern(3<<20+1, 1)
			e, err := u.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{})
			if err != nil || e.Size != int64(len(data)) || e.Path != "/f" || u.puts != 1 {
				t.Errorf("%d puts, %+v, %v", u.puts, e, err)
			}
		}
	})
}

// TestSettleConditions puts over a known version.
func TestSettleConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, text := range []string{"new!", "file"} { // "file" is what is there already
			for _, done := range []bool{true, false} {
				u := newUnlucky(t, memory.Options{}, done, nil)
				plant(t, u.below)
				base, err := u.below.Stat(t.Context(), "/f")
				if err != nil {
					t.Fatal(err)
				}
				e, err := u.Put(t.Context(), "/f", remotetest.Bytes([]byte(text)),
					remote.PutOptions{Cond: remote.Cond{Version: base.Version}})
				if err != nil || e.Version == base.Version || content(t, u, "/f") != text {
					t.Errorf("%q, done %v: %+v, %v", text, done, e, err)
				}
			}
		}
		u := newUnlucky(t, memory.Options{}, false, func(b remote.Backend) { put(t, b, "/f", "theirs") })
		plant(t, u.below)
		base, err := u.below.Stat(t.Context(), "/f")
		if err != nil {
			t.Fatal(err)
		}
		_, err = u.Put(t.Context(), "/f", remotetest.Bytes([]byte("mine")), remote.PutOptions{Cond: remote.Cond{Version: base.Version}})
		if e := wantKind(t, err, remote.Conflict); !e.Unsure {
			t.Error("it is not said that ours may have been there")
		}
		if got := content(t, u, "/f"); got != "theirs" {
			t.Errorf("the others' file holds %q", got)
		}
	})
}

// TestSettleLateArrival lets the first attempt arrive while the second is made.
func TestSettleLateArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below, attempt := memory.New(memory.Options{}), 0
		b := remote.Retry(remote.Intercept(below, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op != remote.OpPut {
				return next(ctx)
			}
			if attempt++; attempt == 1 {
				e := c.Fail(remote.Unavailable, nil)
				e.Unsure = true
				return e
			}
			put(t, below, "/f", "mine") // what the first attempt sent
			return next(ctx)
		}), remote.RetryOptions{})
		if _, err := b.Put(t.Context(), "/f", remotetest.Bytes([]byte("mine")), exclusive); err != nil {
			t.Error(err)
		}
	})
}

// TestSettleWeakChecksum has others' bytes with the weak checksum of ours: it must
// not pass for proof.
func TestSettleWeakChecksum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := []byte("mine")
		u := newUnlucky(t, memory.Options{}, false, func(b remote.Backend) { put(t, b, "/f", "your") })
		h := remote.NewHash("adler32")
		h.Write(ours)
		forged := remote.Checksum{Algorithm: "adler32", Hex: hex.EncodeToString(h.Sum(nil))}
		inner := u.Backend.(remote.Unwrapper).Unwrap()
		b := remote.Retry(remote.Intercept(inner, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			err := next(ctx)
			c.Entry.Checksum = forged
			return err
		}), remote.RetryOptions{})
		_, err := b.Put(t.Context(), "/f", remotetest.Bytes(ours), exclusive)
		wantKind(t, err, remote.Exist)
	})
}
