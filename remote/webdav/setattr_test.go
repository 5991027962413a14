package webdav_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/httpd"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// attrSteps sets attributes of what it makes, and returns what each step takes.
func attrSteps(t *testing.T, b *webdav.Backend, did func() string) (steps []string) {
	t.Helper()
	usual, when := remote.ModesOf(0o022), time.Unix(1_500_000_000, 0)
	private, file, dir := uint32(0o700), uint32(0o644), uint32(0o755)
	want := func(path string, mode uint32, known, timed bool) {
		t.Helper()
		e, err := b.Stat(t.Context(), path)
		if err != nil || e.ModeKnown != known || known && e.Mode != mode || timed && !e.MTime.Equal(when) {
			t.Errorf("%s: %+v, %v; want mode %o (%v) and time %v", path, e, err, mode, known, when)
		}
		did()
	}
	step := func(path string, a remote.Attrs) {
		t.Helper()
		a.Usual = usual
		e, err := b.SetAttr(t.Context(), path, a)
		if err != nil || a.MTime != nil && !e.MTime.Equal(when) {
			t.Errorf("%s: %+v, %v", path, e, err)
		}
		steps = append(steps, did())
	}
	did()
	for _, path := range []string{"/a", "/b", "/c"} {
		if _, err := b.Mkdir(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	steps = append(steps, did())
	step("/a", remote.Attrs{MTime: &when, Mode: &dir, Made: true})
	want("/a", 0, false, true)
	step("/b", remote.Attrs{MTime: &when, Mode: &private, Made: true})
	want("/b", private, true, true)
	step("/b", remote.Attrs{MTime: &when, Mode: &dir})
	want("/b", dir, true, true)
	step("/c", remote.Attrs{Mode: &private, Made: true})
	want("/c", private, true, false)
	if _, err := b.Put(t.Context(), "/f", remotetest.Bytes([]byte("f")), remote.PutOptions{
		Cond: remote.Cond{NotExist: true}, Attrs: remote.Attrs{Mode: &file, Usual: usual}}); err != nil {
		t.Fatal(err)
	}
	steps = append(steps, did())
	want("/f", 0, false, false)
	step("/f", remote.Attrs{Mode: &file})
	step("/f", remote.Attrs{MTime: &when, Mode: &private})
	want("/f", private, true, true)
	step("/f", remote.Attrs{Mode: &file})
	want("/f", file, true, true)
	return steps
}

// The requests of attrSteps, as far as dialects differ from each other.
var attrRequests = map[efss.Dialect][]string{
	efss.Nextcloud: {"MKCOL MKCOL MKCOL", "PROPPATCH", "PROPPATCH", "PROPFIND PROPPATCH", "PROPPATCH",
		"PUT PROPFIND", "PROPFIND", "PROPFIND PROPPATCH PROPFIND", "PROPFIND PROPPATCH"},
	efss.ModDAV: {"MKCOL MKCOL MKCOL", "PROPPATCH PROPFIND PROPPATCH", "PROPPATCH PROPFIND PROPPATCH", "PROPFIND PROPPATCH", "PROPPATCH",
		"PUT PROPFIND", "PROPFIND", "PROPFIND PROPPATCH", "PROPFIND PROPPATCH"},
}

func checkSteps(t *testing.T, got, want []string) {
	t.Helper()
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("step %d takes %q, not %q", i, got[i], want[i])
		}
	}
}

// TestAttrRequests counts what it takes to make directories and files and to give them modes
// and times: nothing is looked at that was just made, mode and time go together, and a mode
// that is shown anyway takes no request.
func TestAttrRequests(t *testing.T) {
	for d, want := range attrRequests {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			checkSteps(t, attrSteps(t, s.b, s.did), want)
		})
	}
}

// TestAttrRequestsOfApache is TestAttrRequests on the real one: later properties of a directory
// leave its tag alone.
func TestAttrRequestsOfApache(t *testing.T) {
	real, err := url.Parse(httpd.Run(t, httpd.Start, httpd.Options{User: user, Password: password}).URL)
	if err != nil {
		t.Fatal(err)
	}
	var methods []string
	var mu sync.Mutex
	proxy := httputil.NewSingleHostReverseProxy(real)
	transport := http.DefaultTransport.(*http.Transport).Clone()
	proxy.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		methods = append(methods, r.Method)
		mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	b := dial(t, options(t, front.URL))
	defer b.Close()
	if _, err := b.Stat(t.Context(), "/"); err != nil { // with the secret from now on
		t.Fatal(err)
	}
	checkSteps(t, attrSteps(t, b, func() string {
		mu.Lock()
		defer mu.Unlock()
		did := strings.Join(methods, " ")
		methods = nil
		return did
	}), attrRequests[efss.ModDAV])
}

// TestAttrsOfMadeGone: a directory that was just made may be gone all the same, which says nothing
// of the server.
func TestAttrsOfMadeGone(t *testing.T) {
	for d := range attrRequests {
		t.Run(d.String(), func(t *testing.T) {
			s := newSite(t, d)
			when, mode := time.Unix(1_500_000_000, 0), uint32(0o700)
			a := remote.Attrs{MTime: &when, Mode: &mode, Usual: remote.ModesOf(0o022), Made: true}
			if e, err := s.b.SetAttr(t.Context(), "/none", a); remote.KindOf(err) != remote.NotExist || err == nil {
				t.Errorf("of nothing: %+v, %v", e, err)
			}
			if e, err := s.b.SetAttr(t.Context(), "/no/parent", a); remote.KindOf(err) != remote.NotExist || err == nil {
				t.Errorf("without a parent: %+v, %v", e, err)
			}
			if !s.b.Caps().StoresMode {
				t.Error("that is taken for a server that keeps no properties")
			}
		})
	}
}
