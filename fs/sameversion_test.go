package fs

import (
	"bytes"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// repeated is a large content of one byte.
type repeated struct {
	b    byte
	size int64
}

func (r repeated) Size() int64                  { return r.size }
func (r repeated) Open() (io.ReadCloser, error) { return io.NopCloser(&repeater{r}), nil }

type repeater struct{ repeated }

func (r *repeater) Read(p []byte) (int, error) {
	if r.size == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), r.size))
	for done := copy(p[:n], []byte{r.b}); done < n; done *= 2 { // the race detector looks at each store
		copy(p[done:n], p[:done])
	}
	r.size -= int64(n)
	return n, nil
}

// TestContentsOfOneMomentAreNotMixed changes a file that is too large to be read in one
// piece twice within the time in which the server gives both contents the same version.
func TestContentsOfOneMomentAreNotMixed(t *testing.T) {
	s := newStrange(t, memory.Options{WeakVersions: true, Granularity: time.Second}, func(b *Branch) {
		uncached(b)
		b.Blocks = newStore(t).Wrap(b.Backend, cache.Policy{Branch: "a"})
		b.Backend = b.Blocks
	})
	const size = wholeIfShaky + 1<<20
	change := func(c byte) {
		_, err := s.a.Put(t.Context(), "/f", repeated{c, size}, remote.PutOptions{})
		s.must(err)
	}
	is := func(h *Handle, want byte, off int64) {
		t.Helper()
		p := make([]byte, 100)
		if n, err := h.ReadAt(t.Context(), p, off); err != nil || !bytes.Equal(p[:n], bytes.Repeat([]byte{want}, 100)) {
			t.Fatalf("at %d: %q %v, want %q", off, p[:n], err, want)
		}
	}
	change('1')
	h := s.open("/a/f", syscall.O_RDONLY)
	is(h, '1', 0)
	h.Release()
	change('2')
	h = s.open("/a/f", syscall.O_RDONLY)
	is(h, '2', 0)
	is(h, '2', size-100)
	h.Release()
	change('3') // and a part of it is changed here: the rest comes from the server
	h = s.open("/a/f", syscall.O_RDWR)
	s.put(h, "part", 0)
	s.must(h.Flush(t.Context()))
	is(h, '3', 4)
	h.Release()
	p := make([]byte, 100)
	_, err := s.a.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: size}, p, 4)
	s.must(err)
	if !bytes.Equal(p, bytes.Repeat([]byte{'3'}, 100)) {
		t.Errorf("the server has %q behind what was changed", p)
	}
}
