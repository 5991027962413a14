package integration_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/bench/wan"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// bundled tells a request for a directory as an archive.
func bundled(r efss.Request) bool {
	return r.Path == "/archiver" || r.Method == http.MethodGet && strings.HasSuffix(r.Path, "/") && r.Header.Get("Accept") == "application/zip"
}

// plantDirs plants directories of small files, and returns what they hold.
func plantDirs(t testing.TB, s *shelf, dirs, files, size int) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for d := range dirs {
		for i := range files {
			all[fmt.Sprintf("d%d/f%04d", d, i)] = book(uint64(d*files+i), size)
		}
	}
	s.age -= time.Hour
	s.behind.Store(int64(s.age))
	defer s.behind.Store(0)
	s.plantShare(t, all)
	return all
}

// TestReadBundle packs a cold directory with tar: three files are read before their order
// is seen, a few come alone, and the others in one request.
func TestReadBundle(t *testing.T) {
	t.Parallel()
	for _, dialect := range []efss.Dialect{efss.Nextcloud, efss.OpenCloud} {
		t.Run(dialect.String(), func(t *testing.T) {
			t.Parallel()
			s := startShelf(t, dialect)
			const files = 300
			all := plantDirs(t, s, 1, files, page)
			s.share.SetFaults(func(r *http.Request) *efss.Fault {
				if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/d0/f") {
					return &efss.Fault{Delay: 150 * time.Millisecond} // a server far away
				}
				return nil
			})
			m := s.mount(t, harness.StaticProgram(t), "", append(lasting, "--block-size=128KiB")...)
			s.forget()
			out := t.TempDir()
			harness.Run(t, out, "sh", "-c", `tar cf all.tar -C "$1" d0 && tar xf all.tar`, "sh", filepath.Join(m.Dir, "a"))
			for name, want := range all {
				if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			packs, singles := 0, 0
			for _, r := range s.requests(http.MethodGet) {
				if bundled(r) {
					packs++
				} else {
					singles++
				}
			}
			t.Logf("%d requests, of them %d for single files and %d for bundles", len(s.requests("")), singles, packs)
			// 19 alone on an idle machine; a busy one may give up waiting.
			if packs != 1 || singles > files/2 {
				t.Errorf("%d bundles, %d single files:%s", packs, singles, story(s.requests("")))
			}
			m.MustUnmount(t)
		})
	}
}

// BenchmarkReadBundle reads three cold directories of 300 files of 4 KiB over 50 ms, with a
// server of four processes that is at work for 20 ms on each request, and for a while on
// each file of a bundle.
func BenchmarkReadBundle(b *testing.B) {
	for _, c := range []struct {
		name       string
		rtt        time.Duration
		work, each time.Duration
	}{
		{"far,work=20ms,each=0", 50 * time.Millisecond, 20 * time.Millisecond, 0},
		{"far,work=20ms,each=2ms", 50 * time.Millisecond, 20 * time.Millisecond, 2 * time.Millisecond},
		{"far,work=20ms,each=20ms", 50 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond},
		{"far,work=0,each=0", 50 * time.Millisecond, 0, 0},
		{"near,work=0,each=0", 0, 0, 0},
	} {
		for _, how := range []string{"true", "false"} {
			b.Run(c.name+"/bundles="+how, func(b *testing.B) {
				for b.Loop() {
					readDirs(b, c.rtt, c.work, c.each, "--bundle-reads="+how)
				}
			})
		}
	}
}

// readDirs is one run of the benchmark, timed by itself.
func readDirs(b *testing.B, rtt, work, each time.Duration, flag string) {
	b.StopTimer()
	const dirs, files = 3, 300
	s := startShelf(b, efss.Nextcloud)
	plantDirs(b, s, dirs, files, page)
	processes := make(chan struct{}, 4)
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		processes <- struct{}{}
		defer func() { <-processes }()
		time.Sleep(work)
		if strings.HasSuffix(r.URL.Path, "/") && r.Method == http.MethodGet {
			time.Sleep(files * each)
		}
		return nil
	})
	path := wan.New(wan.Config{RTT: rtt, Rate: 125e6, Window: 4 << 20})
	defer func() { _ = path.Close() }()
	at, err := path.Listen(s.address, "")
	if err != nil {
		b.Fatal(err)
	}
	m := s.via(at).mount(b, harness.StaticProgram(b), "", append(lasting, flag, "--block-size=128KiB")...)
	s.forget()
	for d := range dirs {
		began := time.Now()
		b.StartTimer()
		harness.Run(b, "/", "tar", "cf", "-", "-C", filepath.Join(m.Dir, "a"), fmt.Sprintf("d%d", d))
		b.StopTimer()
		b.ReportMetric(float64(time.Since(began).Milliseconds()), fmt.Sprintf("ms-d%d", d))
	}
	b.ReportMetric(float64(len(s.requests(http.MethodGet))), "GETs")
	m.MustUnmount(b)
	b.StartTimer()
}
