package webdav

import (
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// bulkStage plays the answer of a capture to each bulk upload, and an empty directory to
// each look until then. It remembers the last body.
func bulkStage(t *testing.T, name string) (*Backend, *string, *stage) {
	t.Helper()
	answer, empty := readCapture(t, "nextcloud-34/"+name+".txt"), readCapture(t, "nextcloud-34/propfind-missing.txt")
	body := ""
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
			data, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			body = string(data)
			answer.write(w)
		case http.MethodPut:
			w.WriteHeader(http.StatusInsufficientStorage)
		default:
			empty.write(w)
		}
	})
	b := s.actor(t, Nextcloud, "/remote.php/dav/files/alice/cap2")
	var caps capabilities
	if err := readJSON(strings.NewReader(`{"capabilities":{"dav":{"bulkupload":"1.0"}}}`), &caps); err != nil {
		t.Fatal(err)
	}
	b.opts.Bulk = true
	b.planBulk(&caps)
	return b, &body, s
}

// bulkMembers makes a batch of files with these names and contents, as it is just before it
// is sent.
func bulkMembers(b *Backend, files map[string]string) *batch {
	r := &batch{b: b}
	when := time.Unix(1_500_000_000, 0)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		r.add(remote.BatchItem{Path: name, Source: text(files[name]), Attrs: remote.Attrs{MTime: &when}}, new(remote.BatchResult))
	}
	return r
}

// TestCapturedBulk: what is sent has all of what the recorded requests have, and the
// recorded answers are understood.
func TestCapturedBulk(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		taken []string
	}{
		"bulk-ok":             {map[string]string{"/b1": "one", "/b2": "two"}, []string{"/b1", "/b2"}},
		"bulk-missing-parent": {map[string]string{"/b3": "three", "/none/b4": "four"}, []string{"/b3"}},
		"bulk-wrong-md5":      {map[string]string{"/b5": "five", "/b6": "six"}, nil},
	} {
		b, body, _ := bulkStage(t, name)
		r := bulkMembers(b, c.files)
		r.bulkTurn(t.Context(), r.all)
		var got []string
		for _, m := range r.at(taken) {
			got = append(got, m.path)
			if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(m.sent.tag) || m.sent.perms != "RGDNVW" || !strings.HasPrefix(m.sent.id, "000058") {
				t.Errorf("%s: %+v", m.path, m.sent)
			}
		}
		if !slices.Equal(got, c.taken) {
			t.Errorf("%s: taken are %v, want %v", name, got, c.taken)
		}
		parts := strings.Split(*body, "--meshmount-")
		for path, text := range c.files {
			i := slices.IndexFunc(parts, func(s string) bool { return strings.Contains(s, "\r\nX-File-Path: /cap2"+path+"\r\n") })
			if i < 0 || !strings.HasSuffix(parts[i], "\r\n\r\n"+text+"\r\n") || !strings.Contains(parts[i], "\r\nX-OC-Mtime: 1500000000\r\n") {
				t.Errorf("%s: no good part for %s in %q", name, path, *body)
			}
		}
	}
}

// TestBulkable: what the endpoint would take for another path does not go there.
func TestBulkable(t *testing.T) {
	b, _, _ := bulkStage(t, "bulk-ok")
	r := bulkMembers(b, map[string]string{
		"/plain": "", "/a b": "", "/\u00e4 \U0001f600": "", "/end ": "", "/dir\\x/f": "", "/d\n/f": "", "/cafe\u0301/f": "",
		"/large": strings.Repeat("x", batchFile),
	})
	for _, m := range r.all {
		if want := slices.Contains([]string{"/plain", "/a b", "/\u00e4 \U0001f600", "/large"}, m.path); m.bulkable() != want {
			t.Errorf("%q: %t", m.path, !want)
		}
	}
}

// TestBulkPlan: only a user's own files have it, and only where the server says so.
func TestBulkPlan(t *testing.T) {
	s := newStage(t, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct{ path, version, base string }{
		{"/remote.php/dav/files/alice", "1.0", ""},
		{"/sub/remote.php/dav/files/alice/deep er", "1.0", "/deep er"},
		{"/remote.php/dav/files/alice", "2.0", "none"},
		{"/remote.php/dav/files/alice", "", "none"},
		{"/remote.php/webdav", "1.0", "none"},
		{"/public.php/dav/files/token", "1.0", "none"},
	} {
		b := s.actor(t, Nextcloud, c.path)
		var caps capabilities
		caps.Capabilities.DAV.Bulk = c.version
		b.planBulk(&caps)
		if b.bulk.on() {
			t.Errorf("%s %s: on without being asked for", c.path, c.version)
		}
		b.opts.Bulk = true
		b.planBulk(&caps)
		if b.bulk.on() != (c.base != "none") || b.bulk.on() && b.bulk.base != c.base {
			t.Errorf("%s %s: %q %q", c.path, c.version, b.bulk.url, b.bulk.base)
		}
	}
}

// TestBulkSizes: requests grow while they are quick, and shrink when they are slow or
// refused for their size.
func TestBulkSizes(t *testing.T) {
	p := &bulkPlan{url: "x"}
	p.files.Store(bulkFiles)
	p.bytes.Store(bulkBytes)
	p.pace(20, time.Second)
	p.pace(100, 5*time.Second)
	if p.files.Load() != bulkFiles {
		t.Errorf("%d files", p.files.Load())
	}
	for range 9 {
		p.pace(int(p.files.Load()), time.Second)
	}
	if p.files.Load() != bulkMost {
		t.Errorf("%d files", p.files.Load())
	}
	p.pace(bulkMost, time.Minute)
	if p.files.Load() != bulkMost/2 {
		t.Errorf("%d files", p.files.Load())
	}
	for range 9 {
		p.pace(int(p.files.Load()), time.Minute)
	}
	if p.files.Load() != bulkLeast {
		t.Errorf("%d files", p.files.Load())
	}
	p.tooLarge(2 << 20)
	if p.bytes.Load() != 1<<20 || !p.on() {
		t.Errorf("%d bytes", p.bytes.Load())
	}
	if p.tooLarge(10 << 10); p.on() {
		t.Error("still on")
	}
	if p.pace(bulkLeast, time.Second); p.on() {
		t.Error("on again")
	}
}
