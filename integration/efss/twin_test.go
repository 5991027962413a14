package efss

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/httpd"
)

// step is one request of a script that runs on two servers.
type step struct {
	method, path string
	header       []string // name, value pairs; @ stands for the server's root URL
	body         string
}

func (s step) String() string { return fmt.Sprint(s.method, " ", s.path, " ", s.header) }

// run sends a step to a server whose root collection is at root.
func (s step) run(t *testing.T, root string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), s.method, root+s.path, strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("alice", "secret")
	if s.body == "" {
		req.Body = http.NoBody
	}
	for i := 0; i+1 < len(s.header); i += 2 {
		req.Header.Set(s.header[i], strings.ReplaceAll(s.header[i+1], "@", root))
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(s, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(s, err)
	}
	return answer{resp, string(text)}
}

func h(pairs ...string) []string { return pairs }

// script visits what the dialects differ in.
var script = []step{
	{"OPTIONS", "", nil, ""},
	{"PROPFIND", "", h("Depth", "0"), ""},
	{"MKCOL", "d", nil, ""},
	{"MKCOL", "d", nil, ""},
	{"PUT", "plain", nil, "x"},
	{"MKCOL", "hidden", nil, ""},
	{"PUT", "hidden/.davfs.tmp1", nil, "x"},
	{"PUT", "hidden/x.davfs.tmp", nil, "x"},
	{"PROPFIND", "hidden", h("Depth", "1"), ""},
	{"GET", "hidden/.davfs.tmp1", nil, ""},
	{"MKCOL", "plain", nil, ""},
	{"MKCOL", "no/d", nil, ""},
	{"MKCOL", "body", nil, "text"},
	{"PUT", "d/a.txt", nil, "0123456789"},
	{"PUT", "d/a.txt", nil, "0123456789"},
	{"PUT", "d/b.txt", h("If-None-Match", "*"), "bbb"},
	{"PUT", "d/b.txt", h("If-None-Match", "*"), "ccc"},
	{"PUT", "d/b.txt", h("If-Match", `"wrong"`), "ddd"},
	{"PUT", "d/none.txt", h("If-Match", `*`), "ddd"},
	{"PUT", "no/x", nil, "x"},
	{"PUT", "d", nil, "x"},
	{"PUT", "d/a%20%c3%a4&%3c%23%25.txt", nil, "x"},
	{"PUT", "d/empty", nil, ""},
	{"PUT", "d/ranged", h("Content-Range", "bytes 2-3/4"), "xy"},
	{"PROPFIND", "d", h("Depth", "1"), ""},
	{"PROPFIND", "d", h("Depth", "2"), ""},
	{"PROPFIND", "d", nil, ""},
	{"PROPFIND", "d/a.txt", h("Depth", "0"), `<propfind xmlns="DAV:" xmlns:o="http://owncloud.org/ns"><prop><getetag/><getcontentlength/><resourcetype/><getlastmodified/><quota-used-bytes/><o:fileid/></prop></propfind>`},
	{"PROPFIND", "d/a.txt", h("Depth", "0"), `<propfind xmlns="DAV:"><propname/></propfind>`},
	{"PROPFIND", "d/a.txt", h("Depth", "0"), `<propfind`},
	{"PROPFIND", "none", h("Depth", "0"), ""},
	{"GET", "d/a.txt", nil, ""},
	{"HEAD", "d/a.txt", nil, ""},
	{"GET", "d/a.txt", h("Range", "bytes=2-4"), ""},
	{"GET", "d/a.txt", h("Range", "bytes=7-"), ""},
	{"GET", "d/a.txt", h("Range", "bytes=-3"), ""},
	{"GET", "d/a.txt", h("Range", "bytes=7-99"), ""},
	{"GET", "d/a.txt", h("Range", "bytes=99-"), ""},
	{"GET", "d/a.txt", h("Range", "bytes=0-1,4-5"), ""},
	{"GET", "d/a.txt", h("Range", "lines=0-1"), ""},
	{"GET", "d/a.txt", h("Range", "bytes=2-4", "If-Range", `"wrong"`), ""},
	{"GET", "d/empty", h("Range", "bytes=0-3"), ""},
	{"GET", "d/a.txt", h("If-Match", `"wrong"`), ""},
	{"GET", "d/a.txt", h("If-None-Match", `*`), ""},
	{"GET", "d", nil, ""},
	{"GET", "none", nil, ""},
	{"MOVE", "d/a.txt", h("Destination", "@d/b.txt", "Overwrite", "F"), ""},
	{"MOVE", "d/a.txt", h("Destination", "@d/b.txt"), ""},
	{"PUT", "d/a.txt", nil, "again"},
	{"MOVE", "d/a.txt", h("Destination", "@d/b.txt", "Overwrite", "T"), ""},
	{"MOVE", "d/b.txt", h("Destination", "@d/c.txt", "Overwrite", "F"), ""},
	{"MOVE", "d/c.txt", h("Destination", "@no/c.txt", "Overwrite", "F"), ""},
	{"MOVE", "d/none", h("Destination", "@d/c2.txt", "Overwrite", "F"), ""},
	{"MOVE", "d", h("Destination", "@d/sub", "Overwrite", "F"), ""},
	{"MOVE", "d/c.txt", h("Destination", "http://127.0.0.1:1/c", "Overwrite", "F"), ""},
	{"MOVE", "d/c.txt", h("If-Match", `"wrong"`, "Destination", "@d/c3.txt", "Overwrite", "F"), ""},
	{"MKCOL", "e", nil, ""},
	{"PUT", "e/x", nil, "x"},
	{"COPY", "d", h("Destination", "@e", "Overwrite", "F"), ""},
	{"COPY", "d", h("Destination", "@f", "Overwrite", "F"), ""},
	{"COPY", "d", h("Destination", "@g", "Overwrite", "F", "Depth", "0"), ""},
	{"PROPFIND", "g", h("Depth", "1"), ""},
	{"MOVE", "d", h("Destination", "@e", "Overwrite", "T"), ""},
	{"PROPFIND", "e", h("Depth", "1"), ""},
	{"PROPPATCH", "e", nil, `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="urn:x">1</x><getetag>2</getetag></prop></set></propertyupdate>`},
	{"PROPPATCH", "e", nil, `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="urn:x">1</x></prop></set></propertyupdate>`},
	{"PROPFIND", "e", h("Depth", "0"), `<propfind xmlns="DAV:"><prop><x xmlns="urn:x"/><y xmlns="urn:x"/></prop></propfind>`},
	{"PROPPATCH", "none", nil, `<propertyupdate xmlns="DAV:"><set><prop><x xmlns="urn:x">1</x></prop></set></propertyupdate>`},
	{"LOCK", "e/lock", h("Timeout", "Second-60"), `<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype><owner>me</owner></lockinfo>`},
	{"GET", "e/lock", nil, ""},
	{"PROPFIND", "e", h("Depth", "1"), ""},
	{"PROPFIND", "e/lock", h("Depth", "0"), ""},
	{"PUT", "e/lock", nil, "x"},
	{"DELETE", "e", nil, ""},
	{"POST", "e/x", nil, "x"},
	{"PATCH", "e/x", nil, "x"},
	{"BOGUS", "e/x", nil, ""},
	{"DELETE", "d", nil, ""},
	{"DELETE", "f", h("If-Match", `"wrong"`), ""},
	{"DELETE", "g", h("If", `(["wrong"])`), ""},
}

// facts lists what a multistatus says, in no order: one line a property.
func facts(body string) string {
	var lines []string
	href := ""
	for line := range strings.SplitSeq(bodyShape(body), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "DAV: href = "):
			href = line
		case strings.HasPrefix(line, "DAV: status = HTTP/1.1 "):
			lines = append(lines, href+" | "+line[:len("DAV: status = HTTP/1.1 200")])
		case strings.Contains(line, "DAV: error"), strings.Contains(line, "cannot-modify-protected"):
		case line != "DAV: prop" && line != "DAV: propstat" && !strings.Contains(line, "responsedescription"):
			if strings.HasSuffix(href, "/") {
				line = directorySize.ReplaceAllString(line, `W/"SIZE-`)
			}
			lines = append(lines, href+" | "+line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// directorySize is in the tags of a mod_dav, and a matter of the file system under it.
var directorySize = regexp.MustCompile(`W/"[0-9a-f]+-`)

// randomSteps makes a script of changes of a few names, in which files and directories
// take each other's names and places.
func randomSteps(r *rand.Rand, n int) []step {
	names := []string{"a", "b", "d1", "d1/a", "d1/b", "d2", "d2/a", "d1/d", "d1/d/a"}
	name := func() string { return names[r.IntN(len(names))] }
	flag := func() string { return []string{"T", "F"}[r.IntN(2)] }
	var out []step
	for range n {
		switch r.IntN(9) {
		case 0, 1:
			out = append(out, step{"PUT", name(), nil, strings.Repeat("x", r.IntN(20))})
		case 2, 3:
			out = append(out, step{"MKCOL", []string{"d1", "d2", "d1/d", name()}[r.IntN(4)], nil, ""})
		case 4:
			out = append(out, step{"DELETE", name(), nil, ""})
		case 5:
			out = append(out, step{"MOVE", name(), h("Destination", "@"+name(), "Overwrite", flag()), ""})
		case 6:
			out = append(out, step{"COPY", name(), h("Destination", "@"+name(), "Overwrite", flag(), "Depth", []string{"0", "infinity"}[r.IntN(2)]), ""})
		case 7:
			out = append(out, step{"PROPFIND", name(), h("Depth", "1"), `<propfind xmlns="DAV:"><prop><getcontentlength/><resourcetype/></prop></propfind>`})
		case 8:
			out = append(out, step{"GET", name(), nil, ""})
		}
	}
	return out
}

// TestTwinsRandom runs random changes on real and embedded mod_dav. (rclone's cache of
// directories makes its answers to such scripts depend on the past.)
// MESHMOUNT_LONG=1 takes many new seeds in place of the fixed ones.
func TestTwinsRandom(t *testing.T) {
	seeds := []uint64{1, 2, 3}
	if os.Getenv("MESHMOUNT_LONG") == "1" {
		seeds = nil
		for i := range uint64(50) {
			seeds = append(seeds, uint64(time.Now().UnixNano())+i)
		}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { twinsRandom(t, seed) })
	}
}

func twinsRandom(t *testing.T, seed uint64) {
	real := httpd.Run(t, httpd.Start, httpd.Options{User: "alice", Password: "secret"})
	w := start(t, ModDAV, func(o *Options) { o.Users[0].Password = "secret" })
	for i, s := range randomSteps(rand.New(rand.NewPCG(seed, 1)), 400) {
		want, got := s.run(t, real.URL), s.run(t, w.DAVURL(w.user))
		if want.StatusCode != got.StatusCode {
			t.Fatalf("step %d, %v: real %d, ours %d", i, s, want.StatusCode, got.StatusCode)
		}
		if a, b := facts(want.body), facts(got.body); want.StatusCode == http.StatusMultiStatus && a != b {
			t.Fatalf("step %d, %v:\n%s", i, s, lineDiff(a, b))
		}
		if want.StatusCode == http.StatusOK && want.body != got.body {
			t.Fatalf("step %d, %v: real %q, ours %q", i, s, want.body, got.body)
		}
	}
	sameTree(t, real.Dir, w.Disk(w.user))
}

// TestTwins runs one script on the embedded server and on the real one that it
// resembles, and compares.
func TestTwins(t *testing.T) {
	for d, run := range map[Dialect]func(httpd.Options) (*httpd.Server, error){ModDAV: httpd.Start, Rclone: httpd.StartRclone} {
		t.Run(d.String(), func(t *testing.T) {
			real := httpd.Run(t, run, httpd.Options{User: "alice", Password: "secret"})
			w := start(t, d, func(o *Options) { o.Users[0].Password = "secret" })
			for _, s := range script {
				want, got := s.run(t, real.URL), s.run(t, w.DAVURL(w.user))
				if want.StatusCode != got.StatusCode {
					t.Errorf("%v: real %d, ours %d", s, want.StatusCode, got.StatusCode)
				}
				if a, b := facts(want.body), facts(got.body); want.StatusCode == http.StatusMultiStatus && a != b {
					t.Errorf("%v: bodies differ:\n%s", s, lineDiff(a, b))
				}
				if a, b := headerNames(want), headerNames(got); a != b {
					t.Errorf("%v (%d): headers: real %s, ours %s", s, want.StatusCode, a, b)
				}
			}
		})
	}
}
