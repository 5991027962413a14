package browse_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/browse"
	"github.com/meshmount/meshmount/remote/memory"
)

type ops = map[remote.Op]int

// many returns small files.
func many(n, size int) files {
	f := files{}
	for i := range n {
		f[fmt.Sprintf("d%d/f%04d", i%3, i)] = text(uint64(i), size)
	}
	return f
}

// TestCosts counts the calls that views cost, and those that they do not.
func TestCosts(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	w.put("/plain", []byte("x"))
	w.put("/a.zip", many(1000, 2000).zip(t, zip.Store))
	w.calls.took()
	w.stat("/plain")
	w.list("/")
	w.calls.expect(t, "what is in no view", ops{remote.OpStat: 1, remote.OpList: 1})
	w.list("/a.zip.d")
	w.calls.expect(t, "the first look", ops{remote.OpStat: 2, remote.OpRead: 1})
	all := w.list("/a.zip.d/d1")
	w.calls.expect(t, "the second look", ops{remote.OpStat: 2})
	if _, err := w.read(all["/a.zip.d/d1/f0301"]); err != nil {
		t.Fatal(err)
	}
	w.calls.expect(t, "a small member", ops{remote.OpRead: 1})
	if _, err := w.read(all["/a.zip.d/d1/f0301"]); err != nil {
		t.Fatal(err)
	}
	w.calls.expect(t, "the same again", ops{remote.OpRead: 1})
	for i := 1; i < 1000; i += 3 {
		e := all[fmt.Sprintf("/a.zip.d/d1/f%04d", i)]
		if got, err := w.read(e); err != nil || string(got) != text(uint64(i), 2000) {
			t.Fatalf("%s: %v", e.Path, err)
		}
	}
	if calls, n := w.calls.took(); calls[remote.OpRead] > 8 || n > 3<<20 {
		t.Errorf("333 members one after the other: %v, %d bytes", calls, n)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		i := random.IntN(333)*3 + 1
		if got, err := w.read(all[fmt.Sprintf("/a.zip.d/d1/f%04d", i)]); err != nil || string(got) != text(uint64(i), 2000) {
			t.Fatal(err)
		}
	}
	if _, n := w.calls.took(); n > 3<<20 {
		t.Errorf("50 members in no order: %d bytes", n)
	}
}

// TestOneReading has many look into an archive at the same time.
func TestOneReading(t *testing.T) {
	for name, data := range map[string][]byte{"/a.zip": many(3000, 10).zip(t, zip.Store), "/a.tar": many(3000, 10).tar(t)} {
		w := newWorld(t, memory.Options{}, browse.Options{})
		w.put(name, data)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%5 == 4 {
					cancel()
				}
				err := w.b.List(ctx, name+".d/d1", func(remote.Entry) error { return nil })
				if (err != nil) != (i%5 == 4) {
					t.Errorf("list: %v", err)
				}
			})
		}
		all.Wait()
		if calls, n := w.calls.took(); n > int64(len(data))+1<<20 {
			t.Errorf("%v, %d bytes of %d", calls, n, len(data))
		}
	}
}

// TestDisk looks into an archive in one process after the other.
func TestDisk(t *testing.T) {
	below := memory.New(memory.Options{})
	dir := filepath.Join(t.TempDir(), "indexes")
	opts := browse.Options{Dir: dir, Tree: "tree", Disk: 1 << 20}
	view := func(opts browse.Options) *world {
		w := &world{T: t, below: below, calls: count(below)}
		w.b = browse.Wrap(w.calls, opts) // below outlives it
		return w
	}
	sample := many(2000, 50)
	w := view(opts)
	w.put("/a.tar", sample.tar(t))
	w.list("/a.tar.d/d1")
	if calls, _ := w.calls.took(); calls[remote.OpRead] == 0 {
		t.Errorf("calls %v", calls)
	}
	w = view(opts)
	e := w.list("/a.tar.d/d1")["/a.tar.d/d1/f0301"]
	w.calls.expect(t, "the next mount", ops{remote.OpStat: 2})
	w = view(opts)
	if got, err := w.read(e); err != nil || string(got) != text(301, 50) {
		t.Error(err)
	}
	w.calls.expect(t, "a member that is known", ops{remote.OpStat: 1, remote.OpRead: 1})
	other := opts
	other.Tree = "other"
	w = view(other)
	w.list("/a.tar.d/d1")
	if calls, _ := w.calls.took(); calls[remote.OpRead] == 0 {
		t.Errorf("another tree: calls %v", calls)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("%d files, %v", len(kept), err)
	}
	for _, name := range kept {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{data[:len(data)/2], nil, append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1)} {
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			w = view(opts)
			if got := w.list("/a.tar.d/d1"); len(got) != 667 {
				t.Errorf("%d entries", len(got))
			}
		}
	}
	for i := range 30 { // about 70 KiB each
		w.put(fmt.Sprintf("/%d.tar", i), sample.tar(t))
		w.list(fmt.Sprintf("/%d.tar.d", i))
	}
	sum := int64(0)
	kept, _ = filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range kept {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if sum > opts.Disk || len(kept) < 2 || len(kept) > 25 {
		t.Errorf("%d files of %d bytes", len(kept), sum)
	}
	w.calls.took()
	w = view(opts)
	w.list("/29.tar.d")
	w.calls.expect(t, "the newest", ops{remote.OpStat: 2})
}

// TestMemory keeps few indexes, and reads the others again.
func TestMemory(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{Memory: 1})
	for _, name := range []string{"/a.zip", "/b.zip"} {
		w.put(name, many(10, 10).zip(t, zip.Store))
	}
	w.calls.took()
	for range 3 {
		w.list("/a.zip.d")
		w.list("/a.zip.d")
		w.list("/b.zip.d")
	}
	w.calls.expect(t, "two by turns", ops{remote.OpStat: 18, remote.OpRead: 6})
}

// TestInflate reads a large deflated member in and out of order, and by many at a time.
func TestInflate(t *testing.T) {
	w := newWorld(t, memory.Options{}, browse.Options{})
	content := text(5, 6<<20)
	f := files{"large": content}
	for i := range 6 {
		f[fmt.Sprintf("l%d", i)] = text(uint64(i), 1<<20+i+1)
	}
	w.put("/a.zip", f.zip(t, zip.Deflate))
	e := w.stat("/a.zip.d/large")
	w.calls.took()
	read := func(off int64, n int) {
		t.Helper()
		p := make([]byte, n)
		got, err := w.b.ReadAt(t.Context(), remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, off)
		want := content[min(off, e.Size):min(off+int64(n), e.Size)]
		if string(p[:got]) != want || err != nil && got == n {
			t.Errorf("%d bytes at %d: %d, %v", n, off, got, err)
		}
	}
	for off := int64(0); off < e.Size+1; off += 777_777 {
		read(off, 777_777)
	}
	_, once := w.calls.took()
	if once > e.Size*3/4 {
		t.Errorf("%d bytes moved", once)
	}
	var all sync.WaitGroup
	for i := range 24 { // as a reader ahead does
		all.Go(func() { read(int64(i)<<18, 1<<18) })
	}
	all.Wait()
	if _, n := w.calls.took(); n > 3*once {
		t.Errorf("%d bytes moved for %d", n, once)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 6 {
		read(random.Int64N(e.Size), 1+random.IntN(300_000))
	}
	for range 3 { // more members than streams
		for i := range 6 {
			all.Go(func() {
				e := w.stat(fmt.Sprintf("/a.zip.d/l%d", i))
				if got, err := w.read(e); err != nil || string(got) != f[fmt.Sprintf("l%d", i)] {
					t.Errorf("%s: %v", e.Path, err)
				}
			})
		}
	}
	all.Wait()
}

// TestBundle has members of a view, and files beside it, read in bundles.
func TestBundle(t *testing.T) {
	w := newWorld(t, memory.Options{Bundles: remote.Bundles{Files: 2000, Bytes: 32 << 20, Size: 1 << 20}}, browse.Options{})
	sample := many(600, 4000)
	data := sample.zip(t, zip.Deflate)
	torn := bytes.Index(data, []byte("PK\x03\x04")) // d0/f0000
	data[torn+100] ^= 0x55
	w.put("/a.zip", data)
	w.put("/plain", []byte("plain"))
	bundle := func(dir string, want func(path string) bool) map[string]string {
		t.Helper()
		var all []remote.BundleFile
		for _, e := range w.list(dir) {
			if e.Type == remote.File {
				all = append(all, remote.BundleFile{Ref: remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, Want: want(e.Path)})
			}
		}
		w.calls.took()
		got := map[string]string{}
		err := as[remote.Bundler](w).ReadBundle(t.Context(), dir, all, func(i int, data []byte) error {
			if path := all[i].Ref.Path; !want(path) || got[path] != "" {
				t.Errorf("%s came", path)
			}
			got[all[i].Ref.Path] = string(data)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := bundle("/a.zip.d/d0", func(path string) bool { return path != "/a.zip.d/d0/f0003" })
	if len(got) != 198 {
		t.Errorf("%d members came", len(got))
	}
	for i := 6; i < 600; i += 3 {
		if got[fmt.Sprintf("/a.zip.d/d0/f%04d", i)] != text(uint64(i), 4000) {
			t.Errorf("member %d is %d bytes", i, len(got[fmt.Sprintf("/a.zip.d/d0/f%04d", i)]))
		}
	}
	if calls, _ := w.calls.took(); calls[remote.OpRead] > 6 || calls[remote.OpReadBundle] > 0 {
		t.Errorf("calls %v", calls)
	}
	if got := bundle("/", func(path string) bool { return path == "/plain" }); len(got) != 1 || got["/plain"] != "plain" {
		t.Errorf("%d files came", len(got))
	}
	w.calls.expect(t, "a bundle of what is in no view", ops{remote.OpReadBundle: 1})
	halt := errors.New("halt")
	e := w.stat("/a.zip.d/d0/f0006")
	one := []remote.BundleFile{{Ref: remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, Want: true}}
	if err := as[remote.Bundler](w).ReadBundle(t.Context(), "/a.zip.d/d0", one, func(int, []byte) error { return halt }); err != halt {
		t.Errorf("error %v of a halted bundle", err)
	}
	w.put("/a.zip", sample.zip(t, zip.Store))
	for _, archive := range []string{"a", "b"} { // the second has nothing in memory
		if archive == "b" {
			w.b = browse.Wrap(w.calls, browse.Options{})
		}
		err := as[remote.Bundler](w).ReadBundle(t.Context(), "/a.zip.d/d0", one, func(int, []byte) error { return nil })
		if err != nil {
			w.wantKind("a bundle of the old version", err, remote.Changed)
		} else if archive == "b" {
			t.Error("a bundle of the old version came")
		}
	}
}
