package efss

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	for text, want := range map[string]string{
		"bytes=0-4": "[{0 5}] true", "bytes=5-": "[{5 10}] true", "bytes=-3": "[{7 10}] true", "bytes=-30": "[{0 10}] true",
		"bytes=8-20": "[{8 10}] true", "bytes=10-": "[] true", "bytes=0-1,3-4": "[{0 2} {3 5}] true", "bytes=-0": "[] true",
		"bytes=4-2": "[] false", "bytes=a-b": "[] false", "bytes=5": "[] false", "items=0-1": "[] false", "": "[] false", "bytes=--1": "[] false",
	} {
		parts, ok := parseRange(text, 10)
		if got := fmt.Sprint(parts, ok); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestParseIf(t *testing.T) {
	w := start(t, Nextcloud)
	q := func(text string) ([]ifList, error) {
		r, err := http.NewRequest("PUT", w.dest("/here"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("If", text)
		return (&request{s: w.Server, r: r, user: "alice", path: "/here"}).parseIf()
	}
	for text, want := range map[string]string{
		`(<a:b> ["e"])`:                          `[{/here [{false a:b } {false  "e"}]}]`,
		`(Not <a:b>) (["e)"])`:                   `[{/here [{true a:b }]} {/here [{false  "e)"}]}]`,
		"<" + w.dest("/x%20y") + "> ([W/\"e\"])": `[{/x y [{false  W/"e"}]}]`,
		"<http://elsewhere/x> (<a:b>)":           `[{ [{false a:b }]}]`,
	} {
		lists, err := q(text)
		if got := fmt.Sprint(lists); err != nil || got != want {
			t.Errorf("%s: got %s %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"(", "()", "<a", "a", "(<a)", "([b)", "(c)", `("`, "(Not)", "(Not )"} {
		if lists, err := q(text); err == nil {
			t.Errorf("%s: taken as %v", text, lists)
		}
	}
}

func TestSplitURL(t *testing.T) {
	for path, want := range map[string]string{
		"/a/b": `["a" "b"]`, "/a//b/": `["a" "b"]`, "/a%20b/%25": `["a b" "%"]`, "/": "[]", "/%e4": `["\xe4"]`,
	} {
		if names, err := splitURL(path); err != nil || fmt.Sprintf("%q", names) != want {
			t.Errorf("%s: %q %v", path, names, err)
		}
	}
	for _, path := range []string{"/..", "/a/./b", "/%2e%2e/x", "/a%2fb", "/%00", "/%zz"} {
		if names, err := splitURL(path); err == nil {
			t.Errorf("%s: taken as %q", path, names)
		}
	}
}

// TestEscapes tries to leave the user's tree by every header that holds a path.
func TestEscapes(t *testing.T) {
	for _, d := range Dialects() {
		w := start(t, d)
		w.put("/f", "x")
		root := strings.TrimSuffix(w.DAVURL(w.user), "/")
		for _, target := range []string{root + "/..%2f..%2fescaped", root + "/%2e%2e/%2e%2e/escaped", root + "/a%00b"} {
			if a := w.do("MOVE", "/f", "", "Destination", target, "Overwrite", "T"); a.StatusCode < 400 {
				t.Errorf("%v: MOVE to %s: %s", d, target, a.Status)
			}
		}
		if got := w.read("/f"); got != "200 x" {
			t.Errorf("%v: the file is gone: %s", d, got)
		}
		w.want(http.StatusBadRequest, "GET", "/..%2f..%2fcatalog.log", "")
	}
}

func TestComposeNFC(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "u\u0308ber": "über", "e\u0301e\u0300": "éè", "\u0308": "\u0308", "q\u0308": "q\u0308",
		"a\u0302\u0301": "ấ", "и\u0306": "й", "über": "über",
	} {
		if got := composeNFC(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDigestParams(t *testing.T) {
	got := digestParams(`username="a, b", qop=auth, nc=00000001, uri="/x?y=z", opaque=""`)
	want := map[string]string{"username": "a, b", "qop": "auth", "nc": "00000001", "uri": "/x?y=z", "opaque": ""}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
	digestParams(`broken`)
	digestParams(`a="unclosed`)
}

// TestProps keeps odd values of dead properties whole.
func TestProps(t *testing.T) {
	w := start(t, Nextcloud)
	w.put("/f", "x")
	for _, value := range []string{"plain", "&lt;&amp;&gt;", "<b xmlns=\"urn:b\" c=\"d &amp; e\">f<g xmlns=\"\">h</g></b>", "ä\u2028\U0001F600", ""} {
		if got := propStatus(w.want(http.StatusMultiStatus, "PROPPATCH", "/f", setProp("x:p", value))); got != "200" {
			t.Errorf("%s: %s", value, got)
		}
		want := value
		if value == "" {
			want = "-"
		}
		if got := w.prop("/f", "x:p"); got != want {
			t.Errorf("set %s, got %s", value, got)
		}
	}
	for _, body := range []string{"", "<", "<a/>", `<d:propertyupdate xmlns:d="DAV:"><d:set>`} {
		w.want(http.StatusBadRequest, "PROPPATCH", "/f", body)
	}
	remove := `<d:propertyupdate xmlns:d="DAV:" xmlns:x="urn:x"><d:remove><d:prop><x:p/></d:prop></d:remove></d:propertyupdate>`
	w.want(http.StatusMultiStatus, "PROPPATCH", "/f", remove)
	if a := w.want(http.StatusMultiStatus, "PROPFIND", "/f", `<d:propfind xmlns:d="DAV:" xmlns:x="urn:x"><d:prop><x:p/></d:prop></d:propfind>`, "Depth", "0"); !strings.Contains(a.body, "404 Not Found") {
		t.Error(a.body)
	}
	both := `<d:propertyupdate xmlns:d="DAV:" xmlns:x="urn:x"><d:set><d:prop><x:q>1</x:q><d:getetag>2</d:getetag></d:prop></d:set></d:propertyupdate>`
	if a := w.want(http.StatusMultiStatus, "PROPPATCH", "/f", both); !strings.Contains(a.body, "403 Forbidden") || !strings.Contains(a.body, "424 Failed Dependency") {
		t.Error(a.body)
	}
	w.want(http.StatusNotFound, "PROPPATCH", "/none", both)
}

// TestClock: everything the server says of time follows its clock.
func TestClock(t *testing.T) {
	c := newClock(0)
	w := start(t, Nextcloud, func(o *Options) { o.Now = c.now })
	a := w.want(http.StatusCreated, "PUT", "/f", "x")
	if got := a.Header.Get("Date") + " " + w.prop("/f", "d:getlastmodified"); got != "Sat, 21 Nov 2026 12:00:00 GMT Sat, 21 Nov 2026 12:00:00 GMT" {
		t.Error(got)
	}
	c.at.Add(3_000_000_000)
	if got := w.do("HEAD", "/f", "").Header.Get("Date"); got != "Sat, 21 Nov 2026 12:00:03 GMT" {
		t.Error(got)
	}
}
