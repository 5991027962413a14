package cache

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const damaged = 24 // blocks in the stores of these tests

// filled makes a directory with blocks in it, index tables included.
func filled(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	for n := range damaged {
		put(t, s, key("/d", n))
	}
	closeStore(t, s)
	return dir
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, off int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var b [1]byte
	if _, err := file.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (off % 8)
	if _, err := file.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

// found counts the blocks that are served; checkGet fails if one is wrong.
func found(t *testing.T, s *Store) int {
	t.Helper()
	n := 0
	for i := range damaged {
		if checkGet(t, s, key("/d", i), 0, testBlock) {
			n++
		}
	}
	return n
}

// TestFlippedBlocks flips bits in the bytes and headers of blocks: they are misses,
// all others are served, and the place can be used again.
func TestFlippedBlocks(t *testing.T) {
	dir := filled(t)
	s := openStore(t, dir, testOptions())
	dice := rand.New(rand.NewPCG(1, 2))
	for n := range 12 {
		k := key("/d", n)
		loc, err := s.index.get(k.ident(0).id)
		if err != nil {
			t.Fatal(err)
		}
		at := s.slab.at(loc.slot)
		off := at.off + int64(dice.IntN(headerSize))
		if n%2 == 0 {
			off = at.off + headerSize + int64(dice.IntN(lengthOf(k)))
		}
		flip(t, at.file.Name(), off)
		if checkGet(t, s, k, 0, testBlock) {
			t.Errorf("block %d is served after a bit was flipped at %d of its slot", n, off-at.off)
		}
		if checkGet(t, s, k, 0, testBlock) || !put(t, s, k) || !checkGet(t, s, k, 0, testBlock) {
			t.Errorf("block %d cannot be put again", n)
		}
	}
	if got := found(t, s); got != damaged {
		t.Errorf("%d of %d blocks are left", got, damaged)
	}
	if st := s.Stats(); st.Corrupt != 12 || st.State != StateReady {
		t.Errorf("%+v", st)
	}
}

// TestSmallReadOfRot wants only the chunks checked that are read, and those always.
func TestSmallReadOfRot(t *testing.T) {
	s := openStore(t, filled(t), testOptions())
	k := key("/d", 0)
	loc, err := s.index.get(k.ident(0).id)
	if err != nil {
		t.Fatal(err)
	}
	at := s.slab.at(loc.slot)
	flip(t, at.file.Name(), at.off+headerSize+3*chunkSize+5)
	if !checkGet(t, s, k, 2*chunkSize+1, chunkSize-2) {
		t.Error("a chunk beside the rotten one is not served")
	}
	if checkGet(t, s, k, 3*chunkSize+100, 10) {
		t.Error("a piece of a rotten chunk is served")
	}
}

// TestMixedUp swaps slots and replaces them by older content.
func TestMixedUp(t *testing.T) {
	dir := filled(t)
	s := openStore(t, dir, testOptions())
	var slots [2][]byte
	var places [2]place
	for n := range slots {
		loc, err := s.index.get(key("/d", n).ident(0).id)
		if err != nil {
			t.Fatal(err)
		}
		places[n] = s.slab.at(loc.slot)
		slots[n] = make([]byte, s.slab.slotSize())
		if _, err := places[n].file.ReadAt(slots[n], places[n].off); err != nil {
			t.Fatal(err)
		}
	}
	for n := range slots {
		if _, err := places[1-n].file.WriteAt(slots[n], places[1-n].off); err != nil {
			t.Fatal(err)
		}
	}
	if got := found(t, s); got != damaged-2 {
		t.Errorf("%d blocks are served, want all but the 2 that were swapped", got)
	}
}

// TestCutSegment truncates a segment under a running store and between two.
func TestCutSegment(t *testing.T) {
	dir := filled(t)
	s := openStore(t, dir, testOptions())
	if err := os.Truncate(s.slab.path(0), 2*s.slab.slotSize()+100); err != nil {
		t.Fatal(err)
	}
	n := found(t, s)
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	if found(t, s) > n {
		t.Error("more is found after the store was opened again")
	}
	if k := key("/d", 0); !put(t, s, k) || !checkGet(t, s, k, 0, testBlock) {
		t.Errorf("the store does not work any more: %+v", s.Stats())
	}
}

// TestFlippedIndex flips bits in every file of the index and around it: Open works,
// and no wrong byte is served.
func TestFlippedIndex(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	intact := 0
	for _, crashed := range []bool{false, true} {
		dir := filled(t)
		if crashed {
			dir = afterCrash(t, dir)
		}
		rounds := 2
		if os.Getenv("MESHMOUNT_LONG") != "" {
			rounds = 20
		}
		for round := range rounds {
			for _, name := range indexFiles(t, dir) {
				copied := filepath.Join(t.TempDir(), fmt.Sprint("c", round))
				copyTree(t, dir, copied)
				st, err := os.Stat(filepath.Join(copied, name))
				if err != nil || st.Size() == 0 {
					t.Fatal(name, err)
				}
				flip(t, filepath.Join(copied, name), dice.Int64N(min(st.Size(), 2000)))
				s := openStore(t, copied, testOptions())
				n := found(t, s)
				if k := key("/d", 0); !put(t, s, k) || !checkGet(t, s, k, 0, testBlock) {
					t.Errorf("%s: the store does not work after a flipped bit: %+v", name, s.Stats())
				}
				if n == damaged {
					intact++
				}
				closeStore(t, s)
				if err := os.RemoveAll(copied); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("nothing was lost in %d cases", intact)
}

// afterCrash returns a copy of dir as a crash would leave it: with a log in use.
func afterCrash(t *testing.T, dir string) string {
	t.Helper()
	s := openStore(t, dir, testOptions())
	for n := range damaged {
		put(t, s, key("/later", n))
	}
	left := filepath.Join(t.TempDir(), "crashed")
	copyTree(t, dir, left)
	closeStore(t, s)
	return left
}

// indexFiles names the files of the index and its sums.
func indexFiles(t *testing.T, dir string) []string {
	t.Helper()
	names := []string{sumsName}
	entries, err := os.ReadDir(filepath.Join(dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Size() > 0 {
			names = append(names, filepath.Join(indexName, e.Name()))
		}
	}
	if all := strings.Join(names, " "); !strings.Contains(all, "MANIFEST") || !strings.Contains(all, ".sst") {
		t.Fatalf("files of the index: %s", all)
	}
	return names
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		if err != nil {
			return err
		} else if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		} else if d.Name() == ballastName {
			return nil
		}
		p, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), p, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestInspect(t *testing.T) {
	dir := filled(t)
	name := ObjectName{"b", "/d"}
	r, err := Inspect(t.Context(), dir)
	if err != nil || r.Full != damaged || r.Objects[name].Blocks != damaged || r.Broken != 0 || r.BlockSize != testBlock ||
		r.Full+r.Empty != r.Slots || r.DiskBytes < r.Bytes {
		t.Errorf("%+v, %v", r, err)
	}
	first := filepath.Join(dir, "000000"+segmentExt)
	flip(t, first, headerSize+77)
	flip(t, first, int64(headerSize+testBlock)+20)
	for n, want := range []int{2, 2, 0} {
		r, err := Verify(t.Context(), dir, n == 1)
		if err != nil || r.Broken != want || r.Full != damaged-2 {
			t.Errorf("Verify %d: %+v, %v", n, r, err)
		}
	}
	s := openStore(t, dir, testOptions())
	if got := found(t, s); got != damaged-2 {
		t.Errorf("%d blocks are left after the repair", got)
	}
	if r, err := Inspect(t.Context(), dir); err != nil || r.Full != damaged-2 {
		t.Errorf("Inspect of a store in use: %+v, %v", r, err)
	}
	closeStore(t, s)
	if err := Clear(dir); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("after Clear: %v, %v", entries, err)
	}
	s = openStore(t, dir, testOptions())
	if got := found(t, s); got != 0 || !put(t, s, key("/d", 0)) {
		t.Errorf("%d blocks are served after Clear", got)
	}
}

// TestVerifyMetadata wants listings to be counted, and broken ones to be found.
func TestVerifyMetadata(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	for i := range 20 {
		save(s.Tree("b"), listing(fmt.Sprint("/", i), 10, i))
	}
	closeStore(t, s)
	if r, err := Verify(t.Context(), dir, false); err != nil || r.Listings != 20 || r.BrokenListings != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	path := segmentPath(filepath.Join(dir, metaDirName), 1)
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[metaHead+recordHead+30] ^= 1
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := Verify(t.Context(), dir, false); err != nil || r.Listings != 20 || r.BrokenListings != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Inspect(t.Context(), dir); err != nil || r.Listings != 20 || r.BrokenListings != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
