package cache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testBlock = MinBlockSize

func testOptions() Options { return Options{Size: MinSize, BlockSize: testBlock} }

func openStore(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func closeStore(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// content is the bytes of a block: they follow from its key.
func content(k Key, length int) []byte {
	i := k.ident(0)
	p := make([]byte, length)
	_, _ = rand.NewChaCha8(i.digest).Read(p)
	return p
}

func key(object string, index int) Key {
	return Key{Branch: "b", Object: object, Version: "v1", Index: uint32(index)}
}

func lengthOf(k Key) int {
	if k.Index%3 == 2 {
		return 1 + int(k.Index)*977%testBlock
	}
	return testBlock
}

// checkGet reads a range of a block and fails if any byte is wrong.
func checkGet(t testing.TB, s *Store, k Key, off, n int) bool {
	t.Helper()
	want := content(k, lengthOf(k))
	p := make([]byte, n)
	got, ok := s.Get(k, int64(off), p)
	if !ok {
		return false
	}
	want = want[min(off, len(want)):min(off+n, len(want))]
	if got != len(want) || !bytes.Equal(p[:got], want) {
		t.Fatalf("block %v from %d: %d bytes, want %d, or other bytes", k, off, got, len(want))
	}
	return true
}

func put(t testing.TB, s *Store, k Key) bool {
	t.Helper()
	return s.Put(k, content(k, lengthOf(k)), Normal)
}

// model knows what may be in a Store.
type model struct {
	t    *testing.T
	dice *rand.Rand
	dir  string
	opts Options
	s    *Store
	has  map[Key]bool // was put and not dropped since
	hits int
}

// TestModel compares a Store with a map over random operations: whatever is found was
// put and not dropped, and its bytes are right.
func TestModel(t *testing.T) {
	m := &model{t: t, dice: rand.New(rand.NewPCG(7, 7)), dir: filepath.Join(t.TempDir(), "c"), opts: testOptions(), has: map[Key]bool{}}
	m.s = openStore(t, m.dir, m.opts)
	for range 4000 {
		m.step()
	}
	if m.hits < 300 {
		t.Errorf("only %d hits", m.hits)
	}
	if st := m.s.Stats(); st.Corrupt != 0 || st.State != StateReady {
		t.Errorf("%+v", st)
	}
	m.bound()
}

func (m *model) key() Key {
	return Key{
		Branch: []string{"b", "c"}[m.dice.IntN(8)/7], Object: fmt.Sprint("/o", m.dice.IntN(6)),
		Version: fmt.Sprint("v", m.dice.IntN(2)), Index: uint32(m.dice.IntN(12)), Provisional: m.dice.IntN(10) == 0,
	}
}

func (m *model) step() {
	k := m.key()
	switch n := m.dice.IntN(1000); {
	case n < 500:
		off := m.dice.IntN(testBlock + 10)
		if checkGet(m.t, m.s, k, off, 1+m.dice.IntN(testBlock)) {
			m.hits++
			if !m.has[k] {
				m.t.Fatalf("%v was dropped, or never put, and is found", k)
			}
		}
	case n < 960:
		if !put(m.t, m.s, k) {
			m.t.Fatalf("%v was not admitted: %+v", k, m.s.Stats())
		}
		m.has[k] = true
		if !checkGet(m.t, m.s, k, 0, testBlock) {
			m.t.Fatalf("%v is not found after it was put", k)
		}
	case n < 985:
		m.s.Drop(k.Branch, k.Object)
		m.forget(func(o Key) bool { return o.Branch == k.Branch && o.Object == k.Object })
	case n < 987:
		m.s.DropBranch(k.Branch)
		m.forget(func(o Key) bool { return o.Branch == k.Branch })
	case n < 995:
		closeStore(m.t, m.s)
		m.s = openStore(m.t, m.dir, m.opts)
		m.forget(func(o Key) bool { return o.Provisional })
		m.bound()
	}
}

func (m *model) forget(f func(Key) bool) {
	for k := range m.has {
		if f(k) {
			delete(m.has, k)
		}
	}
}

// bound checks Options.Size against the disk.
func (m *model) bound() {
	m.t.Helper()
	if n, err := taken(m.dir); err != nil || n > m.opts.Size {
		m.t.Fatalf("%d bytes are taken, %d allowed, %v", n, m.opts.Size, err)
	}
}

// TestReopen wants everything back that fits, and provisional blocks gone.
func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	for n := range 20 {
		put(t, s, key("/a", n))
	}
	doubtful := key("/p", 0)
	doubtful.Provisional = true
	if !put(t, s, doubtful) || !checkGet(t, s, doubtful, 0, 10) {
		t.Error("a provisional block is not found")
	}
	if proven := key("/p", 0); checkGet(t, s, proven, 0, 10) {
		t.Error("a provisional block is taken for a proven one")
	}
	free := s.Stats().Free
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	for n := range 20 {
		if !checkGet(t, s, key("/a", n), 0, testBlock) {
			t.Errorf("block %d is not found again", n)
		}
	}
	if checkGet(t, s, doubtful, 0, 10) || s.Has(doubtful) {
		t.Error("a provisional block has survived")
	}
	if got := s.Stats().Free; got != free {
		t.Errorf("%d slots are free after opening again, %d before", got, free)
	}
}

// TestScan reads a hot set again and again while a file many times the size of the
// store passes through once, in the pieces in which the kernel reads.
func TestScan(t *testing.T) {
	for _, hint := range []Hint{Normal, Stream} {
		s := openStore(t, filepath.Join(t.TempDir(), "c"), testOptions())
		slots := s.Stats().MaxSlots
		hot := slots / 3
		for range 3 {
			for n := range hot {
				if k := key("/hot", n); !checkGet(t, s, k, 0, testBlock) {
					put(t, s, k)
				}
			}
		}
		for n := range 6 * slots {
			k := key("/scan", n)
			if !checkGet(t, s, k, 0, testBlock/4) {
				s.Put(k, content(k, lengthOf(k)), hint)
			}
			for off := 0; off < testBlock; off += testBlock / 4 {
				checkGet(t, s, k, off, testBlock/4)
			}
			checkGet(t, s, key("/hot", n%hot), 0, testBlock)
		}
		kept := 0
		for n := range hot {
			if checkGet(t, s, key("/hot", n), 0, 1) {
				kept++
			}
		}
		if kept < hot*9/10 {
			t.Errorf("hint %d: %d of %d hot blocks are left after a scan", hint, kept, hot)
		}
	}
}

// TestStream wants a stream's blocks admitted only when they come again.
func TestStream(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "c"), testOptions())
	k := key("/s", 0)
	if s.Put(k, content(k, testBlock), Stream) || s.Has(k) {
		t.Error("a stream's block was admitted at once")
	}
	if !s.Put(k, content(k, testBlock), Stream) || !checkGet(t, s, k, 0, testBlock) {
		t.Error("a stream's block was not admitted when it came again")
	}
}

// TestFlushes makes so many entries that the index is flushed and merged many times.
func TestFlushes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	var last Key
	for n := range 12_000 {
		last = Key{Branch: "b", Object: fmt.Sprint("/small", n), Version: "v"}
		if !s.Put(last, content(last, 64), Normal) {
			t.Fatalf("block %d was not admitted: %+v", n, s.Stats())
		}
	}
	if n, err := taken(dir); err != nil || n > MinSize {
		t.Errorf("%d bytes are taken, %v", n, err)
	}
	found := 0
	check := func() {
		t.Helper()
		p := make([]byte, 64)
		if n, ok := s.Get(last, 0, p); !ok || n != 64 || !bytes.Equal(p, content(last, 64)) {
			t.Errorf("the last block is not found: %v", ok)
		}
		entries := 0
		if err := s.index.scan(nil, func(id, location) bool { entries++; return true }); err != nil {
			t.Error(err)
		}
		if st := s.Stats(); entries > st.Slots {
			t.Errorf("%d entries for %d slots", entries, st.Slots)
		}
		found++
	}
	check()
	closeStore(t, s)
	s = openStore(t, dir, testOptions())
	check()
}

func TestOneOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	s := openStore(t, dir, testOptions())
	_, err := Open(dir, testOptions())
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("second Open: %v", err)
	}
	if err := Clear(dir); !errors.As(err, &locked) {
		t.Errorf("Clear of a directory in use: %v", err)
	}
	if _, err := Verify(t.Context(), dir, false); !errors.As(err, &locked) {
		t.Errorf("Verify of a directory in use: %v", err)
	}
	closeStore(t, s)
	closeStore(t, openStore(t, dir, testOptions()))
	if s.Put(key("/x", 0), make([]byte, 10), Normal) || s.Has(key("/x", 0)) || s.Stats().State != StateClosed {
		t.Error("a closed store works")
	}
}

func TestForeign(t *testing.T) {
	base := t.TempDir()
	for name, text := range map[string]string{
		"newer": "meshmount-blocks 2 1048576 16\n", "foreign": "SQLite format 3\n", "damaged": "meshmount-blocks 1 7 9\n", "empty": "",
	} {
		dir := filepath.Join(base, name)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, formatName), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, testOptions()); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Clear(dir); !errors.Is(err, ErrFormat) {
			t.Errorf("clear of %s: %v", name, err)
		}
	}
	dir := filepath.Join(base, "home")
	precious := filepath.Join(dir, "thesis.tex")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(precious, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testOptions()); !errors.Is(err, ErrFormat) {
		t.Errorf("a directory with other files: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestPrivate(t *testing.T) {
	base := t.TempDir()
	open := filepath.Join(base, "open")
	others := filepath.Join(base, "others")
	link := filepath.Join(base, "link")
	if err := errors.Join(os.Mkdir(open, 0o755), os.Mkdir(others, 0o700), os.Symlink(others, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(link, testOptions()); err == nil {
		t.Error("a symbolic link was accepted")
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(others, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(others, testOptions()); err == nil {
			t.Error("another user's directory was accepted")
		}
	}
	if _, err := Open(open, testOptions()); err == nil {
		t.Error("a directory that others can read was accepted")
	}
	made := filepath.Join(base, "a", "b")
	openStore(t, made, testOptions())
	if st, err := os.Stat(made); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v %v", st.Mode(), err)
	}
}

// TestResize opens a directory with other sizes: the bound holds, and what still fits
// and is found is right.
func TestResize(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	for _, opts := range []Options{
		{Size: 64 << 20, BlockSize: testBlock}, {Size: MinSize, BlockSize: testBlock},
		{Size: 64 << 20, BlockSize: testBlock}, {Size: 48 << 20, BlockSize: 1 << 20}, {Size: MinSize, BlockSize: testBlock},
	} {
		s := openStore(t, dir, opts)
		for n := range 600 {
			checkGet(t, s, key("/r", n), 0, testBlock)
			put(t, s, key("/r", n))
		}
		if n, err := taken(dir); err != nil || n > opts.Size {
			t.Errorf("%d bytes are taken, %d allowed, %v", n, opts.Size, err)
		}
		if !checkGet(t, s, key("/r", 599), 0, testBlock) {
			t.Errorf("%+v: the last block is not there", s.Stats())
		}
		closeStore(t, s)
	}
}

func TestOptions(t *testing.T) {
	for _, opts := range []Options{
		{}, {Size: MinSize, BlockSize: 1000}, {Size: MinSize, BlockSize: 16 << 20}, {Size: MinSize, BlockSize: 8 << 20},
		{Size: 1 << 30, Reserve: -1}, {Size: MinSize - 1, BlockSize: testBlock},
	} {
		if _, err := Open(filepath.Join(t.TempDir(), "c"), opts); err == nil {
			t.Errorf("%+v was accepted", opts)
		}
	}
}
