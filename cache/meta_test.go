package cache

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// listing makes one whose entries tell the generation.
func listing(dir string, entries, generation int) Listing {
	l := Listing{Dir: dir, Self: fmt.Sprint("self", generation), At: time.Now().Round(0)}
	for i := range entries {
		l.Entries = append(l.Entries, remote.Entry{
			Path: remote.Join(dir, fmt.Sprint("name", i)), Type: remote.File, Size: int64(i), MTime: time.Unix(int64(generation), 0).UTC(),
			Version: fmt.Sprintf("%032x", i*7+generation), ID: fmt.Sprintf("%08d", i),
			Checksum: remote.Checksum{Algorithm: "sha1", Hex: fmt.Sprintf("%040x", i)},
		})
	}
	return l
}

func save(tr *Tree, l Listing) { tr.Save(tr.Prepare(l)) }

// wantListing checks what is loaded; an age that may not be known is not compared.
func wantListing(t *testing.T, tr *Tree, want Listing, aged bool) {
	t.Helper()
	got, ok := tr.Load(want.Dir)
	if !ok {
		t.Errorf("%q is not known", want.Dir)
		return
	}
	if aged == got.At.IsZero() || aged && (got.At.Sub(want.At).Abs() > 50*time.Millisecond) {
		t.Errorf("%q: asked for at %v, loaded as %v", want.Dir, want.At, got.At)
	}
	got.At = want.At
	if len(want.Entries) == 0 {
		got.Entries, want.Entries = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q is not as it was saved:\n%+v\n%+v", want.Dir, got, want)
	}
}

func wantUnknown(t *testing.T, tr *Tree, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if l, ok := tr.Load(dir); ok {
			t.Errorf("%q is known: %+v", dir, l)
		}
	}
}

// odd is a listing with all that an entry can be.
func odd() Listing {
	l := listing("/odd/ dir\n", 0, 1)
	for b := 1; b < 256; b++ {
		if b != '/' {
			l.Entries = append(l.Entries, remote.Entry{Path: remote.Join(l.Dir, string([]byte{byte(b)})), Type: remote.Dir})
		}
	}
	l.Entries = append(l.Entries,
		remote.Entry{Path: l.Dir + "/link", Type: remote.Symlink, Target: "../x\x00y"},
		remote.Entry{Path: l.Dir + "/long" + strings.Repeat("x", 3000), Type: remote.File, Size: 1<<62 + 1, Provisional: true},
		remote.Entry{Path: l.Dir + "/old", Type: remote.File, MTime: time.Date(1, 2, 3, 4, 5, 6, 7, time.UTC), Mode: 0o7777, ModeKnown: true},
		remote.Entry{Path: l.Dir + "/new", Type: remote.File, MTime: time.Date(9999, 1, 1, 0, 0, 0, 999999999, time.UTC), ModeKnown: true,
			Access: remote.AccessKnown | remote.AccessRename},
		remote.Entry{Path: l.Dir + "/sum", Type: remote.File, Checksum: remote.Checksum{Algorithm: "md5", Hex: "ABCDEF"}},
		remote.Entry{Path: l.Dir + "/odd sum", Type: remote.File, Checksum: remote.Checksum{Algorithm: "x", Hex: "123"}},
		remote.Entry{Path: l.Dir + "/zero sum", Type: remote.File, Checksum: remote.Checksum{Algorithm: "adler32", Hex: "00000001"}})
	return l
}

func TestMetaRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	all := []Listing{listing("/", 3, 1), listing("/a", 0, 2), listing("/a/b", 100, 3), listing("/ab", 1, 4), odd()}
	theirs := listing("/a", 1, 9)
	for round := range 3 {
		s := openStore(t, dir, testOptions())
		tr, other := s.Tree("one"), s.Tree("two")
		for _, l := range all {
			if round == 0 {
				save(tr, l)
			}
			wantListing(t, tr, l, true)
		}
		wantUnknown(t, other, "/", "/a/b")
		wantUnknown(t, tr, "/b", "/a/", "", "/a/b/c")
		if round == 0 {
			save(other, theirs)
			tr.SetMark("m", "value\x00\n")
			tr.SetMark("empty", "")
		}
		wantListing(t, other, theirs, true)
		if got := tr.Mark("m"); got != "value\x00\n" || tr.Mark("none") != "" || other.Mark("m") != "" {
			t.Errorf("marks: %q %q %q", got, tr.Mark("none"), other.Mark("m"))
		}
		closeStore(t, s)
		wantUnknown(t, tr, "/none")
		save(tr, all[0]) // of no use
		tr.Forget("/")
	}
	var none *Tree
	save(none, all[0])
	none.Forget("/")
	none.ForgetTree("/")
	none.SetMark("m", "x")
	wantUnknown(t, none, "/")
}

func TestMetaForgets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	tr := s.Tree("b")
	for _, d := range []string{"/", "/a", "/a/b", "/a/b/c", "/ab", "/x", "/x/y"} {
		save(tr, listing(d, 2, 1))
	}
	closeStore(t, s) // they are on the disk, what follows comes later
	s = openStore(t, dir, testOptions())
	tr = s.Tree("b")
	tr.ForgetTree("/a")
	save(tr, listing("/a/b", 2, 2)) // after: counts
	tr.Forget("/x")
	tr.Forget("/x/y")
	save(tr, listing("/x/y", 2, 2))
	for range 2 {
		wantUnknown(t, tr, "/a", "/a/b/c", "/x")
		for d, generation := range map[string]int{"/": 1, "/ab": 1, "/a/b": 2, "/x/y": 2} {
			if l, ok := tr.Load(d); !ok || l.Self != fmt.Sprint("self", generation) || l.At.IsZero() {
				t.Errorf("%s: %+v, %v", d, l, ok)
			}
		}
		closeStore(t, s)
		s = openStore(t, dir, testOptions())
		tr = s.Tree("b")
	}
	tr.ForgetTree("/")
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	defer closeStore(t, s)
	wantUnknown(t, s.Tree("b"), "/", "/ab", "/a/b", "/x/y")
}

// TestMetaBound saves far more than there is space for.
func TestMetaBound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	tr := s.Tree("b")
	hot := listing("/hot", 50, 1)
	save(tr, hot)
	tr.SetMark("m", "kept")
	const dirs = 3000
	var last Listing
	for i := range dirs {
		for s.meta.waits(minMetaSegment / 4) {
			time.Sleep(time.Millisecond) // or what is used is not, in all the time that a segment takes
		}
		last = listing(fmt.Sprint("/d", i), 20, i)
		save(tr, last)
		wantListing(t, tr, hot, true) // used again and again
	}
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	tr = s.Tree("b")
	st := s.Stats().Meta
	onDisk, err := taken(filepath.Join(dir, metaDirName))
	if err != nil || st.Bytes > st.MaxBytes || onDisk > st.MaxBytes+64<<10 || st.MaxBytes > metaShare(testOptions().Size) {
		t.Errorf("%+v, %d bytes on the disk, %v", st, onDisk, err)
	}
	if st.Kept < 100 || st.Kept > dirs/2 {
		t.Errorf("%d of %d listings are kept in %d bytes", st.Kept, dirs, st.Bytes)
	}
	wantListing(t, tr, hot, true)
	wantListing(t, tr, last, true)
	wantUnknown(t, tr, "/d0")
	if tr.Mark("m") != "kept" {
		t.Error("the mark has gone with its segment")
	}
	closeStore(t, s)
	opts := testOptions()
	opts.Size *= 2 // and another layout of the segments, there and back
	closeStore(t, openStore(t, dir, opts))
	s = openStore(t, dir, testOptions())
	defer closeStore(t, s)
	if st := s.Stats().Meta; st.Bytes > metaShare(testOptions().Size) {
		t.Errorf("after other sizes: %+v", st)
	}
}

// waits tells whether more than n bytes are in the queue.
func (l *metaLog) waits(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queued > n
}

// TestMetaUnclean leaves a log that was not closed, as kill -9 does.
func TestMetaUnclean(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	old := listing("/old", 5, 1)
	save(s.Tree("b"), old)
	s.Tree("b").SetMark("m", "1")
	closeStore(t, s)
	copied := filepath.Join(t.TempDir(), "c")
	s = openStore(t, dir, testOptions())
	mid := listing("/mid", 5, 1)
	save(s.Tree("b"), mid)
	for s.Stats().Meta.Kept < 3 {
		time.Sleep(time.Millisecond)
	}
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if err := os.Chmod(copied, 0o700); err != nil {
		t.Fatal(err)
	}
	late := listing("/late", 5, 1)
	for round := range 3 {
		s = openStore(t, copied, testOptions())
		tr := s.Tree("b")
		wantListing(t, tr, old, false)
		wantListing(t, tr, mid, false)
		if round == 0 {
			save(tr, late)
		}
		wantListing(t, tr, late, true)
		if tr.Mark("m") != "1" {
			t.Error("the mark is gone")
		}
		closeStore(t, s)
	}
}

// TestMetaTornTail cuts and garbles the end of a log that was not closed: what is before
// is there.
func TestMetaTornTail(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "meta")
	open := func() *metaLog {
		l, err := openMeta(dir, 1<<20, func(int64) bool { return true }, (&lines{}).logger())
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	l := open()
	tr := &Tree{log: l, branch: "b", seed: hashText(hashSeed, "b")}
	first := listing("/first", 5, 1)
	save(tr, first)
	l.close()
	path := segmentPath(dir, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tail := range [][]byte{nil, {0}, make([]byte, 5000), whole[metaHead : metaHead+recordHead], whole[metaHead : len(whole)-1], []byte("garbage")} {
		if err := os.WriteFile(path, append(whole[:len(whole):len(whole)], tail...), 0o600); err != nil {
			t.Fatal(err)
		}
		l = open()
		tr.log = l
		wantListing(t, tr, first, len(tail) == 0)
		second := listing("/second", 5, 2)
		save(tr, second)
		l.close()
		l = open()
		tr.log = l
		wantListing(t, tr, first, len(tail) == 0)
		wantListing(t, tr, second, true)
		l.close()
		if err := os.Remove(filepath.Join(dir, cleanName)); err != nil {
			t.Fatal(err)
		}
		if err := writeClean(filepath.Join(dir, cleanName), spotOf(1, int64(len(whole))), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMetaFlippedBits flips bits in all files: what is loaded is right.
func TestMetaFlippedBits(t *testing.T) {
	from := filepath.Join(t.TempDir(), "c")
	s := openStore(t, from, testOptions())
	tr := s.Tree("b")
	var all []Listing
	for i := range 400 {
		all = append(all, listing(fmt.Sprint("/d", i%300), 12, i))
		save(tr, all[i])
		if i == 350 {
			tr.Forget("/d299")
			tr.ForgetTree("/d298")
		}
	}
	closeStore(t, s)
	dice := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	missing := 0
	for round := range 20 {
		dir := filepath.Join(t.TempDir(), "c")
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for range 1 + round/2 {
			flipBit(t, filepath.Join(dir, metaDirName), dice)
		}
		s := openStore(t, dir, testOptions())
		tr := s.Tree("b")
		for i := range 300 {
			got, ok := tr.Load(fmt.Sprint("/d", i))
			want := all[i]
			if i < 100 {
				want = all[i+300]
			}
			if !ok {
				missing++
				continue
			}
			// A listing that was forgotten, or saved again, may only come back without an age.
			if !got.At.IsZero() && (got.Self != want.Self || i >= 298) {
				t.Errorf("%s is %s, want %s", got.Dir, got.Self, want.Self)
			}
			if got.Self == want.Self && !reflect.DeepEqual(got.Entries, want.Entries) {
				t.Errorf("%s is not as it was saved", got.Dir)
			}
		}
		closeStore(t, s)
	}
	if missing == 0 {
		t.Error("no flip hit anything")
	}
}

func flipBit(t *testing.T, dir string, dice *rand.Rand) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatal(err, entries)
	}
	path := filepath.Join(dir, entries[dice.IntN(len(entries))].Name())
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(p) > 0 {
		p[dice.IntN(len(p))] ^= 1 << dice.IntN(8)
	}
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestMetaConcurrent has many users save, forget and load: what was forgotten never
// comes back.
func TestMetaConcurrent(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "c"), testOptions())
	defer closeStore(t, s)
	tr := s.Tree("b")
	var users sync.WaitGroup
	for user := range 4 {
		users.Go(func() {
			root := fmt.Sprint("/u", user)
			dice := rand.New(rand.NewPCG(uint64(user), 3))
			least := map[string]int{} // generation below which nothing may come back
			for n := range 2000 {
				d := fmt.Sprint(root, "/", dice.IntN(10), "/", dice.IntN(10))
				switch dice.IntN(6) {
				case 0:
					tr.Forget(d)
					least[d] = n
				case 1:
					up, _ := remote.Split(d)
					tr.ForgetTree(up)
					for i := range 10 {
						least[fmt.Sprint(up, "/", i)] = n
					}
				default:
					save(tr, listing(d, dice.IntN(60), n))
				}
				d = fmt.Sprint(root, "/", dice.IntN(10), "/", dice.IntN(10))
				if l, ok := tr.Load(d); ok {
					var generation int
					if _, err := fmt.Sscanf(l.Self, "self%d", &generation); err != nil || generation < least[d] {
						t.Errorf("%s: generation %d came back, %d was forgotten", d, generation, least[d])
					}
				}
			}
		})
	}
	users.Wait()
}
