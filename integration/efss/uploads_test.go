package efss

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const upload = "//remote.php/dav/uploads/alice/up"

// TestChunked walks through the rules of chunked upload v2.
func TestChunked(t *testing.T) {
	c := newClock(time.Millisecond)
	w := start(t, Nextcloud, func(o *Options) { o.Now = c.now })
	dst := []string{"Destination", w.dest("/f")}
	w.put("/f", "old content")
	id := w.prop("/f", "oc:fileid")
	tag := strings.ReplaceAll(w.prop("/f", "d:getetag"), "&quot;", `"`)

	w.want(http.StatusNotFound, "PUT", upload+"/1", "x", dst...)
	w.want(http.StatusCreated, "MKCOL", upload, "", dst...)
	w.want(http.StatusMethodNotAllowed, "MKCOL", upload, "", dst...)
	for _, name := range []string{"0", "10001", "first"} {
		w.want(http.StatusBadRequest, "PUT", upload+"/"+name, "x", dst...)
	}
	w.want(http.StatusCreated, "PUT", upload+"/10", "three", dst...)
	w.want(http.StatusCreated, "PUT", upload+"/00002", "xx", dst...)
	w.want(http.StatusNoContent, "PUT", upload+"/00002", " two ", dst...)
	w.want(http.StatusCreated, "PUT", upload+"/1", "one", dst...)
	a := w.want(http.StatusMultiStatus, "PROPFIND", upload, askProps, "Depth", "1")
	for _, want := range []string{"/up/.file</d:href>", "/up/00002</d:href>", "<d:getcontentlength>13</d:getcontentlength>"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("%s is not in %s", want, a.body)
		}
	}
	move := func(status int, headers ...string) answer {
		return w.want(status, "MOVE", upload+"/.file", "", append(headers, dst...)...)
	}
	move(http.StatusBadRequest, "OC-Total-Length", "99", "Overwrite", "T")
	move(http.StatusPreconditionFailed, "Overwrite", "F")
	move(http.StatusPreconditionFailed, "If", "<"+w.dest("/f")+`> (["other"])`)
	move(http.StatusPreconditionFailed, "If-Match", tag)
	w.want(http.StatusConflict, "MOVE", upload+"/.file", "", "Destination", w.dest("/no/f"))
	if got := w.read("/f"); got != "200 old content" {
		t.Errorf("a refused assembly changed the target: %s", got)
	}
	done := move(http.StatusNoContent, "If", "<"+w.dest("/f")+"> (["+tag+"])", "OC-Total-Length", "13", "X-OC-Mtime", "1500000000")
	if got := w.read("/f"); got != "200 one two three" {
		t.Errorf("assembled %s", got)
	}
	if got := strings.ReplaceAll(w.prop("/f", "d:getetag"), "&quot;", `"`); got == tag || done.Header.Get("Etag") != got {
		t.Errorf("ETag %s, then %s, answer %s", tag, got, done.Header.Get("Etag"))
	}
	if w.prop("/f", "oc:fileid") != id {
		t.Error("the id changed")
	}
	w.want(http.StatusNotFound, "PROPFIND", upload, "", "Depth", "1")
}

func TestChunkedAbortAndExpiry(t *testing.T) {
	c := newClock(time.Millisecond)
	w := start(t, Nextcloud, func(o *Options) { o.Now = c.now })
	w.want(http.StatusCreated, "MKCOL", upload, "")
	w.want(http.StatusCreated, "PUT", upload+"/1", "x")
	w.want(http.StatusNoContent, "DELETE", upload, "")
	w.want(http.StatusNotFound, "DELETE", upload, "")
	w.want(http.StatusCreated, "MKCOL", upload, "")
	w.want(http.StatusCreated, "PUT", upload+"/1", "x")
	w = w.restart(nil)
	w.want(http.StatusMultiStatus, "PROPFIND", upload, "", "Depth", "1")
	c.pass(25 * time.Hour)
	w.want(http.StatusNotFound, "PROPFIND", upload, "", "Depth", "1")
}

// TestChunkCutShort: a chunk whose client dies is not kept.
func TestChunkCutShort(t *testing.T) {
	w := start(t, Nextcloud)
	w.want(http.StatusCreated, "MKCOL", upload, "")
	w.SetFaults(only("PUT", &Fault{CutRequest: true, RequestAt: 2}))
	_, _, _ = w.try("PUT", "/../../uploads/alice/up/1", "12345")
	req, _ := http.NewRequest("PUT", w.BaseURL+upload[1:]+"/1", strings.NewReader("12345"))
	req.SetBasicAuth(w.user, w.app)
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
	w.SetFaults(nil)
	if a := w.want(http.StatusMultiStatus, "PROPFIND", upload, "", "Depth", "1"); strings.Contains(a.body, "/up/1<") {
		t.Errorf("half a chunk is there: %s", a.body)
	}
}

// tusMeta writes an Upload-Metadata header.
func tusMeta(pairs ...string) string {
	var out []string
	for i := 0; i+1 < len(pairs); i += 2 {
		out = append(out, pairs[i]+" "+base64.StdEncoding.EncodeToString([]byte(pairs[i+1])))
	}
	return strings.Join(out, ",")
}

// tusCreate begins an upload into the root collection and returns its URL path.
func (w *world) tusCreate(status, length int, meta string, more ...string) string {
	w.t.Helper()
	a := w.want(status, "POST", "/", "", append(more, "Tus-Resumable", "1.0.0", "Upload-Length", fmt.Sprint(length), "Upload-Metadata", meta)...)
	return "/" + strings.TrimPrefix(a.Header.Get("Location"), w.BaseURL)
}

func (w *world) tusPatch(status int, url string, offset int, body string, more ...string) answer {
	w.t.Helper()
	return w.want(status, "PATCH", url, body, append(more, "Authorization", "", "Tus-Resumable", "1.0.0",
		"Upload-Offset", fmt.Sprint(offset), "Content-Type", "application/offset+octet-stream")...)
}

func TestTus(t *testing.T) {
	for _, d := range []Dialect{OpenCloud, Reva} {
		w := start(t, d)
		w.put("/f", "old content")
		url := w.tusCreate(http.StatusCreated, 13, tusMeta("filename", "f", "mtime", "1500000000"))
		w.tusPatch(http.StatusNoContent, url, 0, "one two ")
		w.tusPatch(http.StatusConflict, url, 3, "x")
		if got := w.want(http.StatusOK, "HEAD", url, "", "Tus-Resumable", "1.0.0", "Authorization", "").Header.Get("Upload-Offset"); got != "8" {
			t.Errorf("%v: offset %s", d, got)
		}
		w.tusPatch(http.StatusRequestEntityTooLarge, url, 8, "far too much")
		if got := w.read("/f"); got != "200 old content" {
			t.Errorf("%v: before the end: %s", d, got)
		}
		w = w.restart(nil)
		a := w.tusPatch(http.StatusNoContent, "/"+strings.TrimPrefix(url, "/"), 8, "three")
		if a.Header.Get("Oc-Fileid") == "" || a.Header.Get("Etag") != "" {
			t.Errorf("%v: the last answer has %v", d, a.Header)
		}
		if got := w.read("/f") + " " + w.prop("/f", "d:getlastmodified")[12:16]; got != "200 one two three 2017" {
			t.Errorf("%v: %s", d, got)
		}
		w.want(http.StatusNotFound, "HEAD", url, "", "Tus-Resumable", "1.0.0")
	}
}

func TestTusRules(t *testing.T) {
	c := newClock(time.Millisecond)
	w := start(t, OpenCloud, func(o *Options) { o.Now = c.now })
	w.put("/f", "old")
	w.mkcol("/d")
	f := tusMeta("filename", "f")
	w.tusCreate(http.StatusPreconditionFailed, 3, f, "If-Match", `"other"`)
	w.tusCreate(http.StatusPreconditionFailed, 3, tusMeta("filename", "../f"))
	w.tusCreate(http.StatusPreconditionFailed, -1, f)
	w.tusCreate(http.StatusConflict, 3, tusMeta("filename", "d"))
	w.want(http.StatusConflict, "POST", "/none", "", "Tus-Resumable", "1.0.0", "Upload-Length", "1", "Upload-Metadata", f)
	w.want(http.StatusPreconditionFailed, "POST", "/", "", "Upload-Length", "1", "Upload-Metadata", f)

	// If-None-Match is not looked at; nothing to send is whole at once
	w.tusCreate(http.StatusCreated, 0, f, "If-None-Match", "*")
	if got := w.read("/f"); got != "200 " {
		t.Errorf("an empty upload left %s", got)
	}
	a := w.want(http.StatusCreated, "POST", "/", "with creation", "Tus-Resumable", "1.0.0", "Upload-Length", "13",
		"Upload-Metadata", f, "Content-Type", "application/offset+octet-stream")
	if got := w.read("/f"); got != "200 with creation" || a.Header.Get("Upload-Offset") != "13" {
		t.Errorf("creation with upload: %s, %v", got, a.Header)
	}
	url := w.tusCreate(http.StatusCreated, 3, f)
	w.tusPatch(statusChecksum, url, 0, "new", "Upload-Checksum", "sha1 "+base64.StdEncoding.EncodeToString([]byte("wrong")))
	w.want(http.StatusUnsupportedMediaType, "PATCH", url, "new", "Tus-Resumable", "1.0.0", "Upload-Offset", "0", "Content-Type", "text/plain")
	w.want(http.StatusPreconditionFailed, "PATCH", url, "new", "Upload-Offset", "0", "Content-Type", tusType)
	w.want(http.StatusMethodNotAllowed, "GET", url, "", "Authorization", "")
	c.pass(25 * time.Hour)
	w.tusPatch(http.StatusNotFound, url, 0, "new")

	url = w.tusCreate(http.StatusCreated, 3, tusMeta("filename", "f", "checksum", "sha1 0000"))
	w.tusPatch(http.StatusBadRequest, url, 0, "new")
	if got := w.read("/f"); got != "200 with creation" {
		t.Errorf("a wrong checksum left %s", got)
	}
	w.want(http.StatusNotFound, "HEAD", "//data/..%2f..%2fcatalog", "")
}

// TestTusCutShort: what arrived before the client died is kept, and the upload goes
// on from there.
func TestTusCutShort(t *testing.T) {
	w := start(t, OpenCloud)
	url := w.tusCreate(http.StatusCreated, 6, tusMeta("filename", "f"))
	w.SetFaults(only("PATCH", &Fault{CutRequest: true, RequestAt: 2}))
	req, _ := http.NewRequest("PATCH", w.BaseURL+url[1:], strings.NewReader("123456"))
	req.Header.Set("Tus-Resumable", "1.0.0")
	req.Header.Set("Upload-Offset", "0")
	req.Header.Set("Content-Type", tusType)
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
	}
	w.SetFaults(nil)
	if got := w.want(http.StatusOK, "HEAD", url, "", "Tus-Resumable", "1.0.0").Header.Get("Upload-Offset"); got != "2" {
		t.Fatalf("offset %s", got)
	}
	w.tusPatch(http.StatusNoContent, url, 2, "3456")
	if got := w.read("/f"); got != "200 123456" {
		t.Error(got)
	}
	if left, _ := filepath.Glob(filepath.Join(w.opts.Dir, "tus", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestHashes(t *testing.T) {
	w := start(t, Nextcloud)
	a := w.want(http.StatusCreated, "PUT", "/f", "x", "X-Hash", "sha256")
	const sha = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	if got := a.Header.Get("X-Hash-Sha256"); got != sha {
		t.Errorf("X-Hash-SHA256 %q", got)
	}
	if a := w.want(http.StatusNoContent, "PUT", "/f", "x", "X-Hash", "all"); a.Header.Get("X-Hash-Md5") == "" || a.Header.Get("X-Hash-Sha1") == "" {
		t.Errorf("X-Hash: all gives %v", a.Header)
	}
	if a := w.want(http.StatusNoContent, "PATCH", "/f", "", "X-Recalculate-Hash", "sha256"); a.Header.Get("Oc-Checksum") != "SHA256:"+sha {
		t.Errorf("recalculated %v", a.Header)
	}
	if got := w.prop("/f", "oc:checksums"); !strings.Contains(got, "SHA256:"+sha) {
		t.Errorf("stored %s", got)
	}
	w.want(http.StatusBadRequest, "PATCH", "/f", "", "X-Recalculate-Hash", "crc")
	w.want(http.StatusNotFound, "PATCH", "/none", "", "X-Recalculate-Hash", "md5")

	x := start(t, XRootD)
	x.put("/f", "x")
	if got := x.want(http.StatusOK, "GET", "/f", "", "Want-Digest", "adler32").Header.Get("Digest"); got != "adler32=00790079" {
		t.Errorf("Digest %q", got)
	}
	x.want(http.StatusInternalServerError, "GET", "/f", "", "Want-Digest", "adler32,sha-512")
}

func TestLockRules(t *testing.T) {
	c := newClock(time.Millisecond)
	w := start(t, Generic, func(o *Options) { o.Now = c.now })
	w.mkcol("/d")
	w.put("/d/f", "x")
	shared := strings.Replace(lockDoc, "exclusive", "shared", 1)
	token := w.want(http.StatusOK, "LOCK", "/d/f", shared, "Timeout", "Second-60").Header.Get("Lock-Token")
	w.want(http.StatusOK, "LOCK", "/d/f", shared)
	w.want(http.StatusLocked, "LOCK", "/d/f", lockDoc)
	w.want(http.StatusLocked, "LOCK", "/d", lockDoc)
	w.want(http.StatusLocked, "DELETE", "/d", "")
	w.want(http.StatusNoContent, "PUT", "/d/f", "y", "If", "("+token+")")
	w.want(http.StatusOK, "LOCK", "/d/f", "", "If", "("+token+")", "Timeout", "Second-100")
	c.pass(90 * time.Second)
	w.want(http.StatusNoContent, "PUT", "/d/f", "y", "If", "("+token+")")
	c.pass(time.Hour)
	w.want(http.StatusNoContent, "PUT", "/d/f", "y")
	w.want(http.StatusPreconditionFailed, "LOCK", "/d/f", "", "If", "("+token+")")
	w.want(http.StatusConflict, "UNLOCK", "/d/f", "", "Lock-Token", token)
	w.want(http.StatusBadRequest, "UNLOCK", "/d/f", "")
	w.want(http.StatusBadRequest, "LOCK", "/d/f", "<x/>")
	if w.Locks() != 0 {
		t.Errorf("%d locks", w.Locks())
	}
	nc := start(t, Nextcloud)
	nc.put("/f", "x")
	if got := nc.prop("/f", "nc:lock"); got != "-" {
		t.Errorf("nc:lock %s", got)
	}
	nc.want(http.StatusOK, "LOCK", "/f", lockDoc)
	if got := nc.prop("/f", "nc:lock") + nc.prop("/f", "nc:lock-owner"); got != "1alice" {
		t.Errorf("nc:lock %s", got)
	}
}
