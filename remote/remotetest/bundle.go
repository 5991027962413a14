package remotetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// bundleChecks are about remote.Bundler; a backend without it passes.
var bundleChecks = []check{
	{"Bundle", checkBundle},
	{"BundleOld", checkBundleOld},
	{"BundleHalt", checkBundleHalt},
}

// bundler returns the Bundler, or false if there is nothing to check.
func (e *env) bundler() (remote.Bundler, bool) {
	e.Helper()
	b, ok := remote.As[remote.Bundler](e.b)
	if !ok || b.Bundles().Files <= 1 {
		e.Log("the backend can send nothing in bundles")
		return nil, false
	}
	if most := b.Bundles(); most.Bytes < most.Size || most.Size <= 0 {
		e.Errorf("bounds that contradict each other: %+v", most)
	}
	return b, true
}

// bundleOf returns the files of a directory, all wanted whose versions are proven, in an
// order that is not that of the listing.
func (e *env) bundleOf(dir string) []remote.BundleFile {
	e.Helper()
	var files []remote.BundleFile
	for _, f := range e.list(dir) {
		if f.Type == remote.File {
			files = append(files, remote.BundleFile{Ref: e.ref(f), Want: !f.Provisional})
		}
	}
	slices.SortFunc(files, func(a, b remote.BundleFile) int { return -cmp.Compare(a.Ref.Path, b.Ref.Path) })
	return files
}

func (e *env) ref(f remote.Entry) remote.Ref {
	return remote.Ref{Path: f.Path, Version: f.Version, Size: f.Size}
}

// proven waits until no version in a directory is provisional, and returns its files. It is
// false if that never is.
func (e *env) proven(dir string) ([]remote.BundleFile, bool) {
	e.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		files := e.bundleOf(dir)
		if !slices.ContainsFunc(files, func(f remote.BundleFile) bool { return !f.Want || f.Ref.Version == "" }) {
			return files, true
		}
	}
	e.Log("the versions are never proven")
	return nil, false
}

// unpack reads a bundle, and checks that what comes is of the files.
func (e *env) unpack(b remote.Bundler, dir string, files []remote.BundleFile, contents map[string][]byte) (came map[string]bool) {
	e.Helper()
	came = map[string]bool{}
	err := b.ReadBundle(e.ctx, dir, files, func(i int, data []byte) error {
		f := files[i]
		want, ok := contents[f.Ref.Path]
		switch {
		case came[f.Ref.Path]:
			e.Errorf("%q came twice", f.Ref.Path)
		case !f.Want:
			e.Errorf("%q came, which nobody wants", f.Ref.Path)
		case !ok || !bytes.Equal(data, want):
			e.Errorf("%q came with other bytes: %s", f.Ref.Path, difference(data, want))
		}
		came[f.Ref.Path] = true
		return nil
	})
	if err != nil {
		e.Errorf("bundle of %q: %v", dir, err)
	}
	return came
}

func checkBundle(e *env) {
	b, ok := e.bundler()
	if !ok {
		return
	}
	e.mkdir("/d")
	contents := map[string][]byte{"/d/empty": {}, "/d/large": Pattern(300_000, 9)}
	for i := range 30 {
		contents[fmt.Sprintf("/d/f%02d", i)] = Pattern(i*997, byte(i))
	}
	for _, name := range oddNames() {
		contents[remote.Join("/d", name)] = []byte("content of " + name)
	}
	for path, data := range contents {
		_, name := remote.Split(path)
		if _, err := e.b.Put(e.ctx, path, Bytes(data), remote.PutOptions{}); err != nil && !e.MayRefuse(name) {
			e.Fatalf("put %q: %v", path, err)
		} else if err != nil {
			delete(contents, path)
		}
	}
	files, ok := e.proven("/d")
	if !ok {
		return
	}
	came := e.unpack(b, "/d", files, contents)
	for path := range contents {
		if !came[path] {
			e.Errorf("%q did not come", path)
		}
	}
	for i := range files {
		files[i].Want = i%5 == 0
	}
	if came = e.unpack(b, "/d", files, contents); len(came) != (len(files)+4)/5 {
		e.Errorf("%d files came of %d", len(came), (len(files)+4)/5)
	}
}

// checkBundleOld wants nothing of a version that is no more.
func checkBundleOld(e *env) {
	b, ok := e.bundler()
	if !ok {
		return
	}
	e.mkdir("/d")
	contents := map[string][]byte{}
	for i := range 6 {
		path := fmt.Sprintf("/d/f%d", i)
		contents[path] = Pattern(100+i, byte(i))
		e.put(path, contents[path])
	}
	files := e.bundleOf("/d")
	for i := range files {
		files[i].Want = true
	}
	e.put("/d/f2", Pattern(102, 77)) // of the same size
	e.remove("/d/f3", remote.File)
	e.put("/d/f4", Pattern(5000, 78))
	e.put("/d/new", Pattern(100, 79))
	now := e.list("/d")
	delete(contents, "/d/f3")
	for _, f := range files { // what the server can tell apart must not come
		_, name := remote.Split(f.Ref.Path)
		if now[name].Version != f.Ref.Version {
			delete(contents, f.Ref.Path)
		}
	}
	e.unpack(b, "/d", files, contents)
	e.wantContent("/d/f2", Pattern(102, 77))
}

// checkBundleHalt ends a bundle by an error of its caller's.
func checkBundleHalt(e *env) {
	b, ok := e.bundler()
	if !ok {
		return
	}
	e.mkdir("/d")
	for i := range 4 {
		e.put(fmt.Sprintf("/d/f%d", i), Pattern(100, byte(i)))
	}
	files, ok := e.proven("/d")
	if !ok {
		return
	}
	stop, n := errors.New("stop"), 0
	if err := b.ReadBundle(e.ctx, "/d", files, func(int, []byte) error { n++; return stop }); err != stop || n != 1 {
		e.Errorf("the error of yield came back as %v, after %d files", err, n)
	}
	err := b.ReadBundle(e.ctx, "/none", []remote.BundleFile{{Ref: remote.Ref{Path: "/none/f", Version: "v", Size: 4}, Want: true}},
		func(int, []byte) error { e.Error("a file came of a directory that is not there"); return nil })
	if err != nil && remote.KindOf(err) != remote.NotExist && remote.KindOf(err) != remote.Unsupported {
		e.Errorf("bundle of nothing: %v", err)
	}
}
