package integration_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// lasting lets no attribute expire during a test.
var lasting = []string{"--attr-ttl=1h", "--dir-ttl=1h", "--negative-ttl=1h"}

// TestReadCountsShare counts the requests that reading costs on a share.
func TestReadCountsShare(t *testing.T) {
	t.Parallel()
	for _, dialect := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		t.Run(dialect.String(), func(t *testing.T) {
			t.Parallel()
			s := startShelf(t, dialect)
			files, large, vast := map[string][]byte{}, book(1000, 20<<20), book(1001, 50<<20)
			for i := range 200 {
				files[fmt.Sprintf("dir/f%03d", i)] = book(uint64(i), page)
			}
			files["large"], files["vast"] = large, vast
			s.plant(t, files)
			m := s.mount(t, harness.StaticProgram(t), "", append(lasting, "--small-ahead=0")...)
			root := filepath.Join(m.Dir, "a")
			countListing(t, s, filepath.Join(root, "dir"))
			countSmall(t, s, filepath.Join(root, "dir", "f017"), files["dir/f017"])
			countLarge(t, s, root, large)
			countRandom(t, s, filepath.Join(root, "vast"), vast)
			m.MustUnmount(t)
		})
	}
}

// expect checks how many requests there were since the last forget.
func (s *shelf) expect(t *testing.T, what, method string, least, most int) {
	t.Helper()
	if all := s.requests(method); len(all) < least || len(all) > most {
		t.Errorf("%s: %d requests %s, want %d to %d:%s", what, len(all), method, least, most, story(all))
	}
	s.forget()
}

// countListing lists a directory, and asks for names in it.
func countListing(t *testing.T, s *shelf, dir string) {
	t.Helper()
	if _, err := os.Lstat(dir); err != nil {
		t.Fatal(err)
	}
	s.forget()
	harness.Run(t, "/", "ls", "-l", dir)
	if all := s.requests("PROPFIND"); len(all) != 1 {
		t.Errorf("ls -l made %d requests PROPFIND:%s", len(all), story(all))
	}
	s.expect(t, "ls -l", "", 1, 1)
	for i := range 200 {
		if _, err := os.Lstat(filepath.Join(dir, fmt.Sprintf("f%03d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Error(err)
	}
	harness.Run(t, "/", "ls", "-l", dir)
	s.expect(t, "stat and ls -l of what was listed", "", 0, 0)
}

// countSmall reads a small file whose directory was listed, twice.
func countSmall(t *testing.T, s *shelf, path string, content []byte) {
	t.Helper()
	if err := readWhole(path, content); err != nil {
		t.Fatal(err)
	}
	s.expect(t, "a cold open, read and close", "", 1, 1)
	harness.Run(t, "/", "cat", path)
	s.expect(t, "the second cat", "", 0, 0)
	dropPages(t, path)
	if err := readWhole(path, content); err != nil {
		t.Error(err)
	}
	s.expect(t, "a read from the cache", "", 0, 0)
}

// countLarge reads a large file from its beginning to its end.
func countLarge(t *testing.T, s *shelf, root string, content []byte) {
	t.Helper()
	if err := readWhole(filepath.Join(root, "large"), content); err != nil {
		t.Fatal(err)
	}
	if sent, most := s.sent(), int64(len(content))*11/10; sent > most {
		t.Errorf("%d bytes came for %d:%s", sent, len(content), story(s.requests(http.MethodGet)))
	}
	// Requests grow only while the program has to wait, which it hardly does here.
	s.expect(t, "a sequential read of 20 MiB", http.MethodGet, 5, 20+4)
	if err := readWhole(filepath.Join(root, "large"), content); err != nil {
		t.Error(err)
	}
	s.expect(t, "the second read", "", 0, 0)
}

// countRandom reads 100 pages of a large file, in no order.
func countRandom(t *testing.T, s *shelf, path string, content []byte) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	s.forget()
	random := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		if err := readPart(file, content, int64(random.IntN(len(content)/page))*page, page); err != nil {
			t.Fatal(err)
		}
	}
	if sent := s.sent(); sent >= 20<<20 {
		t.Errorf("100 reads of 4 KiB moved %d bytes:%s", sent, story(s.requests(http.MethodGet)))
	}
	s.expect(t, "100 random reads", http.MethodGet, 1, 110)
}

// late is what may still come of answers to what was asked before.
const late = 64 << 10

// TestReadCountsZone counts the calls that reading costs on a zone.
func TestReadCountsZone(t *testing.T) {
	t.Parallel()
	s := startZoneShelf(t)
	proxy := remotetest.NewProxy(t, s.address)
	files, large, vast := map[string][]byte{}, book(1000, 20<<20), book(1001, 50<<20)
	for i := range 20 {
		files[fmt.Sprintf("dir/f%03d", i)] = book(uint64(i), page)
	}
	files["large"], files["vast"] = large, vast
	s.plant(t, files)
	m := s.via(proxy.Addr()).mount(t, harness.StaticProgram(t), "", append(lasting, "--small-ahead=0")...)
	root := filepath.Join(m.Dir, "a")
	step := func(what string, most int, mostBytes int64, do func() error) {
		t.Helper()
		s.forget()
		before := proxy.Stats().Down
		if err := do(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		n, calls := 0, s.zone.Calls()
		for _, k := range calls {
			n += k
		}
		if down := proxy.Stats().Down - before; n > most || down > mostBytes {
			t.Errorf("%s made %d calls (%s) and moved %d bytes, want at most %d and %d", what, n, callNames(calls), down, most, mostBytes)
		}
	}
	dir, small := filepath.Join(root, "dir"), filepath.Join(root, "dir", "f007")
	if _, err := os.Lstat(dir); err != nil {
		t.Fatal(err)
	}
	// Two questions for a listing; what was under way before may ask once more on a busy machine.
	step("ls -l", 8, 64<<10, func() error { harness.Run(t, "/", "ls", "-l", dir); return nil })
	step("stat of listed names", 0, late, func() error {
		for i := range 20 {
			if _, err := os.Lstat(filepath.Join(dir, fmt.Sprintf("f%03d", i))); err != nil {
				return err
			}
		}
		return nil
	})
	step("a cold open, read and close", 3, 64<<10, func() error { return readWhole(small, files["dir/f007"]) })
	step("the second cat", 0, late, func() error { harness.Run(t, "/", "cat", small); return nil })
	step("a sequential read of 20 MiB", 60, 22<<20, func() error { return readWhole(filepath.Join(root, "large"), large) })
	step("the second read", 0, late, func() error { return readWhole(filepath.Join(root, "large"), large) })
	step("100 random reads", 400, 20<<20, func() error { return readPages(filepath.Join(root, "vast"), vast, 100) })
	m.MustUnmount(t)
}

// readPages reads pages of a file in no order.
func readPages(path string, content []byte, n int) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	random := rand.New(rand.NewPCG(2, 2))
	for range n {
		if err := readPart(file, content, int64(random.IntN(len(content)/page))*page, page); err != nil {
			return err
		}
	}
	return nil
}

func callNames(calls map[int]int) string {
	text := ""
	for api, n := range calls {
		text += fmt.Sprintf(" %s:%d", wire.APIName(api), n)
	}
	return text
}
