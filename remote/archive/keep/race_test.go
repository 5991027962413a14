package keep_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// before returns a client that calls f before each Put whose path's last part is wanted.
func (b *bed) before(wanted func(name string) bool, f func()) *keep.Backend {
	return keep.Wrap(remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if _, name := remote.Split(c.Path); c.Op == remote.OpPut && wanted(name) {
			f()
		}
		return next(ctx)
	}), keep.Options{})
}

// TestOneNameInOneSecond has two clients make the same names in one second of the server's
// clock: the one who began first is the second to store. What the other was told to be his
// stays his.
func TestOneNameInOneSecond(t *testing.T) {
	b, _ := clocked(t)
	var meanwhile sync.Once
	first := b.client()
	late := b.before(archive.Hidden, func() {
		meanwhile.Do(func() { b.batch(first, map[string]string{"/d/a": "one", "/d/b": "one, too"}) })
	})
	got, err := late.PutBatch(t.Context(), items(map[string]string{"/d/a": "two", "/d/b": "two, too", "/d/c": "free"}))
	if err != nil || got[2].Err != nil {
		t.Fatal(err, got[2].Err)
	}
	wantKind(t, got[0].Err, remote.Exist)
	wantKind(t, got[1].Err, remote.Exist)
	want := map[string]string{"/d/a": "one", "/d/b": "one, too", "/d/c": "free"}
	b.wantTree(first, want)
	b.wantTree(b.client(), want)
}

// TestUnpackBringsNothingBack removes, renames and overwrites members of a directory that
// somebody else has begun to unpack.
func TestUnpackBringsNothingBack(t *testing.T) {
	b := newBed(t)
	files := map[string]string{}
	for i := range 60 {
		files[fmt.Sprintf("/d/f%02d", i)] = fmt.Sprint("content ", i)
	}
	b.batch(b.client(), files)
	other := b.client()
	want := maps.Clone(files)
	var meanwhile sync.Once
	k := b.before(func(name string) bool { return strings.HasPrefix(name, "f") }, func() {
		meanwhile.Do(func() {
			b.removeAll(other, "/d/f57")
			delete(want, "/d/f57")
			if err := other.Rename(t.Context(), "/d/f58", "/d/renamed", remote.RenameOptions{}); err != nil {
				t.Error(err)
			}
			delete(want, "/d/f58")
			want["/d/renamed"] = files["/d/f58"]
			cond := remote.Cond{Version: version(t, other, "/d/f59")}
			e, err := other.Put(t.Context(), "/d/f59", remotetest.Bytes([]byte("new")), remote.PutOptions{Cond: cond})
			if err == nil {
				err = other.Remove(t.Context(), "/d/f59", remote.RemoveOptions{Type: remote.File, Version: e.Version})
			}
			if err != nil {
				t.Error(err)
			}
			delete(want, "/d/f59")
		})
	})
	done, err := k.Unpack(t.Context(), "/d")
	if err != nil || done.Files != 57 || len(done.Left) > 0 {
		t.Errorf("%+v, %v", done, err)
	}
	b.wantTree(b.client(), want)
}

// TestOverwrittenBefore repeats an overwriting whose outcome its caller does not know, while
// the server cannot be read: nothing is known of it then either.
func TestOverwrittenBefore(t *testing.T) {
	b := newBed(t)
	b.batch(b.client(), three)
	old := version(t, b.client(), "/d/a")
	b.put(b.server, "/d/a", "changed") // an attempt that died before the tombstone
	down := true
	k := keep.Wrap(remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op == remote.OpRead && c.Path == "/d/a" && down {
			down = false
			return c.Fail(remote.Unavailable, nil)
		}
		return next(ctx)
	}), keep.Options{})
	again := func() error {
		_, err := k.Put(t.Context(), "/d/a", remotetest.Bytes([]byte("changed")), remote.PutOptions{Cond: remote.Cond{Version: old}, Redo: true})
		return err
	}
	wantKind(t, again(), remote.Unavailable)
	if err := again(); err != nil {
		t.Error(err)
	}
	b.wantTree(b.client(), map[string]string{"/d/a": "changed", "/d/b": "beta", "/d/c": ""})
}

// TestNeverAbsent reads and looks at a member that becomes a plain file between the looks at
// the two places where it may be: it is there all the time.
func TestNeverAbsent(t *testing.T) {
	for _, op := range []remote.Op{remote.OpRead, remote.OpStat} {
		for _, seen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%v", op, seen), func(t *testing.T) {
				b := newBed(t)
				b.batch(b.client(), three)
				other := b.client()
				var armed bool
				k := keep.Wrap(remote.Intercept(b.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
					err := next(ctx)
					if armed && c.Op == op && c.Path == "/d/a" {
						armed = false
						if _, err := other.Put(ctx, "/d/a", remotetest.Bytes([]byte("plain")), remote.PutOptions{}); err != nil {
							t.Error(err)
						}
					}
					return err
				}), keep.Options{})
				if seen {
					_ = tree(t, k, "/d")
				}
				armed = true
				p := make([]byte, 100)
				switch op {
				case remote.OpRead:
					if n, err := k.ReadAt(t.Context(), remote.Ref{Path: "/d/a", Size: -1}, p, 0); string(p[:n]) != "plain" {
						t.Errorf("%q, %v", p[:n], err)
					}
				default:
					if e, err := k.Stat(t.Context(), "/d/a"); err != nil || e.Size != 5 {
						t.Errorf("%+v, %v", e, err)
					}
				}
				if armed {
					t.Error("nothing happened between the looks")
				}
			})
		}
	}
}
