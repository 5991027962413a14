package efss

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// above is a tree in which changes are watched from the top.
type above struct {
	*world
	t *testing.T
}

// tops are the directories whose tags are watched: two branches of the tree, and what
// lies beside each step of them.
var tops = []string{"/", "/a/", "/a/b/", "/a/b/c/", "/a/beside/", "/x/", "/x/y/", "/beside/"}

// newAbove makes the tree.
func newAbove(t *testing.T, d Dialect) *above {
	w := &above{start(t, d), t}
	for _, dir := range tops[1:] {
		w.mkcol(strings.TrimSuffix(dir, "/"))
	}
	w.put("/a/b/c/old", "one", "X-OC-Mtime", "1500000000")
	w.put("/x/y/there", "two")
	return w
}

// look returns the tags of tops.
func (w *above) look() map[string]string {
	tags := map[string]string{}
	for _, dir := range tops {
		tags[dir] = w.prop(dir, "d:getetag")
	}
	return tags
}

// changes checks that a change gives new tags to the directories at and above dirs, and
// to no others.
func (w *above) changes(what string, change func(), dirs ...string) {
	w.t.Helper()
	before := w.look()
	change()
	after := w.look()
	for _, top := range tops {
		want := false
		for _, dir := range dirs {
			want = want || strings.HasPrefix(dir, top)
		}
		if got := before[top] != after[top]; got != want {
			w.t.Errorf("%s: the tag of %s changed: %v, want %v", what, top, got, want)
		}
	}
}

// TestChangesReachTheTop: Nextcloud and the oCIS family give a new tag to every directory
// above a change, so that one request at the top proves that nothing below has changed.
func TestChangesReachTheTop(t *testing.T) {
	const c, y = "/a/b/c/", "/x/y/"
	for _, d := range []Dialect{Nextcloud, OpenCloud} {
		t.Run(d.String(), func(t *testing.T) {
			w := newAbove(t, d)
			to := func(path string) []string { return []string{"Destination", w.dest(path), "Overwrite", "T"} }
			w.changes("nothing", func() { w.want(http.StatusOK, "GET", c+"old", "") })
			w.changes("a new file", func() { w.put(c+"f", "1") }, c)
			w.changes("an overwrite", func() { w.put(c+"f", "2") }, c)
			w.changes("the same bytes", func() { w.put(c+"f", "2") }, c)
			w.changes("a directory", func() { w.mkcol(c + "new") }, c)
			w.changes("an empty file", func() { w.put(c+"new/e", "") }, c)
			w.changes("a rename", func() { w.want(http.StatusCreated, "MOVE", c+"f", "", to(c+"g")...) }, c)
			w.changes("a move", func() { w.want(http.StatusCreated, "MOVE", c+"g", "", to(y+"g")...) }, c, y)
			w.changes("an overwriting move", func() { w.want(http.StatusNoContent, "MOVE", y+"g", "", to(c+"new/e")...) }, c, y)
			w.changes("a moved directory", func() { w.want(http.StatusCreated, "MOVE", c+"new", "", to(y+"new")...) }, c, y)
			w.changes("a copy", func() { w.want(http.StatusCreated, "COPY", y+"there", "", to(c+"copy")...) }, c)
			w.changes("an overwriting copy", func() { w.want(http.StatusNoContent, "COPY", y+"there", "", to(c+"copy")...) }, c)
			w.changes("a removal", func() { w.want(http.StatusNoContent, "DELETE", c+"copy", "") }, c)
			w.changes("a removed tree", func() { w.want(http.StatusNoContent, "DELETE", y+"new", "") }, y)
			w.changes("a dead property", func() { w.do("PROPPATCH", c+"old", setProp("x:p", "v")) })
			w.changes("a refused change", func() {
				w.want(http.StatusPreconditionFailed, "MOVE", c+"old", "", "Destination", w.dest(y+"there"), "Overwrite", "F")
				w.want(http.StatusNotFound, "DELETE", c+"none", "")
			})
			sameTag(w)
			uploadsReach(w, d, c)
		})
	}
}

// sameTag writes other bytes of one size under one time: the file keeps its tag, and the
// directories show it all the same.
func sameTag(w *above) {
	file := w.prop("/a/b/c/old", "d:getetag")
	w.changes("other bytes at one time", func() { w.put("/a/b/c/old", "eno", "X-OC-Mtime", "1500000000") }, "/a/b/c/")
	if got := w.prop("/a/b/c/old", "d:getetag"); got != file {
		w.t.Errorf("the tag of the file was %s and is %s", file, got)
	}
}

// uploadsReach changes the tree in the ways of one dialect only.
func uploadsReach(w *above, d Dialect, dir string) {
	if d != Nextcloud {
		meta := "filename " + base64.StdEncoding.EncodeToString([]byte("tus"))
		a := w.want(http.StatusCreated, "POST", dir, "", "Tus-Resumable", "1.0.0", "Upload-Length", "3", "Upload-Metadata", meta)
		url := "/" + strings.TrimPrefix(a.Header.Get("Location"), w.BaseURL)
		w.changes("a tus upload", func() { w.tusPatch(http.StatusNoContent, url, 0, "one") }, dir)
		return
	}
	for i, path := range []string{dir + "old", strings.TrimSuffix(dir, "/"), "/a/b"} {
		parent, _ := splitPath(path)
		parent = strings.TrimSuffix(parent, "/") + "/"
		w.changes("a time set on "+path, func() {
			w.do("PROPPATCH", path, setProp("d:lastmodified", fmt.Sprint(1_600_000_000+i)))
		}, map[bool]string{true: parent, false: path + "/"}[i == 0])
	}
	w.want(http.StatusCreated, "MKCOL", upload, "", "Destination", w.dest(dir+"old"))
	w.changes("a chunk", func() { w.want(http.StatusCreated, "PUT", upload+"/1", "chunk", "Destination", w.dest(dir+"old")) })
	w.changes("an assembly", func() {
		w.want(http.StatusNoContent, "MOVE", upload+"/.file", "", "Destination", w.dest(dir+"old"), "Overwrite", "T")
	}, dir)
}

// TestScanReachesTheTop: what was changed behind the server's back shows with a scan, up
// to the top.
func TestScanReachesTheTop(t *testing.T) {
	for _, d := range []Dialect{Nextcloud, OpenCloud} {
		w := newAbove(t, d)
		w.changes("nothing scanned", func() { scan(t, w) })
		for what, change := range map[string]func(dir string) error{
			"a new file": func(dir string) error { return os.WriteFile(dir+"/behind", []byte("new"), 0o644) },
			"a new size": func(dir string) error { return os.WriteFile(dir+"/old", []byte("longer than before"), 0o644) },
			"a removal":  func(dir string) error { return os.Remove(dir + "/old") },
		} {
			w := newAbove(t, d)
			w.changes(what+" behind the back", func() {
				if err := change(w.store.disk("alice", "/a/b/c")); err != nil {
					t.Fatal(err)
				}
			})
			w.changes(what+", scanned", func() { scan(t, w) }, "/a/b/c/")
		}
	}
}

func scan(t *testing.T, w *above) {
	t.Helper()
	if _, err := w.store.rescan("alice"); err != nil {
		t.Fatal(err)
	}
}
