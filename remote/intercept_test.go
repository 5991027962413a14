package remote_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

func passOn(ctx context.Context, _ *remote.Call, next remote.Next) error { return next(ctx) }

func put(t *testing.T, b remote.Backend, path, content string) remote.Entry {
	t.Helper()
	e, err := b.Put(t.Context(), path, remotetest.Bytes([]byte(content)), remote.PutOptions{})
	if err != nil {
		t.Fatalf("put %s: %v", path, err)
	}
	return e
}

func wantKind(t *testing.T, err error, kind remote.Kind) *remote.Error {
	t.Helper()
	var e *remote.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("error %v, want one of kind %v", err, kind)
		return &remote.Error{}
	}
	return e
}

// callAll makes one successful call of each operation, in the order of the result.
func callAll(t *testing.T, b remote.Backend) []remote.Op {
	t.Helper()
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	put(t, b, "/f", "hello")
	_, err := b.Stat(ctx, "/f")
	check(err)
	check(b.List(ctx, "/", func(remote.Entry) error { return nil }))
	n, err := b.ReadAt(ctx, remote.Ref{Path: "/f", Size: -1}, make([]byte, 10), 0)
	if n != 5 || err != io.EOF {
		t.Errorf("read %d bytes, %v", n, err)
	}
	_, err = b.Mkdir(ctx, "/d")
	check(err)
	check(b.Rename(ctx, "/d", "/e", remote.RenameOptions{}))
	check(b.Remove(ctx, "/e", remote.RemoveOptions{Type: remote.Dir}))
	when := time.Unix(1, 0)
	setter, _ := remote.As[remote.AttrSetter](b)
	_, err = setter.SetAttr(ctx, "/f", remote.Attrs{MTime: &when})
	check(err)
	linker, _ := remote.As[remote.Symlinker](b)
	_, err = linker.Symlink(ctx, "/l", "f")
	check(err)
	usager, _ := remote.As[remote.Usager](b)
	_, err = usager.Usage(ctx)
	check(err)
	opener, _ := remote.As[remote.Opener](b)
	r, err := opener.Open(ctx, remote.Ref{Path: "/f", Size: -1})
	check(err)
	got, err := io.ReadAll(r)
	check(err)
	if string(got) != "hello" {
		t.Errorf("the stream gave %q", got)
	}
	check(r.Close())
	callXattrs(t, b)
	callGrowing(t, b)
	sweeper, _ := remote.As[remote.Sweeper](b)
	check(sweeper.Sweep(t.Context(), "/f", 1, func(string) bool { return true }))
	batcher, _ := remote.As[remote.Batcher](b)
	_, err = batcher.PutBatch(t.Context(), []remote.BatchItem{{Path: "/batched", Source: remotetest.Bytes([]byte("b"))}})
	check(err)
	callBundle(t, b)
	_, err = b.Mkdir(t.Context(), "/pruned")
	check(err)
	pruner, _ := remote.As[remote.Pruner](b)
	foreseer, _ := remote.As[remote.Foreseer](b)
	check(foreseer.Foresee(t.Context(), "/pruned"))
	check(pruner.Prune(t.Context(), "/pruned", nil))
	dresser, _ := remote.As[remote.AttrBatcher](b)
	_, err = dresser.SetAttrBatch(t.Context(), []remote.AttrItem{{Path: "/batched"}})
	check(err)
	return []remote.Op{remote.OpPut, remote.OpStat, remote.OpList, remote.OpRead, remote.OpMkdir, remote.OpRename,
		remote.OpRemove, remote.OpSetAttr, remote.OpSymlink, remote.OpUsage, remote.OpOpen, remote.OpStream, remote.OpStream,
		remote.OpSetXattr, remote.OpXattrs, remote.OpRemoveXattr, remote.OpReplicas, remote.OpMkdir, remote.OpRemoveTree,
		remote.OpChanged, remote.OpChanged, remote.OpPutGrowing, remote.OpPatch, remote.OpSweep, remote.OpPutBatch, remote.OpStat, remote.OpReadBundle,
		remote.OpMkdir, remote.OpForesee, remote.OpPrune, remote.OpSetAttrBatch}
}

// callBundle is the part of callAll about bundles.
func callBundle(t *testing.T, b remote.Backend) {
	t.Helper()
	e, err := b.Stat(t.Context(), "/f")
	if err != nil {
		t.Error(err)
	}
	bundler, _ := remote.As[remote.Bundler](b)
	files := []remote.BundleFile{{Ref: remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, Want: true}}
	if err := bundler.ReadBundle(t.Context(), "/", files, func(int, []byte) error { return nil }); err != nil {
		t.Error(err)
	}
}

// callXattrs is the part of callAll about attributes, replicas and trees.
func callXattrs(t *testing.T, b remote.Backend) {
	t.Helper()
	x, _ := remote.As[remote.Xattrer](b)
	name := x.XattrPrefix() + "name"
	if err := x.SetXattr(t.Context(), "/f", name, []byte("value"), remote.XattrCreate); err != nil {
		t.Error(err)
	}
	if all, err := x.Xattrs(t.Context(), "/f"); err != nil || len(all) != 1 || string(all[name]) != "value" {
		t.Errorf("the attributes are %q, %v", all, err)
	}
	if err := x.RemoveXattr(t.Context(), "/f", name); err != nil {
		t.Error(err)
	}
	r, _ := remote.As[remote.Replicator](b)
	if all, err := r.Replicas(t.Context(), "/f"); err != nil || len(all) != 1 || all[0].Resource != "memory" {
		t.Errorf("the replicas are %+v, %v", all, err)
	}
	if _, err := b.Mkdir(t.Context(), "/t"); err != nil {
		t.Error(err)
	}
	trees, _ := remote.As[remote.TreeRemover](b)
	if err := trees.RemoveTree(t.Context(), "/t"); err != nil {
		t.Error(err)
	}
	tracker, _ := remote.As[remote.Tracker](b)
	first, err := tracker.Changed(t.Context(), "/", "")
	if err != nil || first.Mark == "" {
		t.Errorf("the first mark is %+v, %v", first, err)
	}
	if c, err := tracker.Changed(t.Context(), "/", first.Mark); err != nil || c.All || len(c.Dirs) > 0 {
		t.Errorf("without a change, the changes are %+v, %v", c, err)
	}
}

func TestInterceptSeesAll(t *testing.T) {
	var begun, ended []remote.Op
	b := remote.Intercept(memory.New(memory.Options{}), func(ctx context.Context, c *remote.Call, next remote.Next) error {
		begun = append(begun, c.Op)
		c.Defer(func() { ended = append(ended, c.Op) })
		return next(ctx)
	})
	want := callAll(t, b)
	if !slices.Equal(begun, want) {
		t.Errorf("calls begun %v, want %v", begun, want)
	}
	// The Open is over last, when its stream is closed.
	n := slices.Index(want, remote.OpOpen)
	wantEnded := slices.Clone(want)
	copy(wantEnded[n:], []remote.Op{remote.OpStream, remote.OpStream, remote.OpOpen})
	if !slices.Equal(ended, wantEnded) {
		t.Errorf("calls ended %v, want %v", ended, wantEnded)
	}
	for _, op := range remote.Ops() {
		if !slices.Contains(begun, op) {
			t.Errorf("%s is not tested", op)
		}
	}
}

func TestInterceptErrors(t *testing.T) {
	refuse := false
	mine := &remote.Error{Op: "x", Kind: remote.Locked}
	b := remote.Intercept(memory.New(memory.Options{}), func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if refuse {
			return mine
		}
		if err := next(ctx); err != nil {
			return fmt.Errorf("seen: %w", err)
		}
		return nil
	})
	put(t, b, "/f", "x")
	stop := errors.New("stop")
	if err := b.List(t.Context(), "/", func(remote.Entry) error { return stop }); err != stop {
		t.Errorf("the error of yield came back as %v", err)
	}
	_, err := b.Stat(t.Context(), "/none")
	wantKind(t, err, remote.NotExist)
	refuse = true
	if e, err := b.Mkdir(t.Context(), "/d"); err != mine || e != (remote.Entry{}) {
		t.Errorf("a refused call returned %+v, %v", e, err)
	}
}

// TestAbilities wants that a decorator neither hides nor invents an ability.
func TestAbilities(t *testing.T) {
	full, bare := stack(memory.New(memory.Options{})), stack(struct{ remote.Backend }{memory.New(memory.Options{})})
	defer full.Close()
	defer bare.Close()
	if _, ok := remote.As[remote.Opener](full); !ok {
		t.Error("an ability is hidden")
	}
	if l, ok := remote.As[remote.Locator](full); !ok || l.URL("/a b") != "memory:///a%20b" {
		t.Error("Locator does not pass through")
	}
	if _, ok := remote.As[remote.AttrSetter](bare); ok {
		t.Error("an ability is invented")
	}
	direct := bare.(interface {
		remote.AttrSetter
		remote.Symlinker
		remote.Opener
		remote.Usager
		remote.Locator
		attributed
	})
	wantUnsupported(t, direct)
	_, err := direct.SetAttr(t.Context(), "/", remote.Attrs{})
	wantKind(t, err, remote.Unsupported)
	_, err = direct.Symlink(t.Context(), "/l", "x")
	wantKind(t, err, remote.Unsupported)
	_, err = direct.Open(t.Context(), remote.Ref{Path: "/"})
	wantKind(t, err, remote.Unsupported)
	_, err = direct.Usage(t.Context())
	wantKind(t, err, remote.Unsupported)
	if got := direct.URL("/"); got != "" {
		t.Errorf("URL of nothing is %q", got)
	}
}

// attributed are the abilities beside the tree and its contents.
type attributed interface {
	remote.Xattrer
	remote.Replicator
	remote.TreeRemover
	remote.Tracker
	remote.GrowingPutter
	remote.Patcher
	remote.Sweeper
	remote.Batcher
	remote.Bundler
	remote.Pruner
	remote.Foreseer
	remote.AttrBatcher
}

// wantUnsupported calls abilities that are not there.
func wantUnsupported(t *testing.T, b attributed) {
	t.Helper()
	if got := b.XattrPrefix(); got != "" {
		t.Errorf("the prefix of nothing is %q", got)
	}
	_, err := b.Xattrs(t.Context(), "/")
	wantKind(t, err, remote.Unsupported)
	wantKind(t, b.SetXattr(t.Context(), "/", "user.x", nil, remote.XattrAny), remote.Unsupported)
	wantKind(t, b.RemoveXattr(t.Context(), "/", "user.x"), remote.Unsupported)
	_, err = b.Replicas(t.Context(), "/f")
	wantKind(t, err, remote.Unsupported)
	wantKind(t, b.RemoveTree(t.Context(), "/d"), remote.Unsupported)
	_, err = b.Changed(t.Context(), "/", "")
	wantKind(t, err, remote.Unsupported)
	_, err = b.PutGrowing(t.Context(), "/f", remotetest.Grown(nil, remote.Attrs{}), remote.PutOptions{})
	wantKind(t, err, remote.Unsupported)
	_, err = b.Patch(t.Context(), "/f", remote.Patch{}, remote.PutOptions{Cond: remote.Cond{Version: "v"}})
	wantKind(t, err, remote.Unsupported)
	wantKind(t, b.Sweep(t.Context(), "/f", 1, nil), remote.Unsupported)
	_, err = b.PutBatch(t.Context(), nil)
	wantKind(t, err, remote.Unsupported)
	wantKind(t, b.ReadBundle(t.Context(), "/", nil, nil), remote.Unsupported)
	if got := b.Bundles(); got != (remote.Bundles{}) {
		t.Errorf("bundles of %+v", got)
	}
	if got := b.Batches(); got != (remote.Batches{}) {
		t.Errorf("batches of %+v", got)
	}
	_, err = b.SetAttrBatch(t.Context(), nil)
	wantKind(t, err, remote.Unsupported)
	if got := b.AttrBatches(); got != 0 {
		t.Errorf("batches of %d attributes", got)
	}
	wantKind(t, b.Prune(t.Context(), "/d", nil), remote.Unsupported)
	if b.Prunes() {
		t.Error("what cannot prune says that it does")
	}
	wantKind(t, b.Foresee(t.Context(), "/d"), remote.Unsupported)
	if b.Foresees() {
		t.Error("what cannot look ahead says that it does")
	}
}
