package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// writtenWorld makes a world whose server is a directory, and a place in it.
func writtenWorld(t *testing.T) (*world, *target) {
	t.Helper()
	w := &world{dir: t.TempDir(), pattern: newPattern()}
	w.sides = map[place]side{onDisk: {local: filepath.Join(w.dir, "files")}}
	to, err := w.diskTarget(onDisk, "write/here1")
	if err != nil {
		t.Fatal(err)
	}
	return w, to
}

// TestSourceTree packs a tree and unpacks it where the server looks.
func TestSourceTree(t *testing.T) {
	all := sourceTree(treeTop, fullSizes.treeFiles, fullSizes.treeDirs)
	var total, large int64
	for _, f := range all {
		total, large = total+f.size, max(large, f.size)
	}
	if n := len(parentsOf(all)); len(all) != fullSizes.treeFiles || n != fullSizes.treeDirs || total < 30<<20 || total > 80<<20 || large < 100_000 {
		t.Errorf("%d files in %d directories, %d bytes, the largest %d", len(all), n, total, large)
	}
	w, to := writtenWorld(t)
	some := sourceTree(treeTop, 60, 12)
	archive := filepath.Join(w.dir, "tar")
	if err := packTree(archive, some, w.pattern); err != nil {
		t.Fatal(err)
	}
	top := filepath.Join(w.sides[onDisk].local, to.name)
	if err := runProgram(t.Context(), "tar", "-xf", archive, "-C", top); err != nil {
		t.Fatal(err)
	}
	m := &meter{}
	if err := errors.Join(to.arrive(t.Context(), some, m), to.check(t.Context(), some)); err != nil || m.work != 60 {
		t.Errorf("%.0f files arrived, %v", m.work, err)
	}
	if err := errors.Join(runProgram(t.Context(), "rm", "-r", filepath.Join(top, treeTop)), to.leave(t.Context(), treeTop), to.remove()); err != nil {
		t.Error(err)
	}
}

// TestArrive leaves out what makes a file arrive: it must not count.
func TestArrive(t *testing.T) {
	w, to := writtenWorld(t)
	top := filepath.Join(w.sides[onDisk].local, to.name)
	files := newSmall(3, 2*pageSize)
	if err := writeFiles(t.Context(), top, files, w.pattern); err != nil {
		t.Fatal(err)
	}
	late := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := to.arrive(ctx, files, &meter{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
	last := filepath.Join(top, files[2].path)
	if err := os.Truncate(last, pageSize); err != nil {
		t.Fatal(err)
	}
	late("a short file")
	if err := os.Truncate(last, 2*pageSize); err != nil {
		t.Fatal(err)
	}
	if err := to.arrive(t.Context(), files, &meter{}); err != nil {
		t.Error(err)
	}
	if to.check(t.Context(), files) == nil {
		t.Error("zeros pass for what was written")
	}
	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	late("a missing file")
	if gone, err := to.gone(t.Context(), files[0].path); gone || err != nil {
		t.Errorf("a file that is there is gone: %v, %v", gone, err)
	}
}

// TestSplit wants the parts of a file to be all of it.
func TestSplit(t *testing.T) {
	for _, size := range []int64{1 << 30, 8*pageSize + 5, 100} {
		sum := int64(0)
		for _, part := range split(file{path: "f", seed: 1, size: size}, 8) {
			sum += part.size
		}
		if sum != size {
			t.Errorf("%d bytes of %d", sum, size)
		}
	}
}
