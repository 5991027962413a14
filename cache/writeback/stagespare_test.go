package writeback

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshmount/meshmount/remote"
)

func sizesIn(t *testing.T, dir, pattern string) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		sizes[filepath.Base(name)] = info.Size()
	}
	return sizes
}

// placeOf is the file in which a content lies.
func placeOf(st *Stage) string {
	file, _ := st.Place()
	return file
}

// TestSpareStages: files that nobody needs are used again, empty, under names that were never
// given before; no more are kept than is said.
func TestSpareStages(t *testing.T) {
	s := &Stages{dir: t.TempDir(), spares: spares{most: 2}}
	given := map[string]bool{}
	make3 := func() (all []*Stage) {
		for n := range 3 {
			st, err := s.New(nil, 0, remote.Entry{})
			if err != nil {
				t.Fatal(err)
			}
			if given[st.own] {
				t.Errorf("the name %s is given twice", st.own)
			}
			given[st.own] = true
			if info, err := os.Stat(placeOf(st)); err != nil || info.Size() != 0 || info.Mode().Perm() != 0o600 {
				t.Errorf("a new staging file: %v, %v", info, err)
			}
			if _, err := st.WriteAt(fmt.Appendf(nil, "text %d", n), 0); err != nil {
				t.Error(err)
			}
			all = append(all, st)
		}
		return all
	}
	for range 3 {
		for _, st := range make3() {
			st.Release()
		}
		if left := sizesIn(t, s.dir, stagePrefix+"*"); len(left) > 0 {
			t.Errorf("names of staging files are left: %v", left)
		}
		spare := sizesIn(t, s.dir, tempPrefix+"*")
		if len(spare) != 2 {
			t.Errorf("%d spare files, want 2", len(spare))
		}
		for name, size := range spare {
			if size != 0 {
				t.Errorf("%s has %d bytes", name, size)
			}
		}
	}
	if err := s.spares.clear(); err != nil {
		t.Error(err)
	}
	for _, st := range make3() {
		st.Release()
	}
	if left := sizesIn(t, s.dir, "*"); len(left) > 0 {
		t.Errorf("left after clear: %v", left)
	}
}

// TestSpareMovedAway: a staging file that was moved to another name stays as it is there.
func TestSpareMovedAway(t *testing.T) {
	s := &Stages{dir: t.TempDir(), spares: spares{most: 2}}
	st, err := s.New(nil, 0, remote.Entry{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.WriteAt([]byte("precious"), 0); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(s.dir, "lost-1")
	if err := os.Rename(placeOf(st), kept); err != nil {
		t.Fatal(err)
	}
	st.Release()
	if _, err := s.New(nil, 10, remote.Entry{}); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != "precious" {
		t.Errorf("what was moved away: %q, %v", text, err)
	}
}
