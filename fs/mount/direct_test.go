package mount

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDirectNames(t *testing.T) {
	for _, d := range []DirectIO{DirectNever, DirectAuto, DirectAlways} {
		if got, err := ParseDirectIO(d.String()); err != nil || got != d {
			t.Errorf("%v: %v, %v", d, got, err)
		}
	}
	if _, err := ParseDirectIO("perhaps"); err == nil {
		t.Error("perhaps is a way")
	}
	if DirectIO(7).String() != "DirectIO(7)" || (Options{}).DirectIO != DirectNever {
		t.Error("wrong name or default")
	}
}

func TestDirectRule(t *testing.T) {
	now, free, known, asked := time.Unix(0, 0), int64(10<<30), true, 0
	d := newDirectRule(DirectAuto)
	d.now = func() time.Time { return now }
	d.available = func() (int64, bool) { asked++; return free, known }
	check := func(size int64, want bool) {
		t.Helper()
		if got := d.large(size); got != want {
			t.Errorf("%d bytes with %d free: %v", size, free, got)
		}
	}
	check(directFrom-1, false)
	if asked != 0 {
		t.Error("a small file costs a look at the memory")
	}
	check(5<<30, false)
	check(5<<30+1, true)
	free = 4 << 30
	check(4<<30, false) // the answer is still used
	if asked != 1 {
		t.Errorf("asked %d times within a second", asked)
	}
	now = now.Add(memoryTTL)
	check(4<<30, true)
	known, now = false, now.Add(memoryTTL)
	check(math.MaxInt64, false)
}

func TestMemAvailable(t *testing.T) {
	text := "MemTotal:  24684368 kB\nMemAvailable:   1024 kB\nBuffers: 1 kB\n"
	if n, ok := parseAvailable([]byte(text)); !ok || n != 1<<20 {
		t.Errorf("%d, %v", n, ok)
	}
	for _, bad := range []string{"", "MemTotal: 1 kB\n", "MemAvailable:\n", "MemAvailable: lots\n"} {
		if _, ok := parseAvailable([]byte(bad)); ok {
			t.Errorf("%q has an answer", bad)
		}
	}
	if n, ok := memAvailable(); !ok || n <= 0 {
		t.Errorf("on this machine: %d, %v", n, ok)
	}
}

// Read past the page cache, a file comes in requests as large as the program's, each
// time it is read; who may write it keeps the page cache.
func TestDirectReads(t *testing.T) {
	for _, mode := range []DirectIO{DirectNever, DirectAuto, DirectAlways} {
		t.Run(mode.String(), func(t *testing.T) {
			c := mountCounted(t, time.Minute, Options{DirectIO: mode}, nil)
			text := pattern(3 << 20)
			c.put(t, "/f", text)
			for range 2 {
				readBy(t, c.dir+"/f", os.O_RDONLY, text)
			}
			// The kernel asks once more at the end.
			direct := c.reads.Load() == 2*(3+1) && c.largest.Load() == 1<<20
			if direct != (mode == DirectAlways) {
				t.Errorf("%d requests of up to %d bytes", c.reads.Load(), c.largest.Load())
			}
			readBy(t, c.dir+"/f", os.O_RDWR, text)
			readBy(t, c.dir+"/f", os.O_RDONLY, text) // leaves the pages alone
			// A kernel may take pages back at any moment, also with much free memory (DAMON).
			n := int64(-1)
			for try := 0; n != 0 && try < 10; try++ {
				c.reads.Store(0)
				readBy(t, c.dir+"/f", os.O_RDWR, text)
				n = int64(c.reads.Load())
			}
			if n != 0 {
				t.Errorf("%d requests for pages that the kernel has, each time", n)
			}
		})
	}
}

// readBy opens and reads a file in pieces of 1 MiB.
func readBy(t *testing.T, path string, flag int, want string) {
	t.Helper()
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all bytes.Buffer
	buf := make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		all.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if all.String() != want {
		t.Errorf("read %d bytes, or others than were written", all.Len())
	}
}

// Handles with and without the page cache, and mappings of both, see each other's
// changes; programs and libraries can be mapped and run.
func TestDirectCoherence(t *testing.T) {
	if dir := os.Getenv(elsewhereVar); dir != "" {
		coherence(t, dir+"/f")
		execute(t, dir)
		return
	}
	c := mountCounted(t, time.Minute, Options{DirectIO: DirectAlways}, nil)
	c.put(t, "/f", pattern(64<<10))
	elsewhere(t, c.dir)
}

// coherence uses a file that is not smaller than 64 KiB in many ways at once.
func coherence(t *testing.T, path string) {
	open := func(flag int) *os.File {
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		return f
	}
	mapped := func(f *os.File, prot, flags int) []byte {
		p, err := unix.Mmap(int(f.Fd()), 0, 64<<10, prot, flags)
		if err != nil {
			t.Fatalf("mmap of %d with %d: %v", prot, flags, err)
		}
		return p
	}
	direct, both := open(os.O_RDONLY), open(os.O_RDWR)
	shared := mapped(direct, unix.PROT_READ, unix.MAP_SHARED)
	private := mapped(direct, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	writable := mapped(both, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	private[0] = 'p' // for this process alone
	see := func(what string, off int64, want string) {
		t.Helper()
		buf := make([]byte, len(want))
		if _, err := direct.ReadAt(buf, off); err != nil || string(buf) != want {
			t.Errorf("%s: the direct handle reads %q, %v", what, buf, err)
		}
		if _, err := both.ReadAt(buf, off); err != nil || string(buf) != want {
			t.Errorf("%s: the other handle reads %q, %v", what, buf, err)
		}
		for name, p := range map[string][]byte{"shared": shared, "private": private[1:], "writable": writable} {
			at, text := int(off), want
			if name == "private" {
				at--
			}
			if got := string(p[at : at+len(text)]); got != text {
				t.Errorf("%s: the %s mapping shows %q", what, name, got)
			}
		}
	}
	see("before", 4096+16, pattern(4096 + 32)[4096+16:])
	if _, err := both.WriteAt([]byte("by write"), 9000); err != nil {
		t.Fatal(err)
	}
	see("write", 9000, "by write")
	copy(writable[20000:], "by mapping")
	see("store", 20000, "by mapping")
	if err := unix.Msync(writable, unix.MS_SYNC); err != nil {
		t.Error(err)
	}
	see("msync", 20000, "by mapping")
	for _, p := range [][]byte{shared, private, writable} {
		if err := unix.Munmap(p); err != nil {
			t.Error(err)
		}
	}
}

// execute runs a program that lies in dir.
func execute(t *testing.T, dir string) {
	program, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	code, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, code, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out, err := exec.Command(path).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	if err := os.WriteFile(path, code, 0o755); err != nil {
		t.Errorf("it cannot be replaced: %v", err)
	}
}

// Where nothing can be written, a large read with O_DIRECT comes in several requests at
// once. Elsewhere they come one after the other, and so do writes, which may be to the
// end of the file.
func TestDirectFlag(t *testing.T) {
	const pieces = 4
	for _, readOnly := range []bool{true, false} {
		t.Run(fmt.Sprintf("read only %v", readOnly), func(t *testing.T) {
			met := newMeeting(pieces)
			c := mountCounted(t, time.Minute, Options{ReadOnly: readOnly}, func(c *counter) {
				c.gate = func(what string) {
					if readOnly && what == "read" && !met.meet() {
						t.Error("a request is alone")
					}
				}
			})
			text := pattern(pieces << 20)
			c.put(t, "/f", text)
			readDirect(t, c.dir+"/f", text)
			if readOnly {
				return
			}
			f, err := os.OpenFile(c.dir+"/f", os.O_WRONLY|os.O_APPEND|unix.O_DIRECT, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(text); err != nil {
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			readDirect(t, c.dir+"/f", text+text)
		})
	}
}

// readDirect reads a file in one go with O_DIRECT.
func readDirect(t *testing.T, path, want string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, len(want))
	if n, err := f.Read(buf); err != nil || string(buf[:n]) != want {
		t.Errorf("read %d bytes of %d, or others than were written: %v", n, len(want), err)
	}
}
