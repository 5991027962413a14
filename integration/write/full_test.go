package write_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/harness"
)

// fullRun is a mount whose cache directory lies on a disk of its own.
type fullRun struct {
	s    *server
	m    *mount
	disk string
	free func() // makes space, nil as long as there is some
	want expect // what must be there
}

// fullPhases are the moments at which the disk is full.
func fullPhases() map[string]func(r *fullRun, t *testing.T) {
	return map[string]func(r *fullRun, t *testing.T){
		"mount":     (*fullRun).atMount,
		"write":     (*fullRun).whileWriting,
		"close":     (*fullRun).atClose,
		"journal":   (*fullRun).atJournal,
		"answer":    (*fullRun).atAnswer,
		"remount":   (*fullRun).atRemount,
		"compact":   (*fullRun).atCompaction,
		"read":      (*fullRun).whileReading,
		"overwrite": (*fullRun).whileOverwriting,
	}
}

// TestFull has something else fill the disk of the cache directory, at every phase. Programs
// are told ENOSPC where they write and nothing else anywhere; what was acknowledged is
// there, reaches the server although the disk stays full, and all goes on without another
// mount when there is space again.
func TestFull(t *testing.T) {
	if through() {
		t.Skip("nothing is journalled")
	}
	for name, phase := range fullPhases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, s *server) {
				phase(&fullRun{s: s, want: expect{}}, t)
			})
		})
	}
}

// mount mounts on a disk of so many bytes, which is made if there is none.
func (r *fullRun) mount(t *testing.T, bytes int, args ...string) {
	t.Helper()
	if r.disk == "" {
		r.disk = smallDisk(t, bytes)
	}
	r.m = r.s.mounted(t, filepath.Join(r.disk, "cache"), append([]string{"--cache=off", "--io-timeout=60s"}, args...)...)
}

// fill fills the disk.
func (r *fullRun) fill(t *testing.T) {
	t.Helper()
	before, now := r.free, fill(t, r.disk)
	r.free = func() {
		now()
		if before != nil {
			before()
		}
	}
	t.Cleanup(r.free)
}

// write writes a file that must arrive.
func (r *fullRun) write(t *testing.T, name string, data []byte) {
	t.Helper()
	r.m.write(t, name, data)
	r.want[name] = data
}

// refuse wants ENOSPC for a new file. It may be there then, empty, and is removed.
func (r *fullRun) refuse(t *testing.T, size int) {
	t.Helper()
	if err := os.WriteFile(r.m.path("refused"), book(99, size), 0o644); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write of %d bytes while the disk is full: %v", size, err)
	}
	if err := os.Remove(r.m.path("refused")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removal while the disk is full: %v", err)
	}
}

// told wants the status to say that the disk is full.
func (r *fullRun) told(t *testing.T) {
	t.Helper()
	if s := r.m.status(t); s.Full == "" {
		t.Errorf("status does not tell that the disk is full: %d bytes of %d are staged", s.Staged, s.Limit)
	}
	if out := must(t, "status", r.m.Dir); !strings.Contains(out, "no room") {
		t.Errorf("status does not tell that the disk is full:\n%.500s", out)
	}
}

// drained wants all to reach the server although the disk is full, and all to go on, in the
// same mount, when there is space.
func (r *fullRun) drained(t *testing.T) {
	t.Helper()
	r.m.flush(t)
	r.want.onServer(t, r.s)
	r.want.inMount(t, r.m)
	r.goesOn(t)
}

// goesOn makes space and wants all to go on.
func (r *fullRun) goesOn(t *testing.T) {
	t.Helper()
	r.free()
	await(t, "the end of ENOSPC", func() bool { return r.m.status(t).Full == "" })
	r.write(t, "afterwards", book(98, 700_000))
	for name, data := range r.want {
		if data != nil {
			more := append(bytes.Clone(data), "more"...)
			r.m.appendTo(t, name, []byte("more"))
			r.want[name] = more
			break
		}
	}
	r.m.flush(t)
	r.want.inMount(t, r.m)
	r.m.MustUnmount(t)
	r.want.onServer(t, r.s)
}

// atMount wants a mount to be refused with the reason, and to succeed when there is space.
func (r *fullRun) atMount(t *testing.T) {
	r.disk = smallDisk(t, 16<<20)
	r.fill(t)
	point, cache := t.TempDir(), filepath.Join(r.disk, "cache")
	_, err := harness.Start(t.Context(), harness.Spec{Binary: harness.StaticProgram(t), Dir: point, Log: filepath.Join(t.TempDir(), "log"),
		Env: []string{password("b")}, Args: []string{writeMode(), "--cache-dir=" + cache, r.s.branch("b", r.s.address())}})
	if err == nil || !strings.Contains(err.Error(), "space left") && !strings.Contains(err.Error(), " is free") || strings.Contains(err.Error(), "panic") {
		t.Fatalf("a mount on a full disk: %v", err)
	}
	r.free()
	r.mount(t, 0)
	r.write(t, "f", book(1, 100_000))
	r.goesOn(t)
}

// whileWriting fills the disk between two writes of a program, which keeps what it wrote
// before.
func (r *fullRun) whileWriting(t *testing.T) {
	r.mount(t, 16<<20)
	must(t, "pause", r.m.Dir)
	r.write(t, "whole", book(1, 300_000))
	file, err := os.Create(r.m.path("cut"))
	if err != nil {
		t.Fatal(err)
	}
	data, n := book(2, 8<<20), 0
	for n < 1<<20 && err == nil {
		_, err = file.WriteAt(data[n:n+64<<10], int64(n))
		n += 64 << 10
	}
	if err != nil {
		t.Fatal(err)
	}
	r.fill(t)
	for n < len(data) {
		if _, err = file.WriteAt(data[n:n+64<<10], int64(n)); err != nil {
			break
		}
		n += 64 << 10
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("after %d bytes: %v", n, err)
	}
	r.told(t)
	if _, err := file.WriteAt(book(3, page), 0); err != nil { // what was there has its place
		t.Errorf("overwriting what is staged: %v", err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		t.Errorf("what was acknowledged cannot be closed: %v", err)
	}
	r.want["cut"] = append(book(3, page), data[page:n]...)
	r.refuse(t, 50_000)
	r.want.inMount(t, r.m)
	must(t, "resume", r.m.Dir)
	r.drained(t)
}

// atClose fills the disk between the last write and the close.
func (r *fullRun) atClose(t *testing.T) {
	r.mount(t, 16<<20)
	must(t, "pause", r.m.Dir)
	var files []*os.File
	for i := range 3 {
		name := fmt.Sprint("f", i)
		file, err := os.Create(r.m.path(name))
		if err != nil {
			t.Fatal(err)
		}
		r.want[name] = book(uint64(i), 1<<20+i)
		if _, err := file.Write(r.want[name]); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	r.fill(t)
	err := errors.Join(files[0].Close(), files[1].Sync(), files[1].Close(), os.Rename(r.m.path("f2"), r.m.path("f3")), files[2].Close())
	if err != nil {
		t.Error(err)
	}
	r.want["f3"] = r.want["f2"]
	delete(r.want, "f2")
	r.want.inMount(t, r.m)
	r.told(t)
	must(t, "resume", r.m.Dir)
	r.drained(t)
}

// atJournal mounts where there is so little space that the journal has hardly any for
// changes. Each of these is refused or acknowledged, and only the latter happen. What is
// taken back needs no space.
func (r *fullRun) atJournal(t *testing.T) {
	const size, left = 16 << 20, 4500 << 10
	r.disk = smallDisk(t, size)
	most := filepath.Join(r.disk, "most")
	if err := os.WriteFile(most, make([]byte, size-left), 0o600); err != nil {
		t.Fatal(err)
	}
	r.free = func() { _ = os.Remove(most) } // it may be gone
	r.mount(t, 0, "--staging-reserve=0")
	r.write(t, "old", book(1, 10_000))
	r.m.flush(t)
	must(t, "pause", r.m.Dir)
	r.m.mkdir(t, "links")
	r.want["links"] = nil
	open, err := os.Create(r.m.path(strings.Repeat("open", 50)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Write(book(3, 20_000)); err != nil {
		t.Fatal(err)
	}
	r.fill(t)
	made := r.links(t)
	switch err := open.Close(); {
	case err == nil:
		t.Error("the journal takes a file and no link")
	case !errors.Is(err, syscall.ENOSPC):
		t.Errorf("close: %v", err)
	}
	if err := os.Mkdir(r.m.path("refused"), 0o755); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("mkdir: %v", err)
	}
	r.told(t)
	for _, name := range made {
		if err := os.Remove(r.m.path(name)); err != nil {
			t.Fatalf("removal: %v", err)
		}
	}
	r.want.inMount(t, r.m)
	r.write(t, "empty", []byte{})
	must(t, "resume", r.m.Dir)
	r.drained(t)
}

// links makes links, long ones first, until the journal is full, and returns those that it
// has taken.
func (r *fullRun) links(t *testing.T) (made []string) {
	t.Helper()
	for _, size := range []int{4000, 1} {
		var err error
		for err == nil {
			name := fmt.Sprint("links/l", len(made))
			if err = os.Symlink(strings.Repeat("x", size), r.m.path(name)); err == nil {
				made = append(made, name)
			}
			if len(made) > 5000 {
				t.Fatal("the journal takes everything")
			}
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	found, err := os.ReadDir(r.m.path("links"))
	if err != nil || len(found) != len(made) || len(made) < 100 {
		t.Errorf("%d links were made, and %d are there (%v)", len(made), len(found), err)
	}
	return made
}

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
