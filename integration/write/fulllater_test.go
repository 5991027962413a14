package write_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// atAnswer fills the disk while the server has uploads half done, kills the process when
// it has heard of their ends, and mounts again while the disk is still full.
func (r *fullRun) atAnswer(t *testing.T) {
	r.mount(t, 24<<20)
	door := r.s.holdUploads(t)
	r.m.mkdir(t, "d")
	r.want["d"] = nil
	for i := range 8 {
		r.write(t, fmt.Sprint("d/f", i), book(uint64(i), 50_000))
	}
	r.write(t, "large", book(77, 3<<20))
	await(t, "an upload", door.entered)
	r.fill(t)
	door.open()
	r.m.flush(t)
	r.want.inMount(t, r.m)
	r.want.onServer(t, r.s)
	r.again(t)
	r.drained(t)
}

// again kills the process and mounts once more.
func (r *fullRun) again(t *testing.T) {
	t.Helper()
	r.m.Kill()
	r.s.settle(t)
	r.mount(t, 0)
}

// atRemount kills a process that has pending changes, and mounts while the disk is full.
func (r *fullRun) atRemount(t *testing.T) {
	r.mount(t, 24<<20)
	r.write(t, "old", book(1, 2<<20))
	r.m.flush(t)
	must(t, "pause", r.m.Dir)
	r.write(t, "new", book(2, 1<<20))
	r.m.appendTo(t, "old", book(3, 5000))
	r.want["old"] = append(book(1, 2<<20), book(3, 5000)...)
	r.m.mkdir(t, "d")
	r.want["d"] = nil
	r.fill(t)
	r.again(t)
	must(t, "pause", r.m.Dir)
	r.fill(t) // the journal has become smaller
	r.told(t)
	r.want.inMount(t, r.m)
	r.again(t)
	if got, err := os.ReadFile(r.m.path("new")); err != nil || !bytes.Equal(got, r.want["new"]) {
		t.Errorf("a pending file: %d bytes, %v", len(got), err)
	}
	r.m.flushAll(t, r.free)
	r.want.onServer(t, r.s)
	r.goesOn(t)
}

// flushAll is flush of changes some of which may need space.
func (m *mount) flushAll(t *testing.T, free func()) {
	t.Helper()
	if _, code := command(t, "flush", "--timeout=2s", m.Dir); code != 0 {
		free()
		must(t, "retry", "--all", "--mount="+m.Dir)
		m.flush(t)
	}
}

// atCompaction has a program commit one file so often that the journal is made smaller some
// times, while there is no space for that but its own.
func (r *fullRun) atCompaction(t *testing.T) {
	r.mount(t, 24<<20)
	must(t, "pause", r.m.Dir)
	dir := ""
	for i := range 4 { // long names, so that less commits fill the journal
		dir = filepath.Join(dir, strings.Repeat(fmt.Sprint(i), 200))
		r.m.mkdir(t, dir)
		r.want[dir] = nil
	}
	r.write(t, "kept", book(1, 100_000))
	name := filepath.Join(dir, "log")
	file, err := os.Create(r.m.path(name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.Write(book(2, page)); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	r.fill(t)
	rounds := 3000
	if long() {
		rounds = 30_000
	}
	for i := range rounds {
		if _, err := fmt.Fprintf(writerAt{file}, "%08d", i); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
		if err := file.Sync(); err != nil {
			t.Fatalf("commit %d: %v", i, err)
		}
	}
	r.want[name] = append(fmt.Appendf(nil, "%08d", rounds-1), book(2, page)[8:]...)
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	r.compacted(t)
	r.again(t)
	r.want.inMount(t, r.m)
	r.drained(t)
}

// compacted wants the journal to have been made smaller.
func (r *fullRun) compacted(t *testing.T) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(r.disk, "cache", "pending", "journal", "snapshot-*"))
	if err != nil || len(found) == 0 {
		t.Errorf("the journal was never made smaller: %q %v", found, err)
	}
}

// writerAt writes at the beginning of a file.
type writerAt struct{ *os.File }

// Write implements io.Writer.
func (w writerAt) Write(p []byte) (int, error) { return w.File.WriteAt(p, 0) }

// whileReading reads files that were never here, some that were stored a moment ago, and
// one with pages that were written, while nothing can be kept on the disk.
func (r *fullRun) whileReading(t *testing.T) {
	other := r.s.mounted(t, cacheDir(t))
	for i, size := range []int{0, 1, 5000, 3 << 20} {
		r.want[fmt.Sprint("f", i)] = book(uint64(i), size)
		other.write(t, fmt.Sprint("f", i), book(uint64(i), size))
	}
	other.MustUnmount(t)
	r.mount(t, 64<<20, "--cache=on", "--cache-size=48MiB", "--cache-reserve=1MiB")
	r.fill(t)
	r.want.inMount(t, r.m)
	r.free()
	for i, size := range []int{1, 5000, 2 << 20} { // stored now: no version of theirs is proof
		r.write(t, fmt.Sprint("g", i), book(uint64(100+i), size))
	}
	r.m.flush(t)
	r.fill(t)
	r.want.inMount(t, r.m)
	r.again(t)
	r.want.inMount(t, r.m)
	r.drained(t)
}

// whileOverwriting fills the disk when a program has written some pages of a file that is on
// the server: the others are read from there as before, and the change is stored.
func (r *fullRun) whileOverwriting(t *testing.T) {
	r.mount(t, 16<<20)
	old := book(1, 6<<20)
	r.write(t, "f", old)
	r.m.flush(t)
	stored := time.Now()
	await(t, "the age at which a version is proof", func() bool { return time.Since(stored) > 3*time.Second })
	must(t, "refresh", r.m.Dir)
	must(t, "pause", r.m.Dir)
	file, err := os.OpenFile(r.m.path("f"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt(book(2, page), 3<<20); err != nil {
		t.Fatal(err)
	}
	r.want["f"] = append(append(bytes.Clone(old[:3<<20]), book(2, page)...), old[3<<20+page:]...)
	r.fill(t)
	r.want.inMount(t, r.m)
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		t.Error(err)
	}
	r.want.inMount(t, r.m)
	r.write(t, "empty", []byte{})
	must(t, "resume", r.m.Dir)
	r.m.flushAll(t, r.free)
	r.want.onServer(t, r.s)
	r.goesOn(t)
}
