package efss

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBulkCaptures repeats the recorded bulk uploads.
func TestBulkCaptures(t *testing.T) {
	w := start(t, Nextcloud)
	w.want(http.StatusCreated, "MKCOL", "/cap2", "")
	for _, name := range []string{"bulk-ok", "bulk-missing-parent", "bulk-wrong-md5"} {
		rec := readCapture(t, "nextcloud-34", name)
		body := strings.ReplaceAll(strings.TrimRight(rec.requestBody, "\n")+"\n", "\n", "\r\n")
		got := w.do("POST", "/"+rec.path, body, "Content-Type", rec.requestHeader.Get("Content-Type"))
		rec.compare(t, name, got)
	}
	for name, want := range map[string]string{"b1": "one", "b2": "two", "b3": "three", "b5": "", "b6": ""} {
		data, _ := os.ReadFile(filepath.Join(w.Disk(w.user), "cap2", name)) // nothing of what was refused
		if string(data) != want {
			t.Errorf("%s holds %q, want %q", name, data, want)
		}
	}
}

// part writes one part of a bulk upload.
func part(path, content string, more ...string) string {
	text := "--b\r\nX-File-Path: " + path + "\r\nContent-Length: " + fmt.Sprint(len(content)) + "\r\n" +
		fmt.Sprintf("X-File-MD5: %x\r\n", md5.Sum([]byte(content)))
	for _, line := range more {
		text += line + "\r\n"
	}
	return text + "\r\n" + content + "\r\n"
}

// bulk sends parts and returns what the answer says of each path.
func (w *world) bulk(status int, parts ...string) map[string]map[string]any {
	w.t.Helper()
	got := w.want(status, "POST", "/"+bulkPath, strings.Join(parts, "")+"--b--\r\n", "Content-Type", "multipart/related; boundary=b")
	files := map[string]map[string]any{}
	if got.body == "[]" {
		return files
	}
	if err := json.Unmarshal([]byte(got.body), &files); err != nil {
		w.t.Fatalf("%q: %v", got.body, err)
	}
	return files
}

// TestBulk: each part has a result of its own, and what is there is replaced.
func TestBulk(t *testing.T) {
	w := start(t, Nextcloud, func(o *Options) { o.Users[0].Quota = 1000 })
	w.want(http.StatusCreated, "MKCOL", "/d", "")
	w.want(http.StatusCreated, "MKCOL", "/closed", "")
	w.want(http.StatusCreated, "PUT", "/d/old", "what was there")
	if err := w.SetReadOnly(w.user, "/closed", true); err != nil {
		t.Fatal(err)
	}
	files := w.bulk(http.StatusOK,
		part("/d/new", "line\r\n--b--\r\n", "X-File-Mtime: 1500000000"), part("/d/old", ""), part("/d/ä \U0001f600", "x"),
		part("/d", "a directory"), part("/none/f", "x"), part("/closed/f", "x"), part("/d/.htaccess", "x"),
		part("/d/early", "x", "X-OC-Mtime: 86400"), part("/d/large", strings.Repeat("x", 2000)), part("d/last", "x"))
	for path, stored := range map[string]bool{
		"/d/new": true, "/d/old": true, "/d/ä \U0001f600": true, "/d": false, "/none/f": false, "/closed/f": false,
		"/d/.htaccess": false, "/d/early": false, "/d/large": false, "d/last": true,
	} {
		if f := files[path]; f == nil || f["error"] != !stored || stored != (f["etag"] != nil) || stored == (f["message"] != nil) {
			t.Errorf("%s: %v, want stored %t", path, f, stored)
		}
	}
	for name, want := range map[string]string{"new": "line\r\n--b--\r\n", "old": "", "ä \U0001f600": "x", "last": "x"} {
		if data, err := os.ReadFile(filepath.Join(w.Disk(w.user), "d", name)); err != nil || string(data) != want {
			t.Errorf("%s holds %q, want %q: %v", name, data, want, err)
		}
	}
	e, err := w.store.lookup(w.user, "/d/new")
	if err != nil || e.MTime.Unix() != 1500000000 || e.Uploaded != 0 || e.ETag != files["/d/new"]["etag"] {
		t.Errorf("stored as %+v: %v", e, err)
	}
}

// TestBulkRefused: what cannot be read ends the request, and leaves what came before.
func TestBulkRefused(t *testing.T) {
	w := start(t, Nextcloud)
	good := part("/good", "good")
	for name, bad := range map[string]string{
		"checksum":       strings.Replace(part("/f", "abc"), "abc", "abd", 1),
		"OC-Checksum":    part("/f", "abc", "OC-Checksum: sha256:00"),
		"no checksum":    "--b\r\nX-File-Path: /f\r\nContent-Length: 0\r\n\r\n\r\n",
		"no length":      "--b\r\nX-File-Path: /f\r\nX-File-MD5: d41d8cd98f00b204e9800998ecf8427e\r\n\r\n\r\n",
		"short length":   strings.Replace(part("/f", "abc"), "Content-Length: 3", "Content-Length: 2", 1),
		"long length":    strings.Replace(part("/f", "abc"), "Content-Length: 3", "Content-Length: 3000", 1),
		"another marker": strings.Replace(part("/f", "abc"), "--b", "--c", 1),
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			files := w.bulk(http.StatusBadRequest, good, bad, part("/after", "x"))
			if len(files) != 1 || files["/good"]["error"] != false {
				t.Errorf("told %v", files)
			}
		})
	}
	for _, path := range []string{"/f", "/after"} {
		w.want(http.StatusNotFound, "GET", path, "")
	}
	w.want(http.StatusBadRequest, "POST", "/"+bulkPath, good, "Content-Type", "multipart/form-data; boundary=b")
	if files := w.bulk(http.StatusOK); len(files) != 0 {
		t.Errorf("nothing was sent, and told %v", files)
	}
	locked := start(t, Nextcloud, func(o *Options) { o.NoBulk = true })
	locked.want(http.StatusNotImplemented, "POST", "/"+bulkPath, good+"--b--\r\n", "Content-Type", "multipart/related; boundary=b")
	start(t, ModDAV).want(http.StatusNotFound, "POST", "/"+bulkPath, good+"--b--\r\n", "Content-Type", "multipart/related; boundary=b")
}
