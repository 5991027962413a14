package write_test

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

const (
	keepNodes     = 8
	keepContested = 4 // names that every node wants
)

// keepTime is the modification time that some files are given.
var keepTime = time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)

// fleet are mounts of one share that keep small files in archives, each by a process of its
// own.
type fleet struct {
	s     *server
	nodes []*mount
	files int // of each node, in the first step

	mu    sync.Mutex
	want  expect          // guarded by mu: what shows at the end of a step
	known map[string]bool // guarded by mu: each content that was ever written
}

// keepFleet mounts a share many times.
func keepFleet(t *testing.T, files int) *fleet {
	t.Helper()
	f := &fleet{s: startServer(t, "moddav"), files: files, want: expect{"d": nil}, known: map[string]bool{}}
	for range keepNodes {
		f.nodes = append(f.nodes, f.s.mounted(t, cacheDir(t), "--archive=keep", "--batch-delay=500ms"))
	}
	f.nodes[0].mkdir(t, "d")
	f.nodes[0].flush(t)
	f.refresh(t)
	return f
}

// refresh has all look at the server again.
func (f *fleet) refresh(t *testing.T) {
	t.Helper()
	for _, m := range f.nodes {
		must(t, "refresh", m.Dir)
	}
}

// together has all do something at the same time, and then everything stored.
func (f *fleet) together(t *testing.T, do func(i int, m *mount) error) {
	t.Helper()
	var all sync.WaitGroup
	for i, m := range f.nodes {
		all.Go(func() {
			if err := do(i, m); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
			out, err := harness.Try(t.Context(), "/", harness.StaticProgram(t), "flush", "--timeout="+patience.String(), m.Dir)
			if err != nil {
				t.Errorf("node %d: flush: %v\n%s\nlog:\n%s", i, err, out, tail(m.Output()))
			}
		})
	}
	all.Wait()
	f.refresh(t)
}

// name is that of a file of a node.
func (f *fleet) name(node, file int) string { return fmt.Sprintf("d/node%d-file%03d", node, file) }

// write writes a content, and takes note of it as what is to show.
func (f *fleet) write(m *mount, name string, data []byte) error {
	f.mu.Lock()
	f.want[name], f.known[string(data)] = data, true
	f.mu.Unlock()
	return os.WriteFile(m.path(name), data, 0o644)
}

// fill writes the files of a node. Some get a time.
func (f *fleet) fill(node int, m *mount) error {
	var err error
	for i := range f.files {
		name := f.name(node, i)
		err = errors.Join(err, f.write(m, name, book(uint64(node*100_000+i), 50+97*(i%40))))
		if i%4 == 0 {
			err = errors.Join(err, os.Chtimes(m.path(name), keepTime, keepTime))
		}
	}
	return err
}

// contend writes the names that all want. Nobody sees those of the others yet.
func (f *fleet) contend(node int, m *mount) error {
	var err error
	for i := range keepContested {
		data := f.contested(node, i)
		f.mu.Lock()
		f.known[string(data)] = true
		f.mu.Unlock()
		err = errors.Join(err, os.WriteFile(m.path(fmt.Sprintf("d/all%d", i)), data, 0o644))
	}
	return err
}

func (f *fleet) contested(node, i int) []byte { return book(uint64(node*1000+i+1<<40), 300+node) }

// change overwrites, removes and renames files that the next node has made, while it reads
// those of the one after it, which is changing them.
func (f *fleet) change(node int, m *mount) error {
	next := (node + 1) % keepNodes
	var err error
	for i := range f.files / 4 {
		name := f.name(next, 4*i)
		f.mu.Lock()
		data := f.want[name]
		f.mu.Unlock()
		switch i % 3 {
		case 0:
			err = errors.Join(err, f.write(m, name, book(uint64(node*100_000+i+1<<41), 400+i)))
		case 1:
			err = errors.Join(err, f.gone(name), os.Remove(m.path(name)))
		case 2:
			err = errors.Join(err, f.gone(name), os.Rename(m.path(name), m.path(name+"-renamed")))
			f.mu.Lock()
			f.want[name+"-renamed"] = data
			f.mu.Unlock()
		}
		err = errors.Join(err, f.peek(m, f.name((node+2)%keepNodes, 4*i)))
	}
	return err
}

// gone notes that a name shows no more.
func (f *fleet) gone(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.want, name)
	return nil
}

// peek reads a file that somebody may be changing: it is one of the contents that were
// written, or is not there, or has just been replaced.
func (f *fleet) peek(m *mount, name string) error {
	data, err := os.ReadFile(m.path(name))
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESTALE):
		return nil
	case err != nil:
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.known[string(data)] {
		return fmt.Errorf("%s has %d bytes that nobody wrote: %.40q", name, len(data), data)
	}
	return nil
}

// check wants every mount to show what is wanted, and of the contested names each content
// once, under the name or as a conflict of it.
func (f *fleet) check(t *testing.T, found tree, who string) {
	t.Helper()
	contents := map[string]int{}
	for name, e := range found {
		base, _, _ := strings.Cut(name, ".conflict-")
		if strings.HasPrefix(base, "d/all") {
			contents[string(e.Data)]++
			delete(found, name)
		}
	}
	for node := range keepNodes {
		for i := range keepContested {
			data := string(f.contested(node, i))
			if contents[data] != 1 {
				t.Errorf("%s shows the content of node %d for name %d %d times", who, node, i, contents[data])
			}
			delete(contents, data)
		}
	}
	if len(contents) > 0 {
		t.Errorf("%s shows %d contents under contested names that nobody wrote", who, len(contents))
	}
	if err := f.want.differs(found); err != nil {
		t.Errorf("%s: %v", who, err)
	}
}

// checkAll checks all mounts.
func (f *fleet) checkAll(t *testing.T, when string) {
	t.Helper()
	for i, m := range f.nodes {
		f.check(t, treeIn(t, m), fmt.Sprintf("%s, node %d", when, i))
	}
}

// TestKeepEightMounts has eight processes write into one directory of one share with
// --archive=keep at the same time, want the same names, read what the others write, and
// change it. Each shows all files, once; unzip reads the archives; and they are unpacked and
// packed again.
func TestKeepEightMounts(t *testing.T) {
	files := 40
	if long() {
		files = 500
	}
	f := keepFleet(t, files)
	for i, m := range f.nodes {
		must(t, "pause", m.Dir)
		if err := f.contend(i, m); err != nil {
			t.Fatal(err)
		}
	}
	f.together(t, func(i int, m *mount) error {
		_, err := harness.Try(t.Context(), "/", harness.StaticProgram(t), "resume", m.Dir)
		return errors.Join(err, f.fill(i, m))
	})
	f.checkAll(t, "written")
	if archives, alone := f.s.kept(t); !through() && (archives < keepNodes || alone > keepNodes*(keepContested+files/2)) {
		t.Errorf("the server has %d archives and %d plain files", archives, alone)
	}
	f.unzip(t)
	f.together(t, f.change)
	f.checkAll(t, "changed")
	f.unzip(t)
	for _, m := range f.nodes {
		m.MustUnmount(t)
	}
	must(t, convert(t, f.s, "unpack")...)
	f.check(t, plain(f.s.stored(t)), "the server, unpacked,")
	packed(t, f.s)
	if _, alone := f.s.kept(t); alone > 0 {
		t.Errorf("packed, the server has %d plain files", alone)
	}
	f.unzip(t)
	m := f.s.mounted(t, cacheDir(t), "--archive=keep")
	f.nodes = []*mount{m}
	f.checkAll(t, "packed")
	m.MustUnmount(t)
}

// convert returns the arguments that pack or unpack a share.
func convert(t *testing.T, s *server, verb string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{verb, "--password-file=" + file, strings.TrimPrefix(s.branch("", s.address()), "=")}
}

// packed packs a share. A file of this very second has a version that is no proof, and stays
// until a later try; then it may be the only one of its directory that is left, of which no archive
// is made. So they get older first.
func packed(t *testing.T, s *server) {
	t.Helper()
	time.Sleep(2 * time.Second)
	for left := 9; ; left-- {
		out, code := command(t, convert(t, s, "pack")...)
		if code == 0 {
			return
		}
		if left == 0 {
			t.Fatalf("pack: exit code %d\n%s", code, out)
		}
		time.Sleep(time.Second)
	}
}

// isArchive tells whether a name is one of a hidden archive.
func isArchive(name string) bool {
	base := filepath.Base(name)
	return strings.HasPrefix(base, ".meshmount-") && strings.HasSuffix(base, ".zip")
}

// plain returns what is in a tree but for hidden files of archives, empty ones of which stay
// for some days.
func plain(found tree) tree {
	maps.DeleteFunc(found, func(name string, _ entry) bool { return strings.HasPrefix(filepath.Base(name), ".meshmount-") })
	return found
}

// kept counts the archives and the plain files that a server has.
func (s *server) kept(t *testing.T) (archives, files int) {
	t.Helper()
	found := s.stored(t)
	for name := range found {
		if isArchive(name) {
			archives++
		}
	}
	for _, e := range plain(found) {
		if e.Type.IsRegular() {
			files++
		}
	}
	return archives, files
}

// unzip wants each file in each archive to have a content that was written.
func (f *fleet) unzip(t *testing.T) {
	t.Helper()
	for name, found := range f.s.unzipped(t) {
		for _, member := range paths(found) {
			e := found[member]
			// A file that a program has just made may leave before it is written.
			if len(e.Data) > 0 && !f.known[string(e.Data)] && member != ".meshmount.json" {
				t.Errorf("%s in %s has %d bytes that nobody wrote", member, name, len(e.Data))
			}
		}
	}
}

// unzipped has the unzip that people have unpack every archive that a server has.
func (s *server) unzipped(t *testing.T) map[string]tree {
	t.Helper()
	all := map[string]tree{}
	for name, e := range s.stored(t) {
		if !isArchive(name) {
			continue
		}
		dir, file := t.TempDir(), filepath.Join(t.TempDir(), "zip")
		if err := os.WriteFile(file, e.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		harness.Run(t, dir, "unzip", "-q", file)
		found, err := readTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = found
	}
	return all
}

// meter returns a function that tells whether the server has been asked for so many changes
// from now on.
func (s *server) meter(n int64) (reached func() bool) {
	var seen atomic.Int64
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "PUT" || r.Method == "MOVE" || r.Method == "DELETE" {
			seen.Add(1)
			return &efss.Fault{Delay: 3 * time.Millisecond}
		}
		return nil
	})
	return func() bool { return seen.Load() >= n }
}

// TestKeepKilled kills the process again and again while it stores files in archives, and
// removes and replaces some. Nothing is lost, and nothing is there twice.
func TestKeepKilled(t *testing.T) {
	w := &killedWriter{s: startServer(t, "moddav"), random: newRandom(newSeed(t), 0), want: expect{}, former: map[string][]string{}}
	rounds := 4
	if long() {
		rounds = 40
	}
	flags := []string{"--archive=keep", "--batch-delay=50ms"}
	m := w.s.mounted(t, cacheDir(t), flags...)
	for _, dir := range []string{"d0", "d1", "d2"} {
		m.mkdir(t, dir)
		w.want[dir] = nil
	}
	for round := range rounds {
		due := w.s.meter(1 + w.random.Int64N(8))
		w.work(t, m, round)
		await(t, "a change", func() bool { return due() || m.status(t).Pending == 0 })
		m.Kill()
		w.s.settle(t)
		m = w.s.mounted(t, m.cache, flags...)
		w.check(t, treeIn(t, m), "the next mount")
	}
	m.flush(t)
	m.MustUnmount(t)
	m = w.s.mounted(t, cacheDir(t), flags...)
	w.check(t, treeIn(t, m), "a fresh mount")
	m.MustUnmount(t)
	if archives, _ := w.s.kept(t); archives == 0 && !through() {
		t.Error("nothing was stored in archives")
	}
	must(t, convert(t, w.s, "unpack")...)
	w.check(t, plain(w.s.stored(t)), "the server, unpacked,")
}

// killedWriter writes to mounts that are killed.
type killedWriter struct {
	s      *server
	random *rand.Rand
	want   expect
	former map[string][]string // contents that files had before they were replaced
}

// work writes small files, and removes and replaces some of the round before.
func (w *killedWriter) work(t *testing.T, m *mount, round int) {
	t.Helper()
	for i := range 60 {
		name := fmt.Sprintf("d%d/r%d-%02d", round%3, round, i)
		w.want[name] = book(w.random.Uint64(), w.random.IntN(4000))
		m.write(t, name, w.want[name])
	}
	for _, name := range paths(w.want) {
		if !strings.Contains(name, fmt.Sprintf("/r%d-", round-1)) {
			continue
		}
		switch w.random.IntN(4) {
		case 0:
			delete(w.want, name)
			if err := os.Remove(m.path(name)); err != nil {
				t.Fatal(err)
			}
		case 1:
			w.former[name] = append(w.former[name], string(w.want[name]))
			w.want[name] = book(w.random.Uint64(), w.random.IntN(4000))
			m.write(t, name, w.want[name])
		}
	}
}

// check compares a tree with what was written. A process that dies while it replaces a file
// may leave what the file was beside it, as the README says.
func (w *killedWriter) check(t *testing.T, found tree, who string) {
	t.Helper()
	maps.DeleteFunc(found, func(name string, e entry) bool {
		of, _, isCopy := strings.Cut(name, ".conflict-")
		return isCopy && slices.Contains(w.former[of], string(e.Data))
	})
	if err := w.want.differs(found); err != nil {
		t.Errorf("%s: %v", who, err)
	}
}

// treeIn returns what a mount shows.
func treeIn(t *testing.T, m *mount) tree {
	t.Helper()
	found, err := readTree(m.root)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
