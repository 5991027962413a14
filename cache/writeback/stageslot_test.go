package writeback

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// shared returns a directory of staging files in which small contents share some.
func shared(t *testing.T) *Stages {
	dir := t.TempDir()
	return &Stages{dir: dir, slots: slots{dir: dir, all: map[string]*segment{}}}
}

// contentOf returns all bytes of a Stage.
func contentOf(t *testing.T, st *Stage) []byte {
	t.Helper()
	p := make([]byte, st.Size())
	if n, err := st.ReadAt(t.Context(), p, 0); n < len(p) {
		t.Fatalf("%d of %d bytes: %v", n, len(p), err)
	}
	src, err := st.Source().Open()
	if err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(src); err != nil || !bytes.Equal(all, p) {
		t.Fatalf("a source gives other bytes than a reader (%v)", err)
	}
	return p
}

// TestSlotsAgainstMemory does random things to many contents at once that lie in shared files,
// and to byte slices.
func TestSlotsAgainstMemory(t *testing.T) {
	s := shared(t)
	var all sync.WaitGroup
	for worker := range uint64(4) {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(worker, 1))
			for range 60 {
				st, err := s.New(nil, 0, remote.Entry{})
				if err != nil {
					t.Error(err)
					return
				}
				var want []byte
				for range dice.IntN(12) {
					off := dice.IntN(len(want) + 3000)
					switch dice.IntN(5) {
					case 0:
						off %= 2 * maxSlot
						if err := st.Truncate(int64(off)); err != nil {
							t.Error(err)
						}
						want = append(want, make([]byte, max(0, off-len(want)))...)[:off]
					case 1:
						if want := want[:len(want):len(want)]; !bytes.Equal(contentOf(t, st), want) {
							t.Error("other bytes in between")
						}
					default:
						p := bytes.Repeat([]byte{byte(1 + dice.IntN(255))}, 1+dice.IntN(20_000))
						if _, err := st.WriteAt(p, int64(off)); err != nil {
							t.Error(err)
						}
						want = append(want, make([]byte, max(0, off+len(p)-len(want)))...)
						copy(want[off:], p)
					}
				}
				if found := contentOf(t, st); !bytes.Equal(found, want) {
					t.Errorf("%d bytes, want %d, or other ones", len(found), len(want))
				}
				st.Release()
			}
		})
	}
	all.Wait()
	s.slots.clear()
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Errorf("%d files are left, as %s", len(left), left[0].Name())
	}
	if s.slots.dead != 0 || len(s.slots.all) > 0 {
		t.Errorf("%d bytes of %d segments are counted", s.slots.dead, len(s.slots.all))
	}
}

// TestSlotsGivenOnce: no place is given twice while its file is there, and a file goes with
// the last of its contents.
func TestSlotsGivenOnce(t *testing.T) {
	s := shared(t)
	places := map[string]bool{}
	var kept []*Stage
	for n := range 1000 {
		st, err := s.New(nil, 0, remote.Entry{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.WriteAt(make([]byte, 10_000), 0); err != nil {
			t.Fatal(err)
		}
		file, off := st.Place()
		if name := fmt.Sprint(file, off); places[name] {
			t.Fatalf("%s is given twice", name)
		} else {
			places[name] = true
		}
		if n%300 == 7 {
			kept = append(kept, st)
		} else {
			st.Release()
		}
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "*"))
	if len(files) > len(kept)+1 {
		t.Errorf("%d files for %d contents", len(files), len(kept))
	}
	for _, st := range kept {
		st.Release()
	}
	if files, _ = filepath.Glob(filepath.Join(s.dir, "*")); len(files) > 1 {
		t.Errorf("%d files for nothing", len(files))
	}
}

// TestMovedAfterCommit kills a process that has written on what it had committed, so that it
// had to lie elsewhere, before and after it committed that.
func TestMovedAfterCommit(t *testing.T) {
	for _, again := range []bool{false, true} {
		for _, size := range []int{6000, 3 * maxSlot} {
			w := newSite(t, memory.Options{}, Policy{})
			st, err := w.b.NewStage(0, remote.Entry{})
			if err != nil {
				t.Fatal(err)
			}
			commit := func(content string, off int64) {
				t.Helper()
				if _, err := st.WriteAt([]byte(content), off); err != nil {
					t.Fatal(err)
				}
				if content[0] == 'x' && !again {
					return
				}
				if _, err := w.b.Commit(context.Background(), "/f", st, Commit{Sync: true}); err != nil {
					t.Fatal(err)
				}
			}
			commit("first", 0)
			before, at := st.Place()
			w.put("/next", "in the way") // so that it cannot grow where it is
			commit(strings.Repeat("x", size), 5)
			if after, now := st.Place(); before == after && at == now {
				t.Fatal("it is where it was")
			}
			dead := t.TempDir()
			copyDir(t, w.dir, dead)
			st.Release()
			if err := w.s.Close(); err != nil {
				t.Fatal(err)
			}
			w.dir, w.opts.BootID = dead, "another"
			w.open()
			want := "first"
			if again {
				want += strings.Repeat("x", size)
			}
			has(t, w.b, "/f", want)
			has(t, w.b, "/next", "in the way")
			w.s.Start()
			w.flush()
			has(t, w.server, "/f", want)
			has(t, w.server, "/next", "in the way")
		}
	}
}

// TestSegmentIsGone parks what lay in a shared file that is gone, or is shorter than it was.
func TestSegmentIsGone(t *testing.T) {
	for name, harm := range map[string]func(string) error{
		"gone":    os.Remove,
		"shorter": func(name string) error { return os.Truncate(name, 100) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newSite(t, memory.Options{}, Policy{})
			w.put("/a", "a")
			w.put("/b", "b")
			file := filepath.Base(w.s.Status().Items[0].Staged)
			dead := t.TempDir()
			copyDir(t, w.dir, dead)
			if err := w.s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := harm(filepath.Join(dead, "staging", file)); err != nil {
				t.Fatal(err)
			}
			w.dir = dead
			w.open()
			w.s.Start()
			w.put("/c", "c")
			eventually(t, "the others are there", func() bool { return len(w.s.Status().Items) == 2 })
			for _, i := range w.s.Status().Items {
				if i.State != Parked || i.Kind != remote.Corrupt {
					t.Errorf("%+v", i)
				}
				if err := w.s.Drop(i.ID); err != nil {
					t.Error(err)
				}
			}
			has(t, w.server, "/c", "c")
			if _, err := w.server.Stat(t.Context(), "/a"); !errors.Is(err, remote.NotExist) {
				t.Errorf("it was sent: %v", err)
			}
		})
	}
}

// TestLeftHaveOwnFiles wants what is parked, and what is left at the end, to lie in files of which
// nothing else is in them.
func TestLeftHaveOwnFiles(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	own := func() {
		t.Helper()
		for _, i := range w.s.Status().Items {
			text, err := os.ReadFile(i.Staged)
			if err != nil || string(text) != "content of "+i.Path || i.Offset != 0 {
				t.Errorf("%s: %.100q, %v", i.Path, text, err)
			}
		}
	}
	w.b.below = remote.Intercept(w.server, func(ctx context.Context, c *remote.Call, next remote.Next) error {
		if c.Op != remote.OpPut {
			return next(ctx)
		}
		return c.Fail(remote.Permission, nil)
	})
	w.put("/parked", "content of /parked")
	w.s.Start()
	eventually(t, "it is parked", func() bool { return w.s.Status().Items[0].State == Parked })
	own()
	w.s.Pause()
	w.put("/left", "content of /left")
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	own()
	w.open()
	if n := len(w.s.Status().Items); n != 2 {
		t.Errorf("%d changes", n)
	}
	own()
}

// TestSegmentsOfManyMounts keeps changes over some mounts, each of which adds some, and wants
// every file to go when they have been sent.
func TestSegmentsOfManyMounts(t *testing.T) {
	w := newSite(t, memory.Options{}, Policy{})
	want := map[string]string{}
	for n := range 4 {
		for i := range 30 {
			path := fmt.Sprintf("/%d-%d", n, i)
			want[path] = strings.Repeat(path, 1+i*40)
			w.put(path, want[path])
		}
		if n > 0 { // one of an earlier mount is written again, and one is dropped
			path := fmt.Sprintf("/%d-%d", n-1, n)
			want[path] = "again"
			w.put(path, "again")
		}
		if err := w.s.Close(); err != nil {
			t.Fatal(err)
		}
		w.open()
		for path, content := range want {
			has(t, w.b, path, content)
		}
	}
	w.s.Start()
	w.flush()
	for path, content := range want {
		has(t, w.server, path, content)
	}
	if err := w.s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(w.dir, "staging", "*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	w.open()
}
