package cache

import (
	"bytes"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestLocal asks for what is at hand: what was read is, what was not is not, and no
// request is made for an answer.
func TestLocal(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	block := w.store.BlockSize()
	data := remotetest.Pattern(5*block+1000, 1)
	ref := w.file(t, "/f", data)
	p := make([]byte, 3*block)
	if n, ok := w.ReadLocal(ref, p, 0); ok || w.HasLocal(ref, 0, ref.Size) != 0 {
		t.Fatalf("%d bytes are here before anything was read", n)
	}
	w.want(t, ref, data, block, 2*block)
	w.want(t, ref, data, 5*block, 1000)
	w.fetched(t)
	calls, _ := w.reads()
	for _, c := range []struct {
		off, n int
		ok     bool
		has    int
	}{
		{block, 2 * block, true, 2 * block},
		{block + 7, block, true, block},
		{2*block - 5, 10, true, 10},
		{0, 10, false, 0},
		{2 * block, 2 * block, false, block},
		{5 * block, 1000, true, 1000},
		{5*block + 900, 4096, true, 100},
		{5*block + 1000, 10, true, 0},
	} {
		got, ok := w.ReadLocal(ref, p[:c.n], int64(c.off))
		want := data[min(c.off, len(data)):min(c.off+c.n, len(data))]
		if ok != c.ok || ok && !bytes.Equal(p[:got], want) {
			t.Errorf("%d bytes at %d: %d, %v, or other bytes", c.n, c.off, got, ok)
		}
		if has := w.HasLocal(ref, int64(c.off), int64(c.n)); has != int64(c.has) {
			t.Errorf("%d of %d bytes at %d are said to be here", has, c.n, c.off)
		}
	}
	if n, ok := w.ReadLocal(remote.Ref{Path: "/f", Size: ref.Size}, p, int64(block)); ok {
		t.Errorf("%d bytes of no version are here", n)
	}
	w.Invalidate("/f")
	if n, ok := w.ReadLocal(ref, p[:10], int64(block)); ok {
		t.Errorf("%d bytes are here after they were dropped", n)
	}
	if now, _ := w.reads(); now != calls {
		t.Errorf("%d requests were made", now-calls)
	}
}

// TestLocalPieces: pieces in memory are at hand.
func TestLocalPieces(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{Piece: 8 << 10})
	block := w.store.BlockSize()
	data := remotetest.Pattern(8*block, 2)
	ref := w.file(t, "/f", data)
	off := 5*block + 3*8192
	w.want(t, ref, data, off+100, 200)
	w.fetched(t)
	p := make([]byte, 8192)
	if n, ok := w.ReadLocal(ref, p, int64(off)); !ok || !bytes.Equal(p[:n], data[off:off+8192]) {
		t.Errorf("the piece gives %d bytes, %v, or others", n, ok)
	}
	if n, ok := w.ReadLocal(ref, p, int64(off)+1); ok {
		t.Errorf("%d bytes across the piece's end", n)
	}
}

// TestRoom: an empty store has room for all of its blocks, a full one for few.
func TestRoom(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	s, c := w.store, w.Cached
	all := s.Stats().MaxSlots
	if n := c.Room(); n != all {
		t.Errorf("room for %d of %d", n, all)
	}
	for i := range all {
		s.Put(Key{Branch: "a", Object: "/f", Version: "v", Index: uint32(i)}, []byte("x"), Normal)
	}
	if n := c.Room(); n < 1 || n > all/10 {
		t.Errorf("when it is full, room for %d of %d", n, all)
	}
}
