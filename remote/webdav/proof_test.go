package webdav

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// sluggish is a Nextcloud whose looks wait until they are let go.
type sluggish struct {
	content []byte
	tag     atomic.Value
	looks   atomic.Int64
	begun   chan struct{} // a look has begun
	goOn    chan struct{} // one may go on
}

func newSluggish() *sluggish {
	s := &sluggish{content: bytes.Repeat([]byte("0123456789"), 100), begun: make(chan struct{}, 100), goOn: make(chan struct{}, 100)}
	s.tag.Store("v1")
	return s
}

// play answers.
func (s *sluggish) play(w http.ResponseWriter, r *http.Request) {
	if r.Method != "PROPFIND" {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.content))
		return
	}
	s.looks.Add(1)
	tag := s.tag.Load().(string)
	s.begun <- struct{}{}
	select {
	case <-s.goOn:
	case <-r.Context().Done():
	}
	capture{207, http.Header{}, propfindOf("/f", tag, len(s.content))}.write(w)
}

// part reads a part.
func (s *sluggish) part(ctx context.Context, b *Backend, off int) error {
	p := make([]byte, 10)
	_, err := b.ReadAt(ctx, remote.Ref{Path: "/f", Version: "v1", Size: int64(len(s.content))}, p, int64(off))
	if err == nil && !bytes.Equal(p, s.content[off:off+10]) {
		return errors.New("other bytes")
	}
	return err
}

// waiting tells how many calls share the proofs of /f.
func waiting(b *Backend) int {
	b.proofs.mu.Lock()
	defer b.proofs.mu.Unlock()
	if p := b.proofs.paths["/f"]; p != nil {
		return p.users
	}
	return 0
}

// TestSharedProofs: parts that are read side by side share looks, and none takes one
// that began before its bytes were there.
func TestSharedProofs(t *testing.T) {
	s := newSluggish()
	b := newStage(t, s.play).actor(t, Nextcloud, "")
	const parts = 12
	errs := make(chan error, parts)
	go func() { errs <- s.part(t.Context(), b, 0) }()
	<-s.begun
	for i := range parts - 1 {
		go func() { errs <- s.part(t.Context(), b, 10*i) }()
	}
	until(t, "all wait", func() bool { return waiting(b) == parts })
	s.tag.Store("v2") // before the second look, and after the first
	s.goOn <- struct{}{}
	if err := <-errs; err != nil {
		t.Errorf("the first part: %v", err)
	}
	s.goOn <- struct{}{}
	for range parts - 1 {
		isKind(t, <-errs, remote.Changed)
	}
	if got := s.looks.Load(); got != 2 {
		t.Errorf("%d looks for %d parts, want 2", got, parts)
	}
	until(t, "nothing is left", func() bool { return waiting(b) == 0 })
}

// TestProofCancelled: the end of the caller that looks is not the end of those that wait
// with it.
func TestProofCancelled(t *testing.T) {
	s := newSluggish()
	b := newStage(t, s.play).actor(t, Nextcloud, "")
	first, cancel := context.WithCancel(t.Context())
	defer cancel()
	firstErr := make(chan error, 1)
	go func() { firstErr <- s.part(first, b, 0) }()
	<-s.begun // holds the turn
	var wg sync.WaitGroup
	second, cancelSecond := context.WithCancel(t.Context())
	defer cancelSecond()
	var secondErr error
	wg.Go(func() { secondErr = s.part(second, b, 10) })
	wg.Go(func() {
		if err := s.part(t.Context(), b, 20); err != nil {
			t.Errorf("the third: %v", err)
		}
	})
	until(t, "all wait", func() bool { return waiting(b) == 3 })
	cancel()
	if err := <-firstErr; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	<-s.begun // one of the others looks
	cancelSecond()
	close(s.goOn) // cancelled handlers may take what others wait for
	wg.Wait()
	if secondErr != nil && !errors.Is(secondErr, context.Canceled) {
		t.Errorf("the second: %v", secondErr)
	}
}
