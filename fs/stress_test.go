package fs

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// TestConcurrentPrograms lets many programs and somebody else's changes work on the
// same few names. Nothing may hang, no error may appear that a local file system
// or a change elsewhere could not explain, and each read sees whole contents: every
// content is one byte repeated.
func TestConcurrentPrograms(t *testing.T) {
	w := newWorld(t, memory.Options{}, func(b *[]Branch) { (*b)[0].AttrTTL, (*b)[0].DirTTL = time.Millisecond, time.Millisecond })
	for _, d := range []string{"/a/d0", "/a/d1"} {
		_, err := w.Mkdir(t.Context(), d, 0o755)
		w.must(err)
	}
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(g, 5))
			for range 300 {
				if err := w.program(r); err != nil && !explained(err) {
					t.Errorf("program %d: %v", g, err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(77, 5))
		for range 100 {
			p := (&model{}).path(r)[len("/a"):]
			_, err := w.a.Put(t.Context(), p, text(whole(r)), remote.PutOptions{})
			if err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Minute):
		panic("the programs hang")
	}
	w.mu.Lock()
	if len(w.files) != 0 || len(w.byIno) != 0 {
		t.Errorf("%d names and %d numbers are still open", len(w.files), len(w.byIno))
	}
	w.mu.Unlock()
	w.drain()
	for _, d := range []string{"/", "/d0", "/d1"} {
		w.must(w.a.List(t.Context(), d, func(e remote.Entry) error {
			if e.Type == remote.File && !uniform(w.server(e.Path)) {
				t.Errorf("%s on the server is a mixture", e.Path)
			}
			return nil
		}))
	}
}

// explained tells whether simultaneous changes account for the error.
func explained(err error) bool {
	switch remote.KindOf(err) {
	case remote.NotExist, remote.Exist, remote.Changed, remote.Conflict:
		return true
	}
	return false
}

func whole(r *rand.Rand) string {
	b := make([]byte, r.IntN(5000))
	c := byte('a' + r.IntN(26))
	for i := range b {
		b[i] = c
	}
	return string(b)
}

func uniform(s string) bool {
	for i := range s {
		if s[i] != s[0] {
			return false
		}
	}
	return true
}

// program does one thing that programs do.
func (w *world) program(r *rand.Rand) error {
	ctx, m := w.t.Context(), &model{}
	p, q := m.path(r), m.path(r)
	switch r.IntN(6) {
	case 0, 1: // write a new file and rename it into place
		tmp := fmt.Sprintf("%s.tmp%d", p, r.Uint64())
		h, _, err := w.Create(ctx, tmp, syscall.O_WRONLY|syscall.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = h.WriteAt(ctx, []byte(whole(r)), 0)
		err = errors.Join(err, h.Flush(ctx))
		h.Release()
		return errors.Join(err, w.Rename(ctx, tmp, p, 0))
	case 2:
		return w.Unlink(ctx, p)
	case 3:
		return w.Rename(ctx, p, q, 0)
	case 4:
		d, err := w.OpenDir(ctx, parent(p))
		if err != nil {
			return err
		}
		defer d.Close()
		for err == nil {
			_, err = d.Next(ctx)
		}
		if err == io.EOF {
			err = nil
		}
		return err
	}
	h, err := w.Open(ctx, p, syscall.O_RDONLY)
	if err != nil {
		return err
	}
	defer h.Release()
	b := make([]byte, 6000)
	n, err := h.ReadAt(ctx, b, 0)
	if err == nil && (!uniform(string(b[:n])) || int64(n) != h.Attr().Size) {
		return fmt.Errorf("read a mixture of %d bytes, size %d", n, h.Attr().Size)
	}
	return err
}
