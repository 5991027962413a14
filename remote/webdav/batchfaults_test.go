package webdav_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/webdav"
)

// answers puts another answer in place of that to bulk uploads: change gets the real one.
// With away, the request does not reach the server.
func answers(next http.Handler, away bool, change func(real string) (int, string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			next.ServeHTTP(w, r)
			return
		}
		real := httptest.NewRecorder()
		if away {
			_, _ = io.Copy(io.Discard, r.Body)
		} else {
			next.ServeHTTP(real, r)
		}
		status, text := change(real.Body.String())
		w.Header().Set("Date", real.Header().Get("Date"))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	})
}

// behindFront is a site whose requests go through a handler of the test.
func behindFront(t *testing.T, front func(next http.Handler) http.Handler) *site {
	t.Helper()
	s := newSite(t, efss.Nextcloud)
	web, _ := guard(t, front(s.clock.date(s.Server)))
	s.b = dial(t, options(t, web.URL+s.DAVPath(user)))
	t.Cleanup(func() { _ = s.b.Close() })
	s.ResetRequests()
	return s
}

// TestBulkHostile: whatever answers come to bulk uploads, no file is told to be stored
// that is not, and what was not stored goes another way.
func TestBulkHostile(t *testing.T) {
	for name, c := range map[string]struct {
		away   bool
		change func(string) (int, string)
		stored int // at least; the others are unsure
	}{
		"truncated":       {false, func(s string) (int, string) { return 200, s[:len(s)/2] }, 0},
		"truncated, away": {true, func(string) (int, string) { return 200, `{"\/f 000":{"error":false,"etag":"00"},"\/f 0` }, 20},
		"nothing":         {false, func(string) (int, string) { return 200, "" }, 0},
		"nothing, away":   {true, func(string) (int, string) { return 200, "" }, 20},
		"HTML":            {true, func(string) (int, string) { return 200, "<html>Please log in</html>" }, 20},
		"empty list":      {true, func(string) (int, string) { return 200, "[]" }, 20},
		"foreign names": {true, func(string) (int, string) {
			return 200, `{"\/other":{"error":false,"etag":"00"},"f 000":{"error":false,"etag":"00"}}`
		}, 20},
		"other types": {true, func(string) (int, string) {
			return 200, `{"\/f 000":"53589d60ac417ec20a80d846a13d3996","\/f 001":{"error":"no"},"\/f 002":[],"\/f 003":{"etag":"00"}}`
		}, 20},
		"errors":       {true, func(string) (int, string) { return 200, `{"\/f 000":{"error":true,"message":"no"}}` }, 20},
		"false claims": {true, func(string) (int, string) { return 200, `{"\/f 000":{"error":false,"etag":"00","fileid":"1"}}` }, 19},
		"false tags": {false, func(s string) (int, string) {
			return 200, strings.ReplaceAll(s, `"etag":"`, `"etag":"f00`)
		}, 20},
		"odd tags":      {false, func(s string) (int, string) { return 200, strings.ReplaceAll(s, `"etag":"`, `"etag":"\n \"`) }, 20},
		"false ids":     {false, func(s string) (int, string) { return 200, strings.ReplaceAll(s, `"fileid":"`, `"fileid":"9`) }, 0},
		"missing names": {false, func(s string) (int, string) { return 200, s[:strings.LastIndex(s, ",\"\\/f 01")] + "}" }, 10},
		"400":           {true, func(string) (int, string) { return 400, "[]" }, 20},
		"400, stored":   {false, func(s string) (int, string) { return 400, s }, 20},
		"500, stored":   {false, func(string) (int, string) { return 500, "" }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := behindFront(t, func(next http.Handler) http.Handler { return answers(next, c.away, c.change) })
			items := batchIn("/", 20)
			results := s.batch(t, items)
			if n := s.honest(t, items, results); n < c.stored {
				t.Errorf("%d are told to be stored, want %d: %v", n, c.stored, results)
			}
			for _, r := range results {
				var e *remote.Error
				if r.Err != nil && (!errors.As(r.Err, &e) || !e.Unsure || e.Path == "/") {
					t.Errorf("%v is not unsure", r.Err)
				}
			}
		})
	}
}

// TestBulkRefused: where bulk upload is refused, or is refused for its size, the files go
// by PUT, and it is not tried for ever.
func TestBulkRefused(t *testing.T) {
	for _, status := range []int{403, 404, 413, 423, 501, 507} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			var posts atomic.Int64
			s := behindFront(t, func(next http.Handler) http.Handler {
				return answers(next, true, func(string) (int, string) { posts.Add(1); return status, "" })
			})
			for i := range 5 {
				items := batchIn("/", 5)
				for j := range items {
					items[j].Path += string(rune('a' + i))
				}
				if n := s.honest(t, items, s.batch(t, items)); n != len(items) {
					t.Errorf("%d are stored", n)
				}
			}
			if n := posts.Load(); n > 3 {
				t.Errorf("tried %d times", n)
			}
		})
	}
}

// TestBulkChecksum: a body that is spoilt on the way is noticed, and each file arrives all
// the same.
func TestBulkChecksum(t *testing.T) {
	s := behindFront(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				spoilt := bytes.Replace(body, []byte("\r\n\r\n9,9,9"), []byte("\r\n\r\n9,8,9"), 1)
				r.Body = io.NopCloser(bytes.NewReader(spoilt))
			}
			next.ServeHTTP(w, r)
		})
	})
	items := batchIn("/", 20)
	if n := s.honest(t, items, s.batch(t, items)); n != len(items) {
		t.Errorf("%d are stored", n)
	}
	if n := s.count(); n["POST"] != 1 || n["PUT"] != 11 {
		t.Errorf("sent %v", n)
	}
}

// batchFault is one thing that goes wrong with some requests of a batch.
type batchFault struct {
	name   string
	fault  efss.Fault
	kind   remote.Kind
	unsure bool // if the body was sent
	after  time.Duration
	only   string // method
}

var batchFaults = []batchFault{
	{name: "reset", fault: efss.Fault{Abort: true}, kind: remote.Unavailable, unsure: true},
	{name: "lost answer", fault: efss.Fault{LoseReply: true}, kind: remote.Unavailable, unsure: true},
	{name: "cut answer", fault: efss.Fault{LengthDelta: 10}, kind: remote.Unavailable, unsure: true, only: http.MethodPost},
	{name: "502", fault: status(502), kind: remote.Unavailable, unsure: true},
	{name: "503", fault: status(503, "Retry-After", "7"), kind: remote.Unavailable, after: 7 * time.Second},
	{name: "429", fault: status(429, "Retry-After", "3"), kind: remote.Unavailable, after: 3 * time.Second},
	{name: "401", fault: status(401), kind: remote.Auth},
	{name: "403", fault: status(403), kind: remote.Permission},
	{name: "413", fault: status(413), kind: remote.TooLarge},
	{name: "423", fault: status(423), kind: remote.Locked},
	{name: "507", fault: status(507), kind: remote.NoSpace},
}

// TestBatchFaults: half of the PUTs, or all bulk uploads, go wrong. Each file has its own
// result, of the right kind.
func TestBatchFaults(t *testing.T) {
	for _, method := range []string{http.MethodPut, http.MethodPost} {
		for _, f := range batchFaults {
			if f.only != "" && f.only != method {
				continue
			}
			t.Run(method+"/"+f.name, func(t *testing.T) {
				s := newSite(t, map[string]efss.Dialect{http.MethodPut: efss.ModDAV, http.MethodPost: efss.Nextcloud}[method])
				s.SetFaults(func(r *http.Request) *efss.Fault {
					if r.Method == method && (method == http.MethodPost || strings.HasSuffix(r.URL.Path, "7")) {
						return &f.fault
					}
					return nil
				})
				items := batchIn("/", 60)
				results := s.batch(t, items)
				s.SetFaults(nil)
				f.check(t, s, items, results)
			})
		}
	}
}

// check wants what failed to have failed for the fault, and what is told to be stored to be so.
func (f *batchFault) check(t *testing.T, s *site, items []remote.BatchItem, results []remote.BatchResult) {
	t.Helper()
	failed, unsure := 0, 0
	for i, r := range results {
		var e *remote.Error
		if r.Err == nil {
			continue
		}
		failed++
		if !errors.As(r.Err, &e) || e.Kind != f.kind || e.Path != items[i].Path || e.RetryAfter != f.after || e.Unsure && !f.unsure && e.Kind != remote.Auth {
			t.Errorf("%s: %v, want %v, unsure %t, %v", items[i].Path, r.Err, f.kind, f.unsure, f.after)
		} else if e.Unsure {
			unsure++
		}
	}
	bulk := s.b.Info().Dialect == webdav.Nextcloud // waits for consent before it sends; others refusals lead to PUT
	if failed == 0 && (!bulk || f.unsure || f.after > 0 || f.kind == remote.Auth) {
		t.Error("nothing failed")
	}
	if f.unsure && unsure == 0 && !bulk || f.fault.LoseReply && unsure < failed && bulk {
		t.Errorf("%d of %d are unsure", unsure, failed)
	}
	if f.kind == remote.Auth {
		return // nothing can be looked at any more
	}
	if n := s.honest(t, items, results); n+failed != len(items) {
		t.Errorf("%d stored, %d failed", n, failed)
	}
}

// TestBatchSources: a source that is not what it says is its own fault only.
func TestBatchSources(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			items := batchIn("/", 20)
			broken := remote.E("read", "/local", remote.Corrupt, errors.New("a local fault"))
			items[3].Source = &oddSource{size: 5, data: "four"}
			items[4].Source = &oddSource{size: 5, data: "sixsix"}
			items[5].Source = &oddSource{size: 5, data: "four", err: broken}
			items[6].Source = &oddSource{size: 5, open: broken}
			results := s.batch(t, items)
			for i, kind := range map[int]remote.Kind{3: remote.Invalid, 4: remote.Invalid, 5: remote.Corrupt, 6: remote.Corrupt} {
				wantKind(t, results[i].Err, kind)
				if _, err := s.b.Stat(t.Context(), items[i].Path); !errors.Is(err, remote.NotExist) {
					t.Errorf("%s is there: %v", items[i].Path, err)
				}
			}
			if n := s.honest(t, items, results); n != 16 {
				t.Errorf("%d are stored", n)
			}
		})
	}
}

// oddSource is a source that is not as it says.
type oddSource struct {
	size      int64
	data      string
	open, err error
}

func (s *oddSource) Size() int64 { return s.size }
func (s *oddSource) Open() (io.ReadCloser, error) {
	if s.open != nil {
		return nil, s.open
	}
	var end io.Reader = strings.NewReader("")
	if s.err != nil {
		end = failing{s.err}
	}
	return io.NopCloser(io.MultiReader(strings.NewReader(s.data), end)), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestBatchCancel: who cancels a batch has it back at once, with a result for each file.
func TestBatchCancel(t *testing.T) {
	for _, d := range []efss.Dialect{efss.Nextcloud, efss.ModDAV} {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.SetFaults(func(r *http.Request) *efss.Fault {
				if r.Method != http.MethodPut && r.Method != http.MethodPost {
					return nil
				}
				cancel()
				return &efss.Fault{Hang: true}
			})
			items := batchIn("/", 100)
			results, err := s.b.PutBatch(ctx, items)
			if err != nil || len(results) != len(items) {
				t.Fatalf("%d results: %v", len(results), err)
			}
			for _, r := range results {
				if !errors.Is(r.Err, context.Canceled) {
					t.Errorf("%v", r.Err)
				}
			}
			if _, err := s.b.PutBatch(ctx, items); !errors.Is(err, context.Canceled) {
				t.Errorf("a batch that was cancelled before it began: %v", err)
			}
		})
	}
}

// TestBatchClosing: a server that closes connections under some first requests gets those
// files with the next; a file whose answer was lost is not told to be somebody else's.
func TestBatchClosing(t *testing.T) {
	for _, c := range []struct {
		name    string
		dialect efss.Dialect
		method  string
		fault   efss.Fault
		failed  int
	}{
		{"put", efss.ModDAV, http.MethodPut, efss.Fault{Abort: true}, 0},
		{"put, stored", efss.ModDAV, http.MethodPut, efss.Fault{LoseReply: true}, 2},
		{"bulk upload", efss.Nextcloud, http.MethodPost, efss.Fault{Abort: true}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.dialect)
			var hits atomic.Int64
			s.SetFaults(func(r *http.Request) *efss.Fault {
				every := r.Method == http.MethodPost || strings.HasSuffix(r.URL.Path, "3")
				if r.Method != c.method || !every || hits.Add(1) > 2 {
					return nil
				}
				return &c.fault
			})
			items := batchIn("/", 60)
			results := s.batch(t, items)
			stored := s.honest(t, items, results)
			if failed := len(items) - stored; hits.Load() < 2 || failed != c.failed {
				t.Errorf("%d failed", failed)
			}
			for _, r := range results {
				var e *remote.Error
				if r.Err != nil && (!errors.As(r.Err, &e) || e.Kind != remote.Unavailable || !e.Unsure) {
					t.Errorf("%v", r.Err)
				}
			}
		})
	}
}
