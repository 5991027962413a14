package efss

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// restart closes a server and starts it anew on the same data.
func (w *world) restart(between func()) *world {
	w.t.Helper()
	if err := w.Close(); err != nil {
		w.t.Fatal(err)
	}
	if between != nil {
		between()
	}
	r, err := Start(w.opts, StartOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = r.Close() })
	return &world{Running: r, t: w.t, user: w.user, app: w.app}
}

// state is what a listing of everything says of a file: enough to see a difference.
func (w *world) state(path string) string {
	w.t.Helper()
	var out []string
	for _, p := range []string{"d:getetag", "oc:fileid", "d:getlastmodified", "oc:size", "x:p", "nc:upload_time", "oc:checksums"} {
		out = append(out, w.prop(path, p))
	}
	return strings.Join(out, " ")
}

func TestRestart(t *testing.T) {
	w := start(t, Nextcloud)
	w.mkcol("/d")
	w.mkcol("/d/e")
	w.put("/d/old", "content", "X-OC-Mtime", "1500000000", "OC-Checksum", "SHA1:00")
	w.put("/gone", "x")
	w.want(http.StatusMultiStatus, "PROPPATCH", "/d/old", setProp("x:p", "<x:q xmlns:x=\"urn:x\">&amp;</x:q>"))
	w.want(http.StatusCreated, "MOVE", "/d/old", "", "Destination", w.dest("/d/e/new"), "Overwrite", "F")
	w.want(http.StatusNoContent, "DELETE", "/gone", "")
	if err := w.SetReadOnly(w.user, "/d", true); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/", "/d", "/d/e", "/d/e/new"}
	before := map[string]string{}
	for _, p := range paths {
		before[p] = w.state(p)
	}
	w = w.restart(nil)
	for _, p := range paths {
		if got := w.state(p); got != before[p] {
			t.Errorf("%s: before %s, after %s", p, before[p], got)
		}
	}
	if got := w.prop("/d", "oc:permissions"); got != "RG" {
		t.Errorf("the mark is gone: %s", got)
	}
	w.want(http.StatusNotFound, "GET", "/gone", "")
	id := w.prop("/d/e/new", "oc:fileid")
	w.put("/another", "x")
	if w.prop("/another", "oc:fileid") == id || w.prop("/another", "oc:fileid") <= id {
		t.Errorf("file ids are given again: %s after %s", w.prop("/another", "oc:fileid"), id)
	}
}

// TestCrash takes bytes off the end of the catalog's log: what it then lacks comes
// from the disk.
func TestCrash(t *testing.T) {
	w := start(t, Nextcloud)
	w.mkcol("/d")
	w.put("/d/first", "one")
	w.put("/d/second", "two")
	log := filepath.Join(w.opts.Dir, "catalog.log")
	for range 4 {
		w = w.restart(func() {
			fi, err := os.Stat(log)
			if err != nil || os.Truncate(log, fi.Size()-30) != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(w.opts.Dir, "tmp", "body-1"), []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		if got := w.read("/d/first") + w.read("/d/second"); got != "200 one200 two" {
			t.Fatalf("after a crash: %q", got)
		}
		if n, err := w.Scan(w.user); n != 0 || err != nil {
			t.Fatalf("%d differences are left: %v", n, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Join(w.opts.Dir, "tmp")); len(entries) != 0 {
		t.Errorf("%d half bodies are left", len(entries))
	}
}

func TestBrokenCatalog(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "catalog.log"), []byte("{}\nnot json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{Dir: dir, Users: []User{{Name: "a", Password: "b"}}})
	if err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a catalog that is no catalog: %v", err)
	}
}

func TestScan(t *testing.T) {
	w := start(t, Nextcloud)
	w.mkcol("/d")
	w.put("/d/f", "one")
	w.put("/d/g", "one")
	root, file := w.prop("/", "d:getetag"), w.prop("/d/f", "d:getetag")
	disk := w.Disk(w.user)
	for name, content := range map[string]string{"d/f": "changed", "d/new": "new", "sub.txt": "x"} {
		if err := os.WriteFile(filepath.Join(disk, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(disk, "d/g")); err != nil {
		t.Fatal(err)
	}
	if got := w.prop("/", "d:getetag"); got != root {
		t.Error("changes behind the server's back show without a scan")
	}
	if n, err := w.Scan(w.user); n != 4 || err != nil {
		t.Errorf("%d differences, want 4: %v", n, err)
	}
	if w.prop("/", "d:getetag") == root || w.prop("/d/f", "d:getetag") == file {
		t.Error("the versions did not change")
	}
	if got := w.read("/d/f") + " " + w.read("/d/new") + " " + w.read("/d/g") + " " + w.prop("/", "oc:size"); got != "200 changed 200 new 404 11" {
		t.Errorf("after the scan: %s", got)
	}
	if _, err := w.Scan("nobody"); err == nil {
		t.Error("scan of an unknown user")
	}
}

func TestQuota(t *testing.T) {
	w := start(t, Nextcloud, func(o *Options) { o.Users[0].Quota = 100 })
	w.put("/a", strings.Repeat("x", 60))
	if got := w.prop("/", "d:quota-available-bytes") + " " + w.prop("/", "d:quota-used-bytes"); got != "40 60" {
		t.Errorf("quota %s, want 40 60", got)
	}
	a := w.want(http.StatusInsufficientStorage, "PUT", "/b", strings.Repeat("x", 41))
	if !strings.Contains(a.body, `Sabre\DAV\Exception\InsufficientStorage`) || !strings.Contains(a.body, "41 required, 40 available") {
		t.Errorf("507 says %s", a.body)
	}
	w.want(http.StatusInsufficientStorage, "PUT", "/b", strings.Repeat("x", 41), "Transfer-Encoding", "chunked")
	w.want(http.StatusNotFound, "GET", "/b", "")
	w.want(http.StatusInsufficientStorage, "COPY", "/a", "", "Destination", w.dest("/c"))
	w.want(http.StatusCreated, "MKCOL", "//remote.php/dav/uploads/alice/up", "", "Destination", w.dest("/d"))
	w.want(http.StatusInsufficientStorage, "PUT", "//remote.php/dav/uploads/alice/up/1", "x", "OC-Total-Length", "41")
	w.want(http.StatusNoContent, "DELETE", "/a", "")
	w.put("/b", strings.Repeat("x", 100))
}

func TestReadOnly(t *testing.T) {
	for _, d := range Dialects() {
		w := start(t, d)
		w.mkcol("/d")
		w.put("/d/f", "x")
		w.put("/g", "x")
		for _, p := range []string{"/d", "/g"} {
			if err := w.SetReadOnly(w.user, p, true); err != nil {
				t.Fatal(err)
			}
		}
		got := w.codes(step{"PUT", "/g", nil, "y"}, step{"PUT", "/d/new", nil, "y"}, step{"MKCOL", "/d/sub", nil, ""},
			step{"DELETE", "/d/f", nil, ""}, step{"MOVE", "/g", h("Destination", "@/h", "Overwrite", "F"), ""},
			step{"MOVE", "/d/f", h("Destination", "@/h", "Overwrite", "F"), ""}, step{"GET", "/g", nil, ""})
		if got != "403 403 403 403 403 403 200" {
			t.Errorf("%v: %s", d, got)
		}
		if err := w.SetReadOnly(w.user, "/g", false); err != nil {
			t.Fatal(err)
		}
		w.put("/g", "z")
	}
	if err := start(t, Nextcloud).SetReadOnly("alice", "/none", true); err == nil {
		t.Error("what is not there was marked")
	}
}

func TestMaintenance(t *testing.T) {
	w := start(t, Nextcloud)
	w.SetMaintenance(true)
	a := w.want(http.StatusServiceUnavailable, "PROPFIND", "/", "", "Depth", "0")
	if !strings.Contains(a.body, "maintenance") || a.Header.Get("Retry-After") != "" {
		t.Errorf("503 says %v %s", a.Header, a.body)
	}
	if a := w.want(http.StatusOK, "GET", "//status.php", ""); !strings.Contains(a.body, `"maintenance":true`) {
		t.Error(a.body)
	}
	w.SetMaintenance(false)
	w.want(http.StatusMultiStatus, "PROPFIND", "/", "", "Depth", "0")
}

func TestOptions(t *testing.T) {
	_, err := New(Options{Dialect: 99, Digest: true, Users: []User{{Name: "a/b", Password: "x"}, {Name: "c"}, {Name: "d", Password: "x", Quota: -1}}})
	for _, want := range []string{"no directory", "dialect 99", "digest", `"a/b"`, "no secret", "quota"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not speak of %s", err, want)
		}
	}
	if _, err := New(Options{Dir: t.TempDir()}); err == nil {
		t.Error("a server without users")
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	run := func(notAfter time.Time) error {
		r, err := Start(Options{Dir: dir, Users: []User{{Name: "a", Password: "b"}}}, StartOptions{TLS: true, NotAfter: notAfter})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close() }()
		pem, err := os.ReadFile(r.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
		defer client.CloseIdleConnections()
		resp, err := client.Get(r.BaseURL + "/status.php")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := run(time.Time{}); err != nil {
		t.Error(err)
	}
	first, _ := os.ReadFile(filepath.Join(dir, "tls", "ca.pem"))
	if err := run(time.Now().Add(-time.Hour)); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired certificate: %v", err)
	}
	if again, _ := os.ReadFile(filepath.Join(dir, "tls", "ca.pem")); string(first) != string(again) {
		t.Error("the authority changed")
	}
}

// TestCloseWaits closes a server in the middle of transfers and looks for goroutines
// that stay.
func TestCloseWaits(t *testing.T) {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	before := runtime.NumGoroutine()
	w := start(t, Nextcloud)
	w.put("/f", "old")
	conn := w.halfPut("/f", "ne", 10)
	defer func() { _ = conn.Close() }()
	w.waitFor("the body", arrived("ne", w.Disk(w.user)))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rec := &discardResponse{header: http.Header{}}
	w.Server.ServeHTTP(rec, mustRequest(t))
	if rec.status != http.StatusServiceUnavailable {
		t.Errorf("a closed server answers %d", rec.status)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	w.waitFor("goroutines to end", func() bool { return runtime.NumGoroutine() <= before+1 })
}

type discardResponse struct {
	header http.Header
	status int
}

func (d *discardResponse) Header() http.Header         { return d.header }
func (d *discardResponse) Write(p []byte) (int, error) { return len(p), nil }
func (d *discardResponse) WriteHeader(status int)      { d.status = status }

func mustRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequest("GET", "http://host/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestConcurrent lets many clients work at once; the race detector and the sizes
// tell whether that went well.
func TestConcurrent(t *testing.T) {
	for _, d := range []Dialect{Nextcloud, Generic} {
		w := start(t, d)
		w.mkcol("/d")
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 25 {
					own := fmt.Sprintf("/d/f%d-%d", i, j)
					w.do("PUT", own, "12345")
					w.do("PUT", "/shared", strings.Repeat("x", i+1))
					w.do("PROPFIND", "/", "", "Depth", "1")
					if _, _, err := w.try("GET", "/shared", ""); err != nil && d == Nextcloud {
						t.Error(err) // servers that write in place cut answers short
					}
					if j%3 == 0 {
						w.do("MOVE", own, "", "Destination", w.dest(own+"m"), "Overwrite", "F")
					}
					if j%5 == 0 {
						w.do("DELETE", own, "")
					}
				}
			})
		}
		wg.Wait()
		if n, err := w.Scan(w.user); n != 0 || err != nil {
			t.Errorf("%v: catalog and disk differ %d times: %v", d, n, err)
		}
	}
}

// TestMoveGap: on most servers what MOVE replaces is away for a moment; measured on
// mod_dav and rclone, and so in the source of the others.
func TestMoveGap(t *testing.T) {
	for d, gap := range map[Dialect]bool{Nextcloud: true, OpenCloud: true, Reva: true, ModDAV: true, Rclone: true, XRootD: false, Generic: false} {
		w := start(t, d)
		w.put("/dst", "old")
		var missing atomic.Int64
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, _, _ := w.try("PROPFIND", "/dst", ""); status == http.StatusNotFound {
					missing.Add(1)
				}
			}
		}()
		tries := 60 // where nothing must be seen
		if gap {
			tries = 5000
		}
		for range tries {
			w.put("/src", "new")
			w.do("MOVE", "/src", "", "Destination", w.dest("/dst"), "Overwrite", "T")
			if missing.Load() > 0 {
				break
			}
		}
		close(stop)
		<-ended
		if seen := missing.Load() > 0; seen != gap {
			t.Errorf("%v: the target was away: %v, want %v", d, seen, gap)
		}
	}
}

// TestReadLocks: a read in progress refuses changes.
func TestReadLocks(t *testing.T) {
	for _, locks := range []bool{false, true} {
		w := start(t, Nextcloud, func(o *Options) { o.ReadLocks = locks })
		w.put("/f", "content")
		w.SetFaults(only("GET", &Fault{Stall: true, ReplyAt: 3}))
		client := &http.Transport{}
		defer client.CloseIdleConnections()
		req, _ := http.NewRequest("GET", w.dest("/f"), nil)
		req.SetBasicAuth(w.user, w.app)
		resp, err := client.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		w.want(http.StatusCreated, "MKCOL", upload, "")
		w.want(http.StatusCreated, "PUT", upload+"/1", "x")
		got := w.codes(step{"PUT", "/f", nil, "x"}, step{"MOVE", "/f", h("Destination", "@/g", "Overwrite", "F"), ""},
			step{"MOVE", "/g", h("Destination", "@/f", "Overwrite", "F"), ""})
		assembled := w.do("MOVE", upload+"/.file", "", "Destination", w.dest("/f")).StatusCode
		deleted := w.do("DELETE", "/f", "").StatusCode
		_ = resp.Body.Close()
		want := "423 201 201 204 204"
		if locks {
			want = "423 423 404 423 423"
		}
		if got := fmt.Sprint(got, " ", assembled, " ", deleted); got != want {
			t.Errorf("ReadLocks %v: %s, want %s", locks, got, want)
		}
	}
}

// TestExclusiveCreate: of many who create one name, one succeeds.
func TestExclusiveCreate(t *testing.T) {
	w := start(t, Nextcloud)
	for range 20 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 4 {
			wg.Go(func() {
				if w.do("PUT", "/once", "x", "If-None-Match", "*").StatusCode == http.StatusCreated {
					mu.Lock()
					made++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if made != 1 {
			t.Fatalf("created %d times", made)
		}
		w.want(http.StatusNoContent, "DELETE", "/once", "")
	}
}

// TestHugeDirectory lists many entries without keeping the document.
func TestHugeDirectory(t *testing.T) {
	const entries = 20000
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "files/alice/d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if err := os.WriteFile(filepath.Join(dir, "files/alice/d", fmt.Sprintf("file-%06d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := start(t, Nextcloud, func(o *Options) { o.Dir = dir })
	for _, encoding := range []string{"identity", "gzip"} {
		req, _ := http.NewRequest("PROPFIND", w.dest("/d"), strings.NewReader(askProps))
		req.SetBasicAuth(w.user, w.app)
		req.Header.Set("Depth", "1")
		req.Header.Set("Accept-Encoding", encoding)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusMultiStatus {
			t.Fatal(resp.Status, err)
		}
		zipped := resp.Header.Get("Content-Encoding") == "gzip"
		if zipped != (encoding == "gzip") || zipped == (n > 1<<23) {
			t.Errorf("%s: %d bytes, compressed %v", encoding, n, zipped)
		}
	}
}
