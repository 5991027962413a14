package efss

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a clock that goes on by a step each time it is looked at.
type clock struct {
	at   atomic.Int64 // Unix nanoseconds
	step time.Duration
}

func newClock(step time.Duration) *clock {
	c := &clock{step: step}
	c.at.Store(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *clock) now() time.Time { return time.Unix(0, c.at.Add(int64(c.step))) }

func (c *clock) pass(d time.Duration) { c.at.Add(int64(d)) }

// rowTest is one row of the table of dialects: what a few requests show, in words.
type rowTest struct {
	name string
	run  func(w *world) string
	// want has one column a dialect, in the order of Dialects.
	want [7]string
}

func same(s string) [7]string { return [7]string{s, s, s, s, s, s, s} }

// codes sends steps and returns their statuses.
func (w *world) codes(steps ...step) string {
	w.t.Helper()
	var out []string
	for _, s := range steps {
		headers := append([]string(nil), s.header...)
		for i := range headers {
			headers[i] = strings.ReplaceAll(headers[i], "@", strings.TrimSuffix(w.DAVURL(w.user), "/"))
		}
		out = append(out, fmt.Sprint(w.do(s.method, s.path, s.body, headers...).StatusCode))
	}
	return strings.Join(out, " ")
}

// prop returns the text of a property of the entry at path, "-" if there is none.
func (w *world) prop(path, element string) string {
	w.t.Helper()
	ask := `<d:propfind xmlns:d="DAV:" xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns" xmlns:x="urn:x"><d:prop><` + element + `/></d:prop></d:propfind>`
	a := w.want(http.StatusMultiStatus, "PROPFIND", path, ask, "Depth", "0")
	_, local, _ := strings.Cut(element, ":")
	if m := regexp.MustCompile(`(?s)<[A-Za-z0-9]*:?` + local + `(?: [^>]*)?>(.*?)</[A-Za-z0-9]*:?` + local + `>`).FindStringSubmatch(a.body); m != nil && m[1] != "" {
		return m[1]
	}
	return "-"
}

// differ compares two values; a weak entity tag is the same as its strong form.
func differ(a, b string) string {
	a, b = strings.TrimPrefix(a, "W/"), strings.TrimPrefix(b, "W/")
	switch {
	case a == "-" && b == "-":
		return "none"
	case a == b:
		return "same"
	}
	return "differ"
}

func (w *world) put(path, body string, headers ...string) {
	w.t.Helper()
	if a := w.do("PUT", path, body, headers...); a.StatusCode/100 != 2 {
		w.t.Fatalf("PUT %s: %s %s", path, a.Status, a.body)
	}
}

func (w *world) mkcol(path string) {
	w.t.Helper()
	w.want(http.StatusCreated, "MKCOL", path, "")
}

// read returns the status of a GET, and the content if it is 200.
func (w *world) read(path string) string {
	w.t.Helper()
	a := w.do("GET", path, "")
	if a.StatusCode == http.StatusOK {
		return "200 " + a.body
	}
	return fmt.Sprint(a.StatusCode)
}

// halfPut begins a PUT that announces more than it sends, and returns the connection
// once the server has the first part.
func (w *world) halfPut(path, part string, total int) net.Conn {
	w.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.BaseURL, "http://"))
	if err != nil {
		w.t.Fatal(err)
	}
	req, _ := http.NewRequest("PUT", w.dest(path), nil)
	req.SetBasicAuth(w.user, w.app)
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: %s\r\nAuthorization: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		req.URL.EscapedPath(), req.URL.Host, req.Header.Get("Authorization"), total)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.Contains(line, "100") {
		w.t.Fatalf("no 100 Continue: %q %v", line, err)
	}
	if _, err := conn.Write([]byte(part)); err != nil {
		w.t.Fatal(err)
	}
	return conn
}

// waitFor waits until a condition that a request of another goroutine brings about.
func (w *world) waitFor(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("still waiting for ", what)
		}
	}
}

// arrived tells whether a body's first part lies in a file below a directory.
func arrived(part string, dirs ...string) func() bool {
	return func() bool {
		for _, dir := range dirs {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if text, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil && string(text) == part {
					return true
				}
			}
		}
		return false
	}
}

// dead lets a client die in the middle of a PUT and returns what a reader sees
// meanwhile and afterwards.
func (w *world) dead(path string) string {
	w.t.Helper()
	conn := w.halfPut(path, "ne", 10)
	w.waitFor("the body", arrived("ne", w.Disk(w.user), filepath.Join(w.opts.Dir, "tmp")))
	meanwhile := w.read(path)
	before := w.Count("PUT")
	if err := conn.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.waitFor("the end of the PUT", func() bool { return w.Count("PUT") > before })
	return meanwhile + ", " + w.read(path)
}

const lockDoc = `<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype><owner>me</owner></lockinfo>`

func setProp(name, value string) string {
	return `<d:propertyupdate xmlns:d="DAV:" xmlns:x="urn:x"><d:set><d:prop><` + name + `>` + value + `</` + name + `></d:prop></d:set></d:propertyupdate>`
}

// propStatus returns the status inside a 207, else that of the answer.
func propStatus(a answer) string {
	if m := regexp.MustCompile(`HTTP/1.1 (\d+)`).FindStringSubmatch(a.body); m != nil {
		return m[1]
	}
	return fmt.Sprint(a.StatusCode)
}

// TestTable checks every dialect against the measured facts, row by row. The clock
// goes on by 10 ms with each look.
func TestTable(t *testing.T) {
	for _, rows := range [][]rowTest{rowsVersions, rowsReading, rowsConditions, rowsWriting, rowsMoving} {
		for _, row := range rows {
			t.Run(strings.ReplaceAll(row.name, " ", "_"), func(t *testing.T) {
				for i, d := range Dialects() {
					w := start(t, d, func(o *Options) { o.Now = newClock(10 * time.Millisecond).now })
					if got := row.run(w); got != row.want[i] {
						t.Errorf("%v: got %q, want %q", d, got, row.want[i])
					}
				}
			})
		}
	}
}
