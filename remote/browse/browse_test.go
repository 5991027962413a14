package browse_test

import (
	"archive/zip"
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/browse"
	"github.com/meshmount/meshmount/remote/memory"
)

var sample = files{
	"top": "content", "dir/": "", "dir/empty": "", "dir/sub/deep": text(1, 5000), "dir/sub/wide": text(2, 3<<20),
	"implied/file": text(3, 100_000), "implied/link->../top": "",
}

// shown is what a view of sample shows.
func (f files) shown(root string) map[string]string {
	all := map[string]string{}
	for name, content := range f {
		link, target, isLink := strings.Cut(name, "->")
		switch {
		case isLink:
			all[root+"/"+link] = "-> " + target
		case !strings.HasSuffix(name, "/"):
			all[root+"/"+name] = content
		}
	}
	return all
}

// TestViews walks views of all kinds of archives.
func TestViews(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	w.put("/a.tar", sample.tar(t))
	w.put("/b.zip", sample.zip(t, zip.Store))
	w.put("/C.ZIP", sample.zip(t, zip.Deflate))
	w.put("/d.tar.gz", []byte("not by ranges"))
	w.put("/.zip", []byte("no name"))
	all := w.wantNames("/", "/a.tar", "/a.tar.d", "/b.zip", "/b.zip.d", "/C.ZIP", "/C.ZIP.d", "/d.tar.gz", "/.zip")
	for _, root := range []string{"/a.tar.d", "/b.zip.d", "/C.ZIP.d"} {
		if e := all[root]; e.Type != remote.Dir || e != w.stat(root) || e.ID == "" || e.Version == "" || e.Mode != 0o555 {
			t.Errorf("%s is %+v", root, e)
		}
		if got := w.tree(root); !maps.Equal(got, sample.shown(root)) {
			t.Errorf("%s is not what was packed: %d files", root, len(got))
		}
		w.wantNames(root, root+"/top", root+"/dir", root+"/implied")
		e := w.stat(root + "/dir/sub/deep")
		if !e.MTime.Equal(stamp) || e.Mode != 0o554 || !e.ModeKnown || e.Access.Can(remote.AccessWrite) || !e.Access.Can(remote.AccessRead) {
			t.Errorf("a member is %+v", e)
		}
		for _, none := range []string{"/none", "/top/below", "/dir/none", "/di"} {
			_, err := w.b.Stat(t.Context(), root+none)
			w.wantKind("stat of "+none, err, remote.NotExist)
		}
		_, err := w.read(remote.Entry{Path: root + "/dir", Size: 1})
		w.wantKind("read of a directory", err, remote.IsDir)
		err = w.b.List(t.Context(), root+"/top", func(remote.Entry) error { return nil })
		w.wantKind("list of a file", err, remote.NotDir)
		err = w.b.List(t.Context(), root+"/none", func(remote.Entry) error { return nil })
		w.wantKind("list of nothing", err, remote.NotExist)
	}
}

// TestRealWins wants what has the name of a view on the server to hide it.
func TestRealWins(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	w.put("/a.tar", sample.tar(t))
	w.put("/b.tar", sample.tar(t))
	w.put("/b.tar.d", []byte("real file"))
	if _, err := w.b.Mkdir(t.Context(), "/c.zip.d"); err != nil {
		t.Fatal(err)
	}
	w.put("/c.zip", sample.zip(t, zip.Store))
	w.put("/c.zip.d/inner.tar", sample.tar(t))
	if _, err := w.b.Mkdir(t.Context(), "/d.tar"); err != nil {
		t.Fatal(err)
	}
	w.wantNames("/", "/a.tar", "/a.tar.d", "/b.tar", "/b.tar.d", "/c.zip", "/c.zip.d", "/d.tar")
	w.wantNames("/c.zip.d", "/c.zip.d/inner.tar", "/c.zip.d/inner.tar.d")
	if got := w.tree("/c.zip.d/inner.tar.d"); !maps.Equal(got, sample.shown("/c.zip.d/inner.tar.d")) {
		t.Errorf("%d files in a view in a real directory", len(got))
	}
	if got := w.content(w.stat("/b.tar.d")); got != "real file" {
		t.Errorf("read %q", got)
	}
	for _, path := range []string{"/d.tar.d", "/c.zip.d/top", "/none.tar.d", "/none.tar.d/top", "/a.tar.d/x.zip.d"} {
		_, err := w.b.Stat(t.Context(), path)
		w.wantKind("stat "+path, err, remote.NotExist)
	}
	if _, err := w.b.Put(t.Context(), "/c.zip.d/new", source("x"), remote.PutOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := w.b.Mkdir(t.Context(), "/none.tar.d"); err != nil {
		t.Error(err)
	}
	var halt = errors.New("halt")
	for _, last := range []string{"/a.tar.d", "/a.tar"} {
		err := w.b.List(t.Context(), "/", func(e remote.Entry) error {
			if e.Path == last {
				return halt
			}
			return nil
		})
		if err != halt {
			t.Errorf("error %v of a halted listing", err)
		}
	}
	if err := w.b.List(t.Context(), "/a.tar.d", func(remote.Entry) error { return halt }); err != halt {
		t.Errorf("error %v of a halted listing of a view", err)
	}
}

// TestVersions replaces an archive: what is pinned fails, and nothing else is what it was.
func TestVersions(t *testing.T) {
	for name, opts := range map[string]browse.Options{"Memory": {}, "Disk": {Dir: t.TempDir()}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, memory.Options{}, opts)
			w.put("/a.zip", sample.zip(t, zip.Store))
			dir, old, wide := w.stat("/a.zip.d/dir"), w.stat("/a.zip.d/top"), w.stat("/a.zip.d/dir/sub/wide")
			if again := w.stat("/a.zip.d/top"); again != old {
				t.Errorf("%+v and %+v", old, again)
			}
			if _, err := w.read(old); err != nil {
				t.Error(err)
			}
			w.put("/a.zip", files{"top": "CONTENT", "dir/new": "new"}.zip(t, zip.Store))
			_, err := w.read(wide)
			w.wantKind("read of the old version", err, remote.Changed)
			newDir, top := w.stat("/a.zip.d/dir"), w.stat("/a.zip.d/top")
			if newDir.Version == dir.Version || newDir.ID == dir.ID || top.Version == old.Version {
				t.Errorf("%+v, %+v: a version or identity has not changed", newDir, top)
			}
			if got := w.tree("/a.zip.d"); !maps.Equal(got, map[string]string{"/a.zip.d/top": "CONTENT", "/a.zip.d/dir/new": "new"}) {
				t.Errorf("the new archive shows %v", got)
			}
			for _, bad := range []string{"archive-member:", "archive-member:8:0-7-0:" + top.Version, "archive-member:1:0:x", strings.Replace(top.Version, ":8:", ":8:1", 1)} {
				_, err := w.b.ReadAt(t.Context(), remote.Ref{Path: top.Path, Version: bad, Size: -1}, make([]byte, 1), 0)
				w.wantKind("read of version "+bad, err, remote.Changed)
			}
			if err := w.below.Remove(t.Context(), "/a.zip", remote.RemoveOptions{Type: remote.File}); err != nil {
				t.Fatal(err)
			}
			_, err = w.b.Stat(t.Context(), top.Path)
			w.wantKind("stat without an archive", err, remote.NotExist)
		})
	}
}

// TestProvisional puts an archive of the same version twice: the index of the first is not
// used for ever.
func TestProvisional(t *testing.T) {
	w := newWorld(t, memory.Options{WeakVersions: true, Granularity: 3600e9}, browse.Options{Dir: t.TempDir()})
	w.put("/a.zip", files{"one": "1", "link->one": ""}.zip(t, zip.Store))
	e := w.stat("/a.zip.d/one")
	if root := w.stat("/a.zip.d"); !e.Provisional || !root.Provisional || root.ID != "" {
		t.Errorf("%+v in %+v is not provisional", e, root)
	}
	w.put("/a.zip", files{"two": "2", "link->two": ""}.zip(t, zip.Store))
	eventually(t, func() bool {
		_, err := w.b.Stat(t.Context(), "/a.zip.d/two")
		return err == nil
	})
	if _, err := w.b.Stat(t.Context(), "/a.zip.d/one"); !errors.Is(err, remote.NotExist) {
		t.Errorf("the member of before: %v", err)
	}
}

// TestDamaged looks into archives that are none, and at members that cannot be read.
func TestDamaged(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	w.put("/bad.tar", []byte(text(9, 3000)))
	w.put("/bad.zip", []byte(text(9, 3000)))
	w.wantNames("/", "/bad.tar", "/bad.tar.d", "/bad.zip", "/bad.zip.d")
	for _, root := range []string{"/bad.tar.d", "/bad.zip.d"} {
		for range 2 { // it is not read again to find the same
			err := w.b.List(t.Context(), root, func(remote.Entry) error { return nil })
			w.wantKind("list "+root, err, remote.Corrupt)
		}
		_, err := w.b.Stat(t.Context(), root+"/x")
		w.wantKind("stat in "+root, err, remote.Corrupt)
	}
	if calls, _ := w.calls.took(); calls[remote.OpRead] != 2 {
		t.Errorf("calls %v", calls)
	}
	data := files{"a": "some content", "b": "more"}.zip(t, zip.Deflate)
	encrypted := strings.Index(string(data), "PK\x01\x02")
	data[encrypted+8] |= 1
	torn := strings.LastIndex(string(data), "PK\x03\x04")
	data[torn+30+1+9+2] ^= 0x55
	w.put("/c.zip", data)
	_, err := w.read(w.stat("/c.zip.d/a"))
	w.wantKind("read of an encrypted member", err, remote.Unsupported)
	if err == nil || !strings.Contains(err.Error(), "encrypted") {
		t.Errorf("error %v", err)
	}
	_, err = w.read(w.stat("/c.zip.d/b"))
	w.wantKind("read of a damaged member", err, remote.Corrupt)
	over := files{"a": "some content", "b": text(1, 3000)}.zip(t, zip.Store)
	header := strings.LastIndex(string(over), "PK\x03\x04")
	over[header+28], over[header+29] = 0xc0, 0x00 // a header of 192 bytes more
	w.put("/over.zip", over)
	for off := int64(0); off < 3000; off += 1000 {
		e := w.stat("/over.zip.d/b")
		_, err = w.b.ReadAt(t.Context(), remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, make([]byte, 1000), off)
		w.wantKind("read of a member that reaches over the end", err, remote.Corrupt)
	}
	w.put("/none.tar", nil)
	w.wantNames("/none.tar.d")
}

// TestClosed wants nothing to be served after Close, and nothing to a context that has ended.
func TestClosed(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	w.put("/a.zip", sample.zip(t, zip.Deflate))
	top, wide := w.stat("/a.zip.d/top"), w.stat("/a.zip.d/dir/sub/wide")
	if got := w.content(wide); got != sample["dir/sub/wide"] {
		t.Error("content differs")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, e := range []remote.Entry{top, wide} {
		if _, err := w.b.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
			t.Errorf("read of %s: %v", e.Path, err)
		}
	}
	if err := w.b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, e := range []remote.Entry{top, wide} {
		_, err := w.read(e)
		w.wantKind("read after Close", err, remote.BadHandle)
	}
	_, err := w.b.Stat(t.Context(), "/a.zip.d")
	w.wantKind("stat after Close", err, remote.BadHandle)
}
