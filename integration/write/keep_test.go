package write_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/remote/archive"
)

// TestEightNodes has eight processes write into one directory with --archive=keep, at the
// same time, and change what they wrote. Each sees the files of all, once. Then they are
// unpacked, and packed again.
func TestEightNodes(t *testing.T) {
	const nodes, files = 8, 10
	s := startServer(t, "moddav")
	var all [nodes]*mount
	for i := range all {
		all[i] = s.mounted(t, cacheDir(t), "--archive=keep", "--batch-delay=1s")
	}
	all[0].mkdir(t, "d")
	all[0].mkdir(t, "d/sub")
	all[0].flush(t)
	var want [nodes]expect
	var writing sync.WaitGroup
	for i, m := range all {
		must(t, "refresh", m.Dir)
		writing.Go(func() { want[i] = work(t, m, i, files) })
	}
	writing.Wait()
	whole := expect{"d": nil, "d/sub": nil}
	for i := range want {
		whole = whole.with(want[i])
	}
	for _, m := range all {
		must(t, "refresh", m.Dir)
		whole.inMount(t, m)
	}
	if archives, plain := stored(t, s); archives < nodes || plain > 4*nodes {
		t.Errorf("the server has %d archives and %d files", archives, plain)
	}
	for _, m := range all {
		m.MustUnmount(t)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	with, url := "--password-file="+file, strings.TrimPrefix(s.branch("", s.address()), "=")
	t.Log(must(t, "unpack", with, url))
	whole.onServer(t, s)
	must(t, "unpack", with, "="+url)
	whole.onServer(t, s)
	// Files of this very second have a version that is no proof; those that stay say so.
	await(t, "packing", func() bool { _, code := command(t, "pack", with, url); return code == 0 })
	if archives, plain := stored(t, s); archives < 2 || plain > 0 {
		t.Errorf("the server has %d archives and %d files", archives, plain)
	}
	m := s.mounted(t, cacheDir(t), "--archive=keep")
	whole.inMount(t, m)
	m.MustUnmount(t)
}

// work writes files, and then overwrites, renames and removes some, and returns what is left.
func work(t *testing.T, m *mount, node, files int) expect {
	want := expect{}
	name := func(i int) string {
		dir := "d"
		if i%3 == 0 {
			dir = "d/sub"
		}
		return fmt.Sprintf("%s/n%d-%d", dir, node, i)
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(m.path(name), data, 0o644); err != nil {
			t.Error(err)
		}
		want[name] = data
	}
	run := func(args ...string) {
		if out, err := harness.Try(t.Context(), "/", harness.StaticProgram(t), args...); err != nil {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
	run("pause", m.Dir) // so that they leave together on a slow machine as well
	for i := range files {
		write(name(i), book(uint64(node*100+i), 100+1777*i))
	}
	run("resume", m.Dir)
	run("flush", "--timeout="+patience.String(), m.Dir)
	write(name(1), book(uint64(node*100+99), 3000))
	if err := os.Rename(m.path(name(2)), m.path(name(2)+"-renamed")); err != nil {
		t.Error(err)
	}
	want[name(2)+"-renamed"] = want[name(2)]
	delete(want, name(2))
	if err := os.Remove(m.path(name(3))); err != nil {
		t.Error(err)
	}
	delete(want, name(3))
	run("flush", "--timeout="+patience.String(), m.Dir)
	return want
}

// stored counts the archives and the other files that a server has, without tombstones.
func stored(t *testing.T, s *server) (archives, plain int) {
	t.Helper()
	for name, e := range s.stored(t) {
		_, isArchive := archive.ParseFileName(filepath.Base(name))
		switch {
		case isArchive:
			archives++
		case e.Type.IsRegular() && !archive.Hidden(filepath.Base(name)):
			plain++
		}
	}
	return archives, plain
}
