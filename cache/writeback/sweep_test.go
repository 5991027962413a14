package writeback

import (
	"context"
	"errors"
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

// littered is a server with an unfinished upload in a directory, which does not let it be
// removed until it is swept.
type littered struct {
	sweeping
	place string // guarded by mu; that directory, "" if it was swept
}

func (b *littered) Remove(ctx context.Context, path string, o remote.RemoveOptions) error {
	b.mu.Lock()
	full := path == b.place
	b.mu.Unlock()
	if full {
		return &remote.Error{Op: "remove", Path: path, Kind: remote.NotEmpty}
	}
	return b.sweeping.Backend.Remove(ctx, path, o)
}

func (b *littered) Sweep(ctx context.Context, path string, size int64, dead func(string) bool) error {
	b.mu.Lock()
	if dir, _ := remote.Split(path); dir == b.place {
		b.place = ""
	}
	b.mu.Unlock()
	return b.sweeping.Sweep(ctx, path, size, dead)
}

// TestSweepBeforeRmdir: a directory that is empty but for an upload of a process that has died,
// to a name that nobody knows any more, is removed.
func TestSweepBeforeRmdir(t *testing.T) {
	below := &littered{sweeping: sweeping{Backend: memory.New(memory.Options{})}, place: "/d/e"}
	for _, path := range []string{"/d", "/d/e"} {
		if _, err := below.Mkdir(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, err := s.Wrap(below, Policy{Tree: "x", Name: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if err := b.RemoveDir(t.Context(), "/d/e"); err != nil {
		t.Fatal(err)
	}
	if err := s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := below.Stat(t.Context(), "/d/e"); !errors.Is(err, remote.NotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
	if len(below.swept) != 1 || below.dead(s.tag) {
		t.Errorf("swept were %q; what is under way is dead: %v", below.swept, below.dead(s.tag))
	}
}
