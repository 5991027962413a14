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
	kept bool   // content of files that could not be closed is kept on the node
}

// fullPhase is a moment at which the disk is full.
type fullPhase struct {
	name string
	test func(r *fullRun, t *testing.T)
	any  bool // it is the same whatever the server
}

func fullPhases() []fullPhase {
	return []fullPhase{
		{"mount", (*fullRun).atMount, true},
		{"write", (*fullRun).whileWriting, true},
		{"wait", (*fullRun).whileUploading, false},
		{"close", (*fullRun).atClose, true},
		{"journal", (*fullRun).atJournal, true},
		{"answer", (*fullRun).atAnswer, false},
		{"remount", (*fullRun).atRemount, false},
		{"compact", (*fullRun).atCompaction, true},
		{"read", (*fullRun).whileReading, false},
		{"overwrite", (*fullRun).whileOverwriting, false},
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
	for i, phase := range fullPhases() {
		for k, kind := range kinds() {
			if phase.any && !long() && k != i%len(kinds()) {
				continue
			}
			t.Run(phase.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				phase.test(&fullRun{s: startServer(t, kind), want: expect{}}, t)
			})
		}
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
	if !r.kept {
		r.m.MustUnmount(t)
	} else if out, code := command(t, "unmount", r.m.Dir); code != 0 && !strings.Contains(out, "is kept in") {
		t.Errorf("unmount: exit code %d\n%s", code, out)
	}
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

// whileUploading has a program write more than there is room for, without a reserve, while
// uploads go on: it waits for them and hears nothing of that.
func (r *fullRun) whileUploading(t *testing.T) {
	r.mount(t, 12<<20, "--staging-reserve=0", "--staging-size=1GiB")
	r.free = func() {}
	r.s.slow(50 * time.Millisecond)
	for i := range 12 {
		r.write(t, fmt.Sprint("f", i), book(uint64(i), 1<<20))
	}
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
	if out := must(t, "status", r.m.Dir); !strings.Contains(out, "no room") {
		t.Errorf("status does not tell that the disk is full:\n%s", out)
	}
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
	open, err := os.Create(r.m.path("open"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Write(book(3, 20_000)); err != nil {
		t.Fatal(err)
	}
	r.fill(t)
	made := r.links(t)
	if !r.note(t, "open", book(3, 20_000), open.Close()) {
		await(t, "keeping what could not be closed", func() bool { return r.keeps(t, book(3, 20_000)) })
	}
	for refused := false; !refused && len(r.want) < 500; {
		name := fmt.Sprintf("%0200d", len(r.want))
		file, err := os.Create(r.m.path(name))
		if err == nil {
			err = file.Close()
		}
		refused = !r.note(t, name, []byte{}, err)
	}
	r.note(t, "dir", nil, os.Mkdir(r.m.path("dir"), 0o755))
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

// note takes note of a file that was closed, or refused for want of space.
func (r *fullRun) note(t *testing.T, name string, data []byte, err error) (taken bool) {
	t.Helper()
	switch {
	case err == nil:
		r.want[name] = data
	case errors.Is(err, syscall.ENOSPC):
		r.kept = true
	default:
		t.Errorf("%s: %v", name, err)
	}
	return err == nil
}

// keeps tells whether a content that could not be closed is in a file that stays.
func (r *fullRun) keeps(t *testing.T, data []byte) bool {
	t.Helper()
	for _, pattern := range []string{"parked/*", "stage/lost-*"} {
		names, err := filepath.Glob(filepath.Join(r.disk, "cache", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got, err := os.ReadFile(name); err == nil && bytes.Equal(got, data) {
				return true
			}
		}
	}
	return false
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
