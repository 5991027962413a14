package browse_test

import (
	"archive/zip"
	"context"
	"io"
	"slices"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/browse"
	"github.com/meshmount/meshmount/remote/memory"
)

// grown is a Growing that is complete.
type grown struct{ source }

func (g grown) ReadAt(p []byte, off int64) (int, error) { return copy(p, g.source[off:]), nil }
func (g grown) Wait(context.Context, int64) (int64, bool, error) {
	return int64(len(g.source)), true, nil
}
func (g grown) Attrs() remote.Attrs { return remote.Attrs{} }

func as[T any](w *world) T {
	w.Helper()
	x, ok := remote.As[T](w.b)
	if !ok {
		w.Fatalf("no %T", *new(T))
	}
	return x
}

// changes are all calls that change something at a path.
func changes(w *world) map[string]func(path string) error {
	ctx, b := w.Context(), w.b
	return map[string]func(string) error{
		"put": func(p string) error {
			_, err := b.Put(ctx, p, source("x"), remote.PutOptions{})
			return err
		},
		"remove":     func(p string) error { return b.Remove(ctx, p, remote.RemoveOptions{Type: remote.File}) },
		"rmdir":      func(p string) error { return b.Remove(ctx, p, remote.RemoveOptions{Type: remote.Dir}) },
		"rename":     func(p string) error { return b.Rename(ctx, p, "/elsewhere", remote.RenameOptions{}) },
		"rename to":  func(p string) error { return b.Rename(ctx, "/plain", p, remote.RenameOptions{}) },
		"removetree": func(p string) error { return as[remote.TreeRemover](w).RemoveTree(ctx, p) },
		"setattr": func(p string) error {
			mode := uint32(0o600)
			_, err := as[remote.AttrSetter](w).SetAttr(ctx, p, remote.Attrs{Mode: &mode})
			return err
		},
		"setxattr": func(p string) error {
			x := as[remote.Xattrer](w)
			return x.SetXattr(ctx, p, x.XattrPrefix()+"name", []byte("v"), remote.XattrAny)
		},
		"removexattr": func(p string) error {
			x := as[remote.Xattrer](w)
			return x.RemoveXattr(ctx, p, x.XattrPrefix()+"name")
		},
		"patch": func(p string) error {
			_, err := as[remote.Patcher](w).Patch(ctx, p, remote.Patch{Bytes: grown{}}, remote.PutOptions{Cond: remote.Cond{Version: "v"}})
			return err
		},
		"putgrowing": func(p string) error {
			_, err := as[remote.GrowingPutter](w).PutGrowing(ctx, p, grown{source("x")}, remote.PutOptions{})
			return err
		},
	}
}

// makers are all calls that make something new at a path.
func makers(w *world) map[string]func(path string) error {
	ctx, b := w.Context(), w.b
	fresh := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	return map[string]func(string) error{
		"mkdir": func(p string) error {
			_, err := b.Mkdir(ctx, p)
			return err
		},
		"symlink": func(p string) error {
			_, err := as[remote.Symlinker](w).Symlink(ctx, p, "x")
			return err
		},
		"put": func(p string) error {
			_, err := b.Put(ctx, p, source("x"), fresh)
			return err
		},
		"putgrowing": func(p string) error {
			_, err := as[remote.GrowingPutter](w).PutGrowing(ctx, p, grown{source("x")}, fresh)
			return err
		},
		"rename to": func(p string) error { return b.Rename(ctx, "/plain", p, remote.RenameOptions{NoReplace: true}) },
	}
}

// TestReadOnly tries every change in a view, and each of them beside it.
func TestReadOnly(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	w.put("/a.zip", sample.zip(t, zip.Store))
	w.put("/plain", []byte("x"))
	before := w.tree("/")
	for name, change := range changes(w) {
		for _, path := range []string{"/a.zip.d", "/a.zip.d/top", "/a.zip.d/dir", "/a.zip.d/dir/none"} {
			w.wantKind(name+" "+path, change(path), remote.ReadOnly)
		}
	}
	for name, make := range makers(w) {
		for _, path := range []string{"/a.zip.d", "/a.zip.d/top", "/a.zip.d/dir"} {
			w.wantKind(name+" "+path, make(path), remote.Exist)
		}
		w.wantKind(name, make("/a.zip.d/dir/none"), remote.ReadOnly)
	}
	if after := w.tree("/"); len(after) != len(before) || after["/plain"] != "x" {
		t.Errorf("%d files and not %d", len(after), len(before))
	}
	if calls, _ := w.calls.took(); calls[remote.OpPut]+calls[remote.OpRemove]+calls[remote.OpMkdir] > 0 {
		t.Errorf("calls %v", calls)
	}
	for name, make := range makers(w) {
		if err := make("/new " + name); err != nil {
			t.Errorf("%s beside a view: %v", name, err)
		}
	}
}

// TestBatch puts some files into a view, and the others where they belong.
func TestBatch(t *testing.T) {
	w := newWorld(t, memory.Options{Batches: remote.Batches{Files: 10, Bytes: 1 << 20, Size: 1 << 20, Parallel: 1}}, browse.Options{})
	w.put("/a.zip", sample.zip(t, zip.Store))
	batcher := as[remote.Batcher](w)
	put := func(paths ...string) []remote.BatchResult {
		t.Helper()
		var items []remote.BatchItem
		for _, p := range paths {
			items = append(items, remote.BatchItem{Path: p, Source: source(p)})
		}
		results, err := batcher.PutBatch(t.Context(), items)
		if err != nil || len(results) != len(paths) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		return results
	}
	results := put("/one", "/a.zip.d/new", "/two", "/a.zip.d/top", "/three.tar.d")
	for i, kind := range map[int]remote.Kind{1: remote.ReadOnly, 3: remote.Exist} {
		w.wantKind("batch", results[i].Err, kind)
	}
	for i, path := range map[int]string{0: "/one", 2: "/two", 4: "/three.tar.d"} {
		if results[i].Err != nil || results[i].Entry.Path != path {
			t.Errorf("item %d: %+v", i, results[i])
		} else if got := w.content(results[i].Entry); got != path {
			t.Errorf("%s holds %q", path, got)
		}
	}
	for _, r := range put("/a.zip.d/new", "/a.zip.d/newer") {
		w.wantKind("batch", r.Err, remote.ReadOnly)
	}
}

// TestAbilities asks for what is known of members besides their content.
func TestAbilities(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	w.put("/sub.tar", sample.tar(t))
	if _, err := w.b.Mkdir(t.Context(), "/dir"); err != nil {
		t.Fatal(err)
	}
	w.put("/dir/a.zip", sample.zip(t, zip.Store))
	xattrs, replicas, tracker := as[remote.Xattrer](w), as[remote.Replicator](w), as[remote.Tracker](w)
	for _, path := range []string{"/dir/a.zip.d", "/dir/a.zip.d/top"} {
		if all, err := xattrs.Xattrs(t.Context(), path); err != nil || len(all) != 0 {
			t.Errorf("xattrs of %s: %v, %v", path, all, err)
		}
	}
	_, err := xattrs.Xattrs(t.Context(), "/dir/a.zip.d/none")
	w.wantKind("xattrs of nothing", err, remote.NotExist)
	if all, err := replicas.Replicas(t.Context(), "/dir/a.zip.d/top"); err != nil || len(all) == 0 {
		t.Errorf("replicas: %v, %v", all, err)
	}
	_, err = replicas.Replicas(t.Context(), "/dir/a.zip.d/dir")
	w.wantKind("replicas of a directory", err, remote.IsDir)
	if url, of := as[remote.Locator](w).URL("/dir/a.zip.d/dir/empty"), as[remote.Locator](w).URL("/dir/a.zip"); url != of+"#dir/empty" {
		t.Errorf("URL %s", url)
	}
	if sweeper := as[remote.Sweeper](w); sweeper.Sweep(t.Context(), "/dir/a.zip.d/top", 1, func(string) bool { return true }) != nil {
		t.Error("sweep failed")
	}
	ask := func(dir, mark string) remote.Changes {
		t.Helper()
		c, err := tracker.Changed(t.Context(), dir, mark)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mark := ask("/dir/a.zip.d/dir", "").Mark
	if c := ask("/dir/a.zip.d/dir", mark); c.All || len(c.Dirs) > 0 {
		t.Errorf("changes %+v of nothing", c)
	}
	w.put("/dir/a.zip", files{"dir/x": "y"}.zip(t, zip.Store))
	if c := ask("/dir/a.zip.d/dir", mark); !c.All {
		t.Errorf("changes %+v of another archive", c)
	}
	_, err = tracker.Changed(t.Context(), "/dir/a.zip.d/implied", mark)
	w.wantKind("changes of nothing", err, remote.NotExist)
	if c := ask("/", mark); c.All || !slices.Contains(c.Dirs, "/dir") {
		t.Errorf("changes %+v of the whole tree", c)
	}
}

// TestNoOpener opens members where the backend below cannot open at all.
func TestNoOpener(t *testing.T) {
	b := browse.Wrap(struct{ remote.Backend }{memory.New(memory.Options{})}, browse.Options{})
	defer func() { _ = b.Close() }()
	if _, ok := remote.As[remote.Opener](b); ok {
		t.Error("an ability came from nowhere")
	}
	if _, err := b.Put(t.Context(), "/a.tar", source(files{"x": "content"}.tar(t)), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	if n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/a.tar.d/x", Size: -1}, p, 0); n != 7 || err != io.EOF || string(p[:n]) != "content" {
		t.Errorf("%q, %v", p[:n], err)
	}
}
