package efss

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// capture is an answer of a real server, recorded in testdata/captures.
type capture struct {
	method, path  string
	requestHeader textproto.MIMEHeader
	requestBody   string
	status        int
	header        http.Header
	body          string
}

// readCapture reads one file: the request's first line, then, above a line "---", its
// headers and body where they were recorded, then the answer.
func readCapture(t *testing.T, dir, name string) capture {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "captures", dir, name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	first, text, _ := strings.Cut(string(raw), "\n")
	var c capture
	c.method, c.path, _ = strings.Cut(first, " ")
	c.path = "/" + strings.TrimPrefix(c.path, "/")
	if asked, answer, ok := strings.Cut(text, "\n---\n"); ok {
		head, body, _ := strings.Cut(asked+"\n", "\n\n")
		c.requestHeader = readHeader(t, head)
		c.requestBody = strings.TrimSuffix(body, "\n\n")
		text = answer
	}
	text = strings.TrimLeft(text, "\n")
	head, body, _ := strings.Cut(text, "\n\n")
	line, head, _ := strings.Cut(head, "\n")
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &c.status); err != nil {
		t.Fatalf("%s: %q", name, line)
	}
	c.header, c.body = http.Header(readHeader(t, head)), body
	return c
}

func readHeader(t *testing.T, text string) textproto.MIMEHeader {
	t.Helper()
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(strings.TrimSpace(text) + "\n\n")))
	h, err := r.ReadMIMEHeader()
	if err != nil && strings.TrimSpace(text) != "" {
		t.Fatalf("%q: %v", text, err)
	}
	return h
}

// compare reports where an answer differs from the recorded one.
func (c capture) compare(t *testing.T, name string, got answer) {
	t.Helper()
	if got.StatusCode != c.status {
		t.Errorf("%s: status %d, recorded %d", name, got.StatusCode, c.status)
	}
	want := headerShapes(c.header, c.body)
	have := headerShapes(got.Header, got.body)
	for _, line := range want {
		if !slices.Contains(have, line) {
			t.Errorf("%s: header missing: %s", name, line)
		}
	}
	for _, line := range have {
		if !slices.Contains(want, line) {
			t.Errorf("%s: header too many: %s", name, line)
		}
	}
	if a, b := bodyShape(c.body), bodyShape(got.body); a != b {
		t.Errorf("%s: bodies differ:\n%s", name, lineDiff(a, b))
	}
}

// lineDiff shows the lines that only one of the texts has.
func lineDiff(recorded, ours string) string {
	a, b := strings.Split(recorded, "\n"), strings.Split(ours, "\n")
	var out []string
	for _, line := range a {
		if !slices.Contains(b, line) {
			out = append(out, "recorded: "+line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			out = append(out, "ours:     "+line)
		}
	}
	if out == nil {
		out = []string{"the same lines in another order or number", ours}
	}
	return strings.Join(out, "\n")
}

// headerShapes lists the headers whose meaning does not depend on the connection or
// the moment.
func headerShapes(h http.Header, body string) []string {
	var out []string
	for name, values := range h {
		switch name {
		case "Content-Length", "Connection", "Upgrade", "Keep-Alive", "Date", "Transfer-Encoding",
			"X-Content-Type-Options", "Feature-Policy", "Upload-Metadata":
			continue
		case "Content-Type":
			if strings.TrimSpace(body) == "" {
				continue
			}
		}
		for _, v := range values {
			out = append(out, name+": "+shape(v))
		}
	}
	slices.Sort(out)
	return out
}

func headerNames(a answer) string {
	var names []string
	for _, line := range headerShapes(a.Header, a.body) {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

var shapes = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Nov|[A-Z][a-z][a-z]) 20\d\d \d\d:\d\d:\d\d`), "DATE"},
	{regexp.MustCompile(`https?://[0-9.]+:\d+`), "SERVER"},
	{regexp.MustCompile(`realm="[0-9.]+:\d+"`), `realm="HOST"`},
	{regexp.MustCompile(`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`), "UUID"},
	{regexp.MustCompile(`\b\d{8}oc[0-9a-z]{10}\b`), "OCID"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "HEX32"},
	{regexp.MustCompile(`[0-9a-f]{13}"`), `HEX13"`},
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`\b179\d{7}\b`), "UNIXTIME"},
	{regexp.MustCompile(`Second-\d+`), "SECONDS"},
	{regexp.MustCompile(`/data/[a-z0-9<>]+`), "/data/TOKEN"},
}

// shape takes out of a text what is another each time.
func shape(text string) string {
	for _, s := range shapes {
		text = s.from.ReplaceAllString(text, s.to)
	}
	return text
}

// bodyShape is a body without what is another each time. Of XML only the meaning
// counts: elements with full names, in order, the responses of a listing sorted.
func bodyShape(body string) string {
	if !strings.HasPrefix(strings.TrimSpace(body), "<") {
		return shape(strings.TrimSpace(body))
	}
	var lines, entries []string
	var path []string
	var text strings.Builder
	dec := xml.NewDecoder(strings.NewReader(body))
	for {
		tok, err := dec.Token()
		if err != nil {
			break
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			path = append(path, tok.Name.Space+" "+tok.Name.Local)
			text.Reset()
			lines = append(lines, strings.Repeat("  ", len(path))+path[len(path)-1])
		case xml.CharData:
			text.Write(tok)
		case xml.EndElement:
			if s := strings.TrimSpace(text.String()); s != "" {
				lines[len(lines)-1] += " = " + shapeValue(path[len(path)-1], s)
			}
			text.Reset()
			path = path[:len(path)-1]
			if tok.Name.Local == "response" {
				entries = append(entries, strings.Join(lines, "\n"))
				lines = nil
			}
		}
	}
	slices.Sort(entries)
	return strings.Join(append(entries, lines...), "\n")
}

// shapeValue knows the properties whose values are counted up.
func shapeValue(name, value string) string {
	if name == nsOC+" fileid" && len(value) < 6 {
		return "NUMBER"
	}
	return shape(value)
}

const askProps = `<?xml version="1.0"?><d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns"><d:prop>` +
	`<d:getetag/><d:getlastmodified/><d:getcontentlength/><d:resourcetype/><d:quota-available-bytes/><d:quota-used-bytes/>` +
	`<oc:fileid/><oc:id/><oc:permissions/><oc:size/><oc:checksums/><nc:upload_time/></d:prop></d:propfind>`

// recorded is the script of the recordings, in its order. A step without a name was
// not recorded.
var recorded = []struct {
	name string
	step step
}{
	{"mkcol", step{"MKCOL", "", nil, ""}},
	{"mkcol-again", step{"MKCOL", "", nil, ""}},
	{"put-new", step{"PUT", "/plain.bin", nil, "hello capture"}},
	{"put-checksum", step{"PUT", "/with-checksum.bin", h("OC-Checksum", "SHA1:2fbfa4c2d5a2ed7c1b2a1a5ba2ad1cbd8e5d4b0d", "X-OC-Mtime", "1500000000"), "hello capture"}},
	{"", step{"MKCOL", "/sub%20dir", nil, ""}},
	{"", step{"PUT", "/empty", h("Transfer-Encoding", "chunked"), ""}},
	{"", step{"PUT", "/%c3%a4%20%26%20%3c%23%25.txt", nil, "x"}},
	{"propfind-depth1", step{"PROPFIND", "", h("Depth", "1"), askProps}},
	{"propfind-depth0", step{"PROPFIND", "", h("Depth", "0"), askProps}},
	{"propfind-infinity", step{"PROPFIND", "", h("Depth", "infinity"), askProps}},
	{"propfind-missing", step{"PROPFIND", "/none", h("Depth", "0"), askProps}},
	{"get-range", step{"GET", "/plain.bin", h("Range", "bytes=2-5"), ""}},
	{"get-range-past", step{"GET", "/plain.bin", h("Range", "bytes=100-200"), ""}},
	{"get-if-match-wrong", step{"GET", "/plain.bin", h("If-Match", `"wrong"`), ""}},
	{"put-if-match-wrong", step{"PUT", "/plain.bin", h("If-Match", `"wrong"`), "xxx"}},
	{"put-if-none-match", step{"PUT", "/plain.bin", h("If-None-Match", "*"), "yyy"}},
	{"put-no-parent", step{"PUT", "/no/parent", nil, "x"}},
	{"put-on-dir", step{"PUT", "/sub%20dir", nil, "x"}},
	{"move-no-overwrite", step{"MOVE", "/plain.bin", h("Destination", "@/empty", "Overwrite", "F"), ""}},
	{"options", step{"OPTIONS", "@", nil, ""}},
	{"delete-missing", step{"DELETE", "/none", nil, ""}},
}

// TestCaptures repeats the recorded requests and compares the answers.
func TestCaptures(t *testing.T) {
	for dir, d := range map[string]Dialect{"nextcloud-34": Nextcloud, "opencloud": OpenCloud, "reva": Reva} {
		t.Run(dir, func(t *testing.T) {
			user := map[Dialect]string{Nextcloud: "alice", OpenCloud: "alan", Reva: "alice"}[d]
			w := start(t, d, func(o *Options) { o.Users[0].Name = user; o.NoGzip = true })
			w.user = user
			for _, r := range recorded {
				path := "/capture-dir" + r.step.path
				if r.step.path == "@" {
					path = "/"
				}
				headers := slices.Clone(r.step.header)
				for i, v := range headers {
					headers[i] = strings.ReplaceAll(v, "@", w.dest("/capture-dir"))
				}
				got := w.do(r.step.method, path, r.step.body, headers...)
				if r.name != "" {
					readCapture(t, dir, r.name).compare(t, r.name, got)
				}
			}
		})
	}
}

// TestCapturesWithHeaders repeats the recordings that hold their request.
func TestCapturesWithHeaders(t *testing.T) {
	for _, c := range []struct {
		dir   string
		d     Dialect
		user  string
		names []string
	}{
		{"nextcloud-34", Nextcloud, "alice", []string{"chunked-1-mkcol", "chunked-2-put", "chunked-3-propfind", "chunked-4-move-wrong-length", "chunked-5-move", "wrong-password", "login-v2-start"}},
		{"opencloud", OpenCloud, "alan", []string{"tus-1-create", "tus-2-head", "tus-3-patch", "wrong-password"}},
	} {
		t.Run(c.dir, func(t *testing.T) {
			w := start(t, c.d, func(o *Options) { o.Users[0].Name = c.user; o.NoGzip = true })
			w.user = c.user
			w.want(http.StatusCreated, "MKCOL", "/cap2", "")
			if c.d == Nextcloud {
				w.want(http.StatusCreated, "PUT", "/cap2/old.bin", "the old content")
			}
			token := ""
			for _, name := range c.names {
				rec := readCapture(t, c.dir, name)
				var headers []string
				for k, v := range rec.requestHeader {
					headers = append(headers, k, regexp.MustCompile(`^http://[0-9.:]+`).ReplaceAllString(v[0], w.BaseURL))
				}
				got := w.do(rec.method, "/"+strings.ReplaceAll(rec.path, "<token>", token), rec.requestBody, headers...)
				if _, after, ok := strings.Cut(got.Header.Get("Location"), "/data/"); ok {
					token = after
				}
				if name == "login-v2-start" {
					sameKeys(t, rec.body, got.body)
					rec.body, got.body = "", ""
				}
				if name == "wrong-password" {
					rec.body, got.body = "", "" // the message lists the apps that were asked
				}
				rec.compare(t, name, got)
			}
		})
	}
}

// sameKeys compares two JSON objects by their keys.
func sameKeys(t *testing.T, a, b string) {
	t.Helper()
	keys := func(text string) string {
		var v map[string]any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		var out []string
		for k, v := range v {
			out = append(out, fmt.Sprintf("%s:%T", k, v))
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	if x, y := keys(a), keys(b); x != y {
		t.Errorf("recorded %s, ours %s", x, y)
	}
}

// TestStatusDocuments compares status.php by its keys.
func TestStatusDocuments(t *testing.T) {
	for dir, d := range map[string]Dialect{"nextcloud-34": Nextcloud, "opencloud": OpenCloud} {
		want, err := os.ReadFile(filepath.Join("testdata", "captures", dir, "status.json"))
		if err != nil {
			t.Fatal(err)
		}
		sameKeys(t, string(want), start(t, d).want(http.StatusOK, "GET", "//status.php", "").body)
	}
}

// parseXML reads a whole document.
func parseXML(text string) (int, error) {
	dec := xml.NewDecoder(strings.NewReader(text))
	for n := 0; ; n++ {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}
