package writeback

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// sweeping is a backend that is asked to sweep and keeps the tags of its puts.
type sweeping struct {
	remote.Backend
	mu    sync.Mutex
	tags  []string // guarded by mu; of puts
	swept []string // guarded by mu; paths
	dead  func(string) bool
}

func (b *sweeping) Put(ctx context.Context, path string, src remote.Source, o remote.PutOptions) (remote.Entry, error) {
	b.mu.Lock()
	b.tags = append(b.tags, o.Tag)
	b.mu.Unlock()
	return b.Backend.Put(ctx, path, src, o)
}

func (b *sweeping) Sweep(_ context.Context, path string, _ int64, dead func(string) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.swept, b.dead = append(b.swept, path), dead
	return nil
}

// TestSweepAfterDeath: the next process has removed what the one before has left of its
// uploads, before it repeats them, and nothing of its own or of what goes on.
func TestSweepAfterDeath(t *testing.T) {
	dir := t.TempDir()
	below := &sweeping{Backend: memory.New(memory.Options{})}
	session := func(names ...string) (tag string) {
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Wrap(below, Policy{Tree: "x", Name: "/x"})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if _, err := b.Put(t.Context(), name, remotetest.Bytes([]byte(name)), remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if len(names) == 0 { // the last one uploads
			s.Start()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := s.Drain(ctx); err != nil {
				t.Fatal(err)
			}
			below.check(t, s)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return s.tag
	}
	first := session("/f", "/g")
	last := session()
	if len(first) != len(last) || first[:signatureLen] != last[:signatureLen] || first == last {
		t.Errorf("tags %q and %q", first, last)
	}
	if !below.dead(first) || !below.dead(first+"0123") || below.dead(last) || below.dead(last+"0123") || below.dead("0123") || below.dead("") {
		t.Error("what is dead is alive, or the other way round")
	}
	if slices.Sort(below.swept); !slices.Equal(below.swept, []string{"/f", "/g"}) {
		t.Errorf("swept %q", below.swept)
	}
}

// check looks at the tags of the puts.
func (b *sweeping) check(t *testing.T, s *Store) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.tags) != 2 || b.tags[0] != s.tag || b.tags[1] != s.tag || s.tag == "" {
		t.Errorf("puts bear %q, and the tag is %q", b.tags, s.tag)
	}
	if name := s.uploadName(); len(name) > 64 || s.dead(name) {
		t.Errorf("a name for going on: %q", name)
	}
}
