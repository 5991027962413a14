package write_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
)

// TestLeftovers kills the process at random points of uploads: of files that are sent while
// they are written, of large ones, and of ones that replace others. When the next mount has
// drained, the server has no more than the files: no temporary names, no upload folders.
func TestLeftovers(t *testing.T) {
	kills := 2
	if long() {
		kills = 60
	}
	seed := newSeed(t)
	for i, dialect := range []efss.Dialect{efss.Nextcloud, efss.ModDAV, efss.Rclone} {
		t.Run(dialect.String(), func(t *testing.T) {
			t.Parallel()
			random := newRandom(seed, uint64(i))
			s := startShare(t, efss.Options{Dialect: dialect})
			cache, found := cacheDir(t), 0
			for i := 0; i < kills || found == 0 && i < 60*kills; i++ {
				found += s.litterOnce(t, cache, random)
				m := s.mounted(t, cache)
				m.flush(t)
				m.MustUnmount(t)
				if left := s.unfinished(t); len(left) > 0 {
					t.Fatalf("after the next mount there are %q", left)
				}
			}
			t.Logf("the kills have left %d unfinished uploads", found)
			if found == 0 {
				t.Error("no kill has met an upload")
			}
		})
	}
}

// litterOnce mounts, writes and kills the process at a random point. It returns how many
// unfinished uploads the server has then.
func (s *server) litterOnce(t *testing.T, cache string, random *rand.Rand) int {
	t.Helper()
	m := s.mounted(t, cache, "--early-upload=1MiB", "--io-timeout=30s")
	m.write(t, "old", book(random.Uint64(), 300_000))
	m.flush(t)
	s.slowParts(5 * time.Millisecond)
	defer s.share.SetFaults(nil)
	at := random.IntN(20)
	if random.IntN(2) == 0 {
		m.write(t, "old", book(random.Uint64(), 400_000)) // replaces what is there
	}
	name := fmt.Sprint("f", random.IntN(3))
	file, err := os.Create(m.path(name))
	if err != nil {
		t.Fatal(err)
	}
	data := book(random.Uint64(), 24<<20)
	step := len(data) / 16
	for i := range min(at, 16) {
		if _, err := file.WriteAt(data[i*step:(i+1)*step], int64(i*step)); err != nil {
			t.Fatal(err)
		}
	}
	if at > 16 { // the rest is on its way behind a close
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Duration(random.Int64N(int64(80 * time.Millisecond)))) // some point, whatever is under way then
	m.Kill()
	if err := file.Close(); err != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.ENOTCONN) {
		t.Log(err)
	}
	s.settle(t)
	return len(s.unfinished(t))
}

// slowParts makes the server take its time for what uploads.
func (s *server) slowParts(d time.Duration) {
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		switch r.Method {
		case http.MethodPut, "MOVE", "MKCOL":
			return &efss.Fault{Delay: d}
		}
		return nil
	})
}

// unfinished returns what a share has of uploads that are not complete.
func (s *server) unfinished(t *testing.T) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(s.dir, "uploads", "alice", "*"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := readTree(s.share.Disk("alice"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range paths(found) {
		if strings.Contains(name, ".meshmount-") {
			left = append(left, name)
		}
	}
	return left
}
