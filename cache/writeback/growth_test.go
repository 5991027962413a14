package writeback

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// grownTo makes a Stage of n bytes that is followed.
func grownTo(t *testing.T, n int) (*Stage, *growth) {
	t.Helper()
	s := &Stages{dir: t.TempDir()}
	st, err := s.New(nil, 0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.WriteAt(bytes.Repeat([]byte{'a'}, n), 0); err != nil {
		t.Fatal(err)
	}
	g := st.follow()
	if g == nil {
		t.Fatal("it cannot be followed")
	}
	t.Cleanup(func() {
		g.end()
		st.Release()
	})
	return st, g
}

// TestGrowthDoesNotWaitForTheDisk reads what is there while a write is under way, which the
// kernel may hold up for long.
func TestGrowthDoesNotWaitForTheDisk(t *testing.T) {
	st, g := grownTo(t, 1000)
	st.mu.Lock() // as a write does
	defer st.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		p := make([]byte, 1000)
		n, err := g.ReadAt(p, 0)
		if err == nil && (n != len(p) || bytes.Count(p, []byte{'a'}) != n) {
			err = errors.New("other bytes")
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the read waits for the write")
	}
}

// TestGrowthKnowsOfWritesUnderWay: at the end of an upload, a write that is changing what was
// sent is waited for, since it may have been read.
func TestGrowthKnowsOfWritesUnderWay(t *testing.T) {
	for what, change := range map[string]func(st *Stage){
		"a write": func(st *Stage) { st.wrote([]byte("b"), 500) },
		"a cut":   func(st *Stage) { st.front = 10; st.spoil() },
	} {
		t.Run(what, func(t *testing.T) {
			st, g := grownTo(t, 1000)
			if err := g.failed(); err != nil {
				t.Fatal(err)
			}
			st.mu.Lock()
			ended := make(chan error, 1)
			go func() { ended <- g.failed() }()
			change(st)
			st.mu.Unlock()
			if err := <-ended; !errors.Is(err, errTorn) {
				t.Errorf("the content is torn; the upload is told: %v", err)
			}
		})
	}
}

// TestGrowthCut: who reads what was just cut off is told that it is torn, not that the file
// is too short.
func TestGrowthCut(t *testing.T) {
	st, g := grownTo(t, 1000)
	if err := st.Truncate(10); err != nil {
		t.Fatal(err)
	}
	if _, err := g.ReadAt(make([]byte, 100), 500); !errors.Is(err, errTorn) {
		t.Errorf("reading what was cut off: %v", err)
	}
}

// TestGrowthNeverReadsAnotherFile: the file of a Stage that was given up is used again at once,
// maybe before the upload that follows it has heard of that.
func TestGrowthNeverReadsAnotherFile(t *testing.T) {
	s := &Stages{dir: t.TempDir(), spares: spares{most: 1}}
	one, err := s.New(nil, 0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.WriteAt(bytes.Repeat([]byte{'a'}, 1000), 0); err != nil {
		t.Fatal(err)
	}
	g := one.follow()
	if g == nil || one.complete(remote.Attrs{}) != g {
		t.Fatal("it cannot be followed")
	}
	defer g.end()
	if n, whole, err := g.Wait(t.Context(), 0); n != 1000 || !whole || err != nil {
		t.Fatal(n, whole, err)
	}
	one.Release()
	other, err := s.New(nil, 0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	if _, err := other.WriteAt(bytes.Repeat([]byte{'b'}, 1000), 0); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 1000)
	if n, err := g.ReadAt(p, 0); !errors.Is(err, errTorn) {
		t.Errorf("%d bytes, %v, %d of them of another file; want %v", n, err, bytes.Count(p[:n], []byte{'b'}), errTorn)
	}
}
