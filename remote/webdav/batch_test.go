package webdav_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/httpd"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// content is what file i of a batch holds.
func content(i int) string { return strings.Repeat(fmt.Sprint(i, ","), i%40) }

// batchIn returns n new files of a directory. Their time is an hour ago, and loose.
func batchIn(dir string, n int) []remote.BatchItem {
	when := time.Now().Add(-time.Hour)
	items := make([]remote.BatchItem, n)
	for i := range items {
		items[i] = remote.BatchItem{
			Path: remote.Join(dir, fmt.Sprintf("f %03d", i)), Source: remotetest.Bytes([]byte(content(i))),
			Attrs: remote.Attrs{MTime: &when}, Loose: true,
		}
	}
	return items
}

// batch stores items and wants a result for each.
func (s *site) batch(t *testing.T, items []remote.BatchItem) []remote.BatchResult {
	t.Helper()
	results, err := s.b.PutBatch(t.Context(), items)
	if err != nil || len(results) != len(items) {
		t.Fatalf("%d results: %v", len(results), err)
	}
	return results
}

// honest checks what was told of files: none is told to be stored that is not there as it
// was sent, and those that are have the entry that a look shows. It returns how many are.
func (s *site) honest(t *testing.T, items []remote.BatchItem, results []remote.BatchResult) (stored int) {
	t.Helper()
	for i, r := range results {
		data, err := os.ReadFile(filepath.Join(s.Disk(user), items[i].Path))
		switch {
		case r.Err != nil:
			continue
		case err != nil || string(data) != content(i):
			t.Errorf("%s is told to be stored and holds %q: %v", items[i].Path, data, err)
			continue
		}
		stored++
		seen, err := s.b.Stat(t.Context(), items[i].Path)
		if err != nil {
			t.Fatal(err)
		}
		seen.Provisional = r.Entry.Provisional // time has gone on
		if !seen.MTime.Equal(r.Entry.MTime) {
			t.Errorf("put says %v, stat says %v", r.Entry.MTime, seen.MTime)
		}
		if seen.MTime = r.Entry.MTime; seen != r.Entry {
			t.Errorf("put says  %+v\nstat says %+v", r.Entry, seen)
		}
	}
	return stored
}

// count counts the requests of each method since the last call.
func (s *site) count() map[string]int {
	n := map[string]int{}
	for _, r := range s.Requests() {
		n[r.Method]++
		n[""]++
	}
	s.ResetRequests()
	return n
}

// TestBatchRequests: a hundred new files cost few requests, with and without directories
// between them, and no PROPPATCH for a loose time.
func TestBatchRequests(t *testing.T) {
	for _, c := range []struct {
		name string
		efss.Options
		most, strict int
	}{
		{"nextcloud", efss.Options{Dialect: efss.Nextcloud}, 4, 4},
		{"no bulk upload", efss.Options{Dialect: efss.Nextcloud, NoBulk: true}, 102, 102},
		{"mod_dav", efss.Options{Dialect: efss.ModDAV}, 102, 202},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSiteWith(t, c.Options)
			s.foreign(t, "MKCOL", "/loose", "", nil)
			s.foreign(t, "MKCOL", "/strict", "", nil)
			s.count()
			for dir, most := range map[string]int{"/loose": c.most, "/strict": c.strict} {
				items := batchIn(dir, 100)
				for i := range items {
					items[i].Loose = dir == "/loose"
				}
				results := s.batch(t, items)
				if n := s.count(); n[""] > most {
					t.Errorf("%s: %v, want at most %d", dir, n, most)
				}
				for i, r := range results {
					if r.Rest != (remote.Attrs{}) {
						t.Errorf("%s is left to be set for %s, which nobody has asked for", r.Rest.MTime, items[i].Path)
					}
				}
				if n := s.honest(t, items, results); n != len(items) {
					t.Errorf("%s: %d of %d are stored: %v", dir, n, len(items), results[0].Err)
				}
				if dir == "/strict" && !results[7].Entry.MTime.Truncate(time.Second).Equal(items[7].Attrs.MTime.Truncate(time.Second)) {
					t.Errorf("the time is %v, sent was %v", results[7].Entry.MTime, items[7].Attrs.MTime)
				}
				s.count()
			}
		})
	}
}

// TestBatchLater: attributes that may come later cost a batch nothing, and what is told to be
// left is just what the server does not show.
func TestBatchLater(t *testing.T) {
	for d, timed := range map[efss.Dialect]bool{efss.Nextcloud: true, efss.ModDAV: false} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			items := batchIn("/", 20)
			mode := uint32(0o750)
			for i := range items {
				items[i].Later, items[i].Attrs.Mode = true, &mode
			}
			results := s.batch(t, items)
			if n := s.count(); n["PROPPATCH"] > 0 {
				t.Errorf("%v", n)
			}
			for i, r := range results {
				if r.Err != nil || r.Rest.Mode == nil || *r.Rest.Mode != mode || (r.Rest.MTime == nil) != timed {
					t.Errorf("%s: %+v, %v", items[i].Path, r.Rest, r.Err)
				}
				if r.Rest.MTime != nil && !r.Rest.MTime.Equal(*items[i].Attrs.MTime) {
					t.Errorf("%s: the time that is left is %v, not %v", items[i].Path, r.Rest.MTime, items[i].Attrs.MTime)
				}
			}
		})
	}
}

// TestBatchOnApache counts what the real one is asked.
func TestBatchOnApache(t *testing.T) {
	real, err := url.Parse(httpd.Run(t, httpd.Start, httpd.Options{User: user, Password: password}).URL)
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(real)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = 32, 32
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	b := dial(t, options(t, front.URL))
	defer b.Close()
	requests.Store(0)
	results, err := b.PutBatch(t.Context(), batchIn("/", 100))
	if err != nil {
		t.Fatal(err)
	}
	if n := requests.Load(); n > 103 { // the first is asked for its password
		t.Errorf("%d requests", n)
	}
	for i, r := range results {
		if r.Err != nil || r.Entry.Size != int64(len(content(i))) || r.Entry.Version == "" {
			t.Errorf("%+v: %v", r.Entry, r.Err)
		}
	}
}

// TestLoose: a single file has no PROPPATCH for a loose time, but for a mode, and then the
// time comes with it.
func TestLoose(t *testing.T) {
	s := newSite(t, efss.ModDAV)
	when, mode := time.Unix(1_500_000_000, 0), uint32(0o600)
	opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{MTime: &when}, Loose: true}
	e := s.put(t, "/f", "one", opts)
	if got := s.did(); got != "PUT PROPFIND" || e.MTime.Equal(when) {
		t.Errorf("%q, and the time is %v", got, e.MTime)
	}
	opts.Attrs.Mode = &mode
	e = s.put(t, "/g", "one", opts)
	if got := s.did(); got != "PUT PROPFIND PROPPATCH" || !e.MTime.Equal(when) || e.Mode != mode {
		t.Errorf("%q, and the file is %+v", got, e)
	}
}

// TestBatchManyDirs: files here and there, some of which cannot be.
func TestBatchManyDirs(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			var items []remote.BatchItem
			for i := range 5 {
				dir := fmt.Sprintf("/d%d", i)
				s.foreign(t, "MKCOL", dir, "", nil)
				items = append(items, batchIn(dir, 1+5*i)...)
			}
			good := len(items)
			items = append(items, batchIn("/none", 40)...)
			items = append(items, batchIn("/d4/f 000", 3)...)
			for i := range items {
				items[i].Source = remotetest.Bytes([]byte(content(i)))
			}
			s.foreign(t, "PUT", items[3].Path, "theirs", nil)
			s.count()
			results := s.batch(t, items)
			n := s.count()
			for i, r := range results {
				want := remote.KindOf(nil)
				switch {
				case i == 3:
					want = remote.Exist
				case i >= good+40:
					want = remote.NotDir
				case i >= good:
					want = remote.NotExist
				}
				if k := remote.KindOf(r.Err); r.Err != nil && k != want || r.Err == nil && want != k {
					t.Errorf("%s: %v, want %v", items[i].Path, r.Err, want)
				}
			}
			if want := good + 40 + 40; n[""] > want {
				t.Errorf("%v, want at most %d requests", n, want)
			}
			if data, err := os.ReadFile(filepath.Join(s.Disk(user), items[3].Path)); err != nil || string(data) != "theirs" {
				t.Errorf("what was there is %q: %v", data, err)
			}
			if n := s.honest(t, items, results); n != good-1 {
				t.Errorf("%d stored, want %d", n, good-1)
			}
		})
	}
}

// TestBatchVast: a directory of very many names is not listed for a few files, and not
// begun to be a second time.
func TestBatchVast(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			s.foreign(t, "MKCOL", "/vast", "", nil)
			for i := range 1200 {
				if err := os.WriteFile(filepath.Join(s.Disk(user), "vast", fmt.Sprint("name", i)), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Scan(user); err != nil {
				t.Fatal(err)
			}
			for _, listings := range []int{1, 0} {
				s.count()
				items := batchIn("/vast", 5)
				for i := range items {
					items[i].Path += fmt.Sprint(" ", listings)
				}
				results := s.batch(t, items)
				n := 0
				for _, r := range s.Requests() {
					if r.Method == "PROPFIND" && r.Header.Get("Depth") == "1" {
						n++
					}
				}
				if n != listings {
					t.Errorf("listed %d times, want %d", n, listings)
				}
				if n := s.honest(t, items, results); n != len(items) {
					t.Errorf("%d stored: %v", n, results[0].Err)
				}
			}
		})
	}
}
