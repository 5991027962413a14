package mount

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

// slicer is what go-fuse looks for: answers that have it are written from where they
// are.
type slicer interface {
	Slices() ([][]byte, fuse.Status)
}

func TestReplies(t *testing.T) {
	var r replies
	data, released := []byte("bytes"), 0
	for i := 1; i <= 3; i++ {
		res := r.of(data, func() { released++ })
		s, ok := res.(slicer)
		if !ok {
			t.Fatal("go-fuse would copy it")
		}
		got, st := s.Slices()
		if st != fuse.OK || len(got) != 1 || &got[0][0] != &data[0] || res.Size() != len(data) {
			t.Fatalf("answer %d: %q, %v, size %d", i, got, st, res.Size())
		}
		if flat, st := res.Bytes(nil); st != fuse.OK || !bytes.Equal(flat, data) {
			t.Errorf("bytes %q, %v", flat, st)
		}
		if released != i-1 {
			t.Error("released before it was written")
		}
		if res.Done(); released != i {
			t.Errorf("released %d times, want %d", released, i)
		}
	}
	if res := r.of(nil, func() { released++ }); released != 4 || res.Size() != 0 {
		t.Error("go-fuse does not call Done for an empty answer: it must be released at once")
	}
	r.of(data, nil).Done()
}

// views is a viewer of text that counts what is lent.
type views struct {
	text string
	cut  int // bytes that are missing in each answer
	err  error

	lent, calls atomic.Int64
}

func (v *views) view(_ context.Context, _ *fs.Handle, off int64, n int) ([]byte, func(), error) {
	v.calls.Add(1)
	if v.err != nil {
		return nil, nil, v.err
	}
	v.lent.Add(1)
	data := []byte(v.text[min(int(off), len(v.text)):min(int(off)+n, len(v.text))])
	return data[:max(0, len(data)-v.cut)], func() { clear(data); v.lent.Add(-1) }, nil
}

func TestRawReadView(t *testing.T) {
	const stored, shown = "stored at the server", "shown from memory !!"
	for _, tc := range []struct {
		name  string
		views *views
		want  string
		errno syscall.Errno
	}{
		{"shown", &views{text: shown}, shown, 0},
		{"not in one place", &views{err: fs.ErrNoView}, stored, 0},
		{"short", &views{text: shown, cut: 1}, stored, 0},
		{"failed", &views{err: &remote.Error{Op: "read", Kind: remote.Changed}}, "", syscall.ESTALE},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBench(t, time.Minute)
			b.put("/f", stored)
			e := b.lookup(fuse.FUSE_ROOT_ID, "f")
			out, st := b.open(e.NodeId, syscall.O_RDONLY)
			b.ok(st)
			b.raw.view = tc.views.view
			res, st := b.Read(nil, &fuse.ReadIn{Fh: out.Fh}, make([]byte, 4096))
			b.want("read", st, tc.errno)
			if st == fuse.OK {
				if got, _ := res.Bytes(nil); string(got) != tc.want {
					t.Errorf("read %q, want %q", got, tc.want)
				}
				res.Done()
			}
			if tc.views.calls.Load() != 1 || tc.views.lent.Load() != 0 {
				t.Errorf("%d calls, %d not given back", tc.views.calls.Load(), tc.views.lent.Load())
			}
			b.close(out.Fh)
		})
	}
}

// What is shown reaches the program before it is given back, and all is given back.
func TestReadView(t *testing.T) {
	v := &views{text: pattern(3<<20 + 100)}
	c := mountCounted(t, time.Minute, Options{}, func(c *counter) { c.raw.view = v.view })
	c.put(t, "/f", v.text)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			got, err := os.ReadFile(c.dir + "/f")
			if err != nil || string(got) != v.text {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	readers.Wait()
	until(t, "all views are given back", func() bool { return v.lent.Load() == 0 })
	if v.calls.Load() == 0 {
		t.Error("nothing was shown")
	}
}

// A read makes no garbage to speak of, whatever its size.
func TestReadGarbage(t *testing.T) {
	const size, rounds = 1 << 20, 50
	b := newBench(t, time.Minute)
	b.put("/f", pattern(size))
	e := b.lookup(fuse.FUSE_ROOT_ID, "f")
	out, st := b.open(e.NodeId, syscall.O_RDONLY)
	b.ok(st)
	buf := make([]byte, size)
	read := func() {
		res, st := b.Read(nil, &fuse.ReadIn{Fh: out.Fh}, buf)
		if b.ok(st); res.Size() != size {
			t.Fatalf("read %d bytes", res.Size())
		}
		res.Done()
	}
	read()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		read()
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / rounds; each > 32<<10 {
		t.Errorf("%d bytes of garbage for each read", each)
	}
	b.close(out.Fh)
}

// Pages are kept from one open to the next while the version stands.
func TestHotRead(t *testing.T) {
	c := mountCounted(t, time.Minute, Options{}, nil)
	text := pattern(1 << 20)
	c.put(t, "/f", text)
	read := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(c.dir + "/f"); err != nil || string(got) != want {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
	}
	read(text)
	if c.reads.Load() == 0 {
		t.Fatal("the first read was free")
	}
	c.reads.Store(0)
	for range 3 {
		read(text)
	}
	if n := c.reads.Load(); n != 0 {
		t.Errorf("%d requests for pages that the kernel has", n)
	}
	if n := c.opens.Load(); n != 4 {
		t.Errorf("%d opens", n) // each is a chance to see another version
	}
}

// A note that the content has changed takes the pages from the kernel, also those of
// a file that is open.
func TestInvalidatePages(t *testing.T) {
	c := mountCounted(t, time.Minute, Options{}, nil)
	c.put(t, "/f", pattern(64<<10))
	f, err := os.Open(c.dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	read := func() int64 {
		t.Helper()
		before := c.reads.Load()
		if _, err := f.ReadAt(buf, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return c.reads.Load() - before
	}
	if read() == 0 || read() != 0 {
		t.Fatal("the second read is not free, or the first is")
	}
	a, err := c.fs.Stat(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	c.tell.note(fs.Invalidation{Ino: a.Ino, Content: true})
	until(t, "a read after the note asks again", func() bool { return read() > 0 })
}

// A version that was made elsewhere shows its own bytes at the next open.
func TestPagesOfOtherVersion(t *testing.T) {
	c := mountCounted(t, 0, Options{}, nil)
	for i := range 5 {
		text := pattern(100_000 + i)[i:] // the same size, other bytes
		c.put(t, "/f", text)
		for range 2 {
			if got, err := os.ReadFile(c.dir + "/f"); err != nil || string(got) != text {
				t.Fatalf("version %d: read %d bytes that start with %.20q, %v", i, len(got), got, err)
			}
		}
	}
}
