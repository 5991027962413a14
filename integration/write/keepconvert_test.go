package write_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKeepConversion packs a tree of plain files and unpacks it again. What mounts show of
// it, and what unzip makes of it, stays as it was, byte by byte, with times and modes.
func TestKeepConversion(t *testing.T) {
	for _, kind := range []string{"nextcloud", "moddav"} { // zones cannot tell whether a file has changed that goes
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testConversion(t, startServer(t, kind))
		})
	}
}

func testConversion(t *testing.T, s *server) {
	plainTree(t, s)
	show := func(args ...string) tree {
		m := s.mounted(t, cacheDir(t), args...)
		defer m.MustUnmount(t)
		return treeIn(t, m)
	}
	before := show("--archive=off")
	packed(t, s)
	if archives, files := s.kept(t); archives < 4 || files != 1 {
		t.Errorf("the server has %d archives and %d plain files", archives, files)
	}
	compareFresh(t, before, show("--archive=keep"))
	for name, found := range s.unzipped(t) {
		dir := strings.TrimPrefix(filepath.Dir(name)+"/", "./")
		for member, e := range found {
			want, ok := before[dir+member]
			if member != ".meshmount.json" && (!ok || want.MTime != e.MTime || want.Mode != e.Mode || !bytes.Equal(want.Data, e.Data)) {
				t.Errorf("%s in %s is %v, and was %v", member, name, e, want)
			}
		}
	}
	must(t, convert(t, s, "unpack")...)
	if _, files := s.kept(t); files != 41 {
		t.Errorf("the server has %d plain files", files)
	}
	compareFresh(t, before, plain(show("--archive=off")))
}

// plainTree makes plain files in some directories.
func plainTree(t *testing.T, s *server) {
	t.Helper()
	m := s.mounted(t, cacheDir(t), "--written-times=exact", "--archive=off")
	for _, dir := range []string{"a", "a/b", "a/b/c", "empty"} {
		m.mkdir(t, dir)
	}
	for i := range 40 {
		name := []string{"", "a/", "a/b/", "a/b/c/"}[i%4] + []string{"plain", "\u00fc", "with space", ".hidden", "x.tar.gz"}[i%5] + fmt.Sprint(i)
		m.write(t, name, book(uint64(i), i*i*7))
		when := keepTime.Add(time.Duration(i) * time.Hour)
		if err := errors.Join(os.Chmod(m.path(name), fs.FileMode(0o600+i)), os.Chtimes(m.path(name), when, when)); err != nil {
			t.Fatal(err)
		}
	}
	m.write(t, "large", book(99, 2<<20))
	m.MustUnmount(t)
}
