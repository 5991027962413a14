package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/meshmount/meshmount/fs"
)

// numbers is a stream of n entries that fails at entry bad, if bad is not 0.
type numbers struct {
	n, bad  int
	next    int
	rewinds int
}

func (s *numbers) Next(ctx context.Context) (fs.DirEntry, error) {
	if err := ctx.Err(); err != nil {
		return fs.DirEntry{}, err
	}
	if s.next++; s.next == s.bad {
		s.next--
		return fs.DirEntry{}, errBad
	}
	if s.next > s.n {
		return fs.DirEntry{}, io.EOF
	}
	return fs.DirEntry{Name: fmt.Sprint(s.next), Attr: fs.Attr{Ino: uint64(s.next)}}, nil
}

func (s *numbers) Rewind() { s.next = 0; s.rewinds++ }

var errBad = errors.New("bad entry")

// answer takes up to room entries after off, as an answer to the kernel does.
func answer(t *testing.T, c *cursor, off uint64, room int) (inos []uint64) {
	t.Helper()
	if err := c.seek(t.Context(), off); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		t.Fatal(err)
	}
	for {
		e, at, _, err := c.take(t.Context())
		if errors.Is(err, io.EOF) {
			return inos
		}
		if err != nil {
			t.Fatal(err)
		}
		if at != e.Attr.Ino {
			t.Fatalf("entry %d has offset %d", e.Attr.Ino, at)
		}
		if len(inos) == room {
			c.putBack()
			return inos
		}
		inos = append(inos, e.Attr.Ino)
	}
}

func TestCursorAnyOffset(t *testing.T) {
	const n = 100
	src := &numbers{n: n}
	c := &cursor{src: src}
	for range 2000 {
		off, room := rand.Uint64N(n+5), 1+rand.IntN(20)
		got := answer(t, c, off, room)
		want := max(0, min(room, n-int(off)))
		if len(got) != want {
			t.Fatalf("%d entries after %d, want %d", len(got), off, want)
		}
		for i, ino := range got {
			if ino != off+uint64(i)+1 {
				t.Fatalf("after %d: %v", off, got)
			}
		}
		if len(c.kept) > 20+1 {
			t.Fatalf("%d entries are kept for answers of at most 20", len(c.kept))
		}
	}
}

// The kernel drops the end of an answer that does not fit the program's buffer and
// asks again from there: that must not read the directory again.
func TestCursorReplay(t *testing.T) {
	src := &numbers{n: 1000}
	c := &cursor{src: src}
	off := uint64(0)
	var all []uint64
	for {
		got := answer(t, c, off, 50)
		if len(got) == 0 {
			break
		}
		used := got[:min(len(got), 30)]
		all = append(all, used...)
		off += uint64(len(used))
	}
	if len(all) != 1000 || src.rewinds != 0 {
		t.Errorf("%d entries with %d rewinds", len(all), src.rewinds)
	}
}

func TestCursorTold(t *testing.T) {
	c := &cursor{src: &numbers{n: 10}}
	take := func(off uint64, want ...bool) {
		t.Helper()
		if err := c.seek(t.Context(), off); err != nil {
			t.Fatal(err)
		}
		for i, w := range want {
			_, at, again, err := c.take(t.Context())
			if err != nil || again != w {
				t.Fatalf("entry %d after %d: again %v, %v", i, off, again, err)
			}
			c.told = max(c.told, at)
		}
	}
	take(0, false, false, false, false)
	take(2, true, true, false)
	take(5, false)
	take(1, false, false) // read anew: other entries may have these offsets
}

func TestCursorErrors(t *testing.T) {
	src := &numbers{n: 10, bad: 5}
	c := &cursor{src: src}
	for i := range 4 {
		if _, _, _, err := c.take(t.Context()); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	if err := c.seek(t.Context(), 4); err != nil {
		t.Errorf("seek to before the bad one: %v", err)
	}
	for range 2 {
		if _, _, _, err := c.take(t.Context()); !errors.Is(err, errBad) {
			t.Errorf("take of the bad one: %v", err)
		}
	}
	if err := c.seek(t.Context(), 8); !errors.Is(err, errBad) {
		t.Errorf("seek beyond the bad one: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	src.bad = 0
	if err := c.seek(ended, 8); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted seek: %v", err)
	}
	if got := answer(t, c, 8, 5); len(got) != 2 {
		t.Errorf("after the interrupt: %v", got)
	}
}
