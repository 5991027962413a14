package webdav

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// upgraded is a server whose way to write entity tags changes.
type upgraded struct {
	mu        sync.Mutex
	tag, dead string // of GET and PROPFIND, of PROPFIND if that differs
}

func (u *upgraded) set(get, propfind string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tag, u.dead = get, propfind
}

// play answers for a file that stays as it is.
func (u *upgraded) play(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.Method == "PROPFIND" {
		body := strings.ReplaceAll(propfindOf("/f", "TAG", 10), `"TAG"`, strings.ReplaceAll(u.dead, `"`, "&quot;"))
		body = strings.Replace(body, "<d:resourcetype/>", "<d:resourcetype/><d:getlastmodified>Sat, 21 Nov 2026 20:50:56 GMT</d:getlastmodified>", 1)
		capture{207, http.Header{"Date": {"Sun, 22 Nov 2026 20:50:56 GMT"}}, body}.write(w)
		return
	}
	if u.tag != "" {
		w.Header()["Etag"] = []string{u.tag}
	}
	r.Header.Del("If-Match") // judged by the client alone
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
}

// TestUpgradedTags: after an upgrade the server writes other tags for a file with the
// same time and size. An open file is told Changed if they cannot be the same, and
// whoever looks again reads on.
func TestUpgradedTags(t *testing.T) {
	for name, c := range map[string]struct {
		get, propfind string
		same          bool // as "v1"
	}{
		"strong":                 {`"v1"`, `"v1"`, true},
		"weak":                   {`W/"v1"`, `W/"v1"`, true},
		"weak in one place":      {`W/"v1"`, `"v1"`, true},
		"a mark of compression":  {`"v1-gzip"`, `"v1"`, true},
		"another algorithm":      {`"5d41402abc4b2a76b9719d911017c592"`, `"5d41402abc4b2a76b9719d911017c592"`, false},
		"longer":                 {`"v1:1"`, `"v1:1"`, false},
		"without quotes":         {`v1`, `v1`, false},
		"quoted twice":           {`""v1""`, `""v1""`, false},
		"none":                   {``, ``, false},
		"none with the content":  {``, `"v1"`, true},
		"none with the listing":  {`"v2"`, ``, false},
		"a mark in the listing":  {`"v1-gzip"`, `"v1-gzip"`, true},
		"another case":           {`"V1"`, `"V1"`, false},
		"weak, another":          {`W/"v2"`, `W/"v2"`, false},
		"a lower-case weak mark": {`w/"v1"`, `w/"v1"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			u := &upgraded{}
			s := newStage(t, u.play)
			b := s.actor(t, Unknown, "")
			u.set(`"v1"`, `"v1"`)
			open, err := b.Stat(t.Context(), "/f")
			if err != nil || open.Version != "v1" {
				t.Fatalf("%+v, %v", open, err)
			}
			read := func(e remote.Entry) error {
				p := make([]byte, 4)
				n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}, p, 3)
				if err == nil && string(p[:n]) != "3456" {
					t.Errorf("read %q", p[:n])
				}
				return err
			}
			if err := read(open); err != nil {
				t.Fatal(err)
			}
			u.set(c.get, c.propfind)
			if err := read(open); c.same && err != nil || !c.same && !errors.Is(err, remote.Changed) {
				t.Errorf("the open file: %v", err)
			}
			fresh, err := b.Stat(t.Context(), "/f")
			if err != nil || fresh.Size != 10 {
				t.Fatalf("%+v, %v", fresh, err)
			}
			if name == "none with the listing" {
				return // the two never agree: there is no version to ask for
			}
			if err := read(fresh); err != nil {
				t.Errorf("version %q, opened again: %v", fresh.Version, err)
			}
		})
	}
}

// TestFaultsPass: what a fault of one answer spoils, the next attempt brings.
func TestFaultsPass(t *testing.T) {
	const good = "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-5/10\nContent-Length: 4\n"
	now := time.Now().UTC()
	for name, first := range map[string]string{
		"closed mid-body":        good + "\n23",
		"closed before":          "",
		"closed in the head":     "HTTP/1.1 206 x\nETag: ",
		"too little":             "HTTP/1.1 206 x\nETag: \"v1\"\nContent-Range: bytes 2-3/10\nContent-Length: 2\n\n23",
		"503":                    "HTTP/1.1 503 x\nRetry-After: 0\nContent-Length: 0\n\n",
		"503 with a date":        "HTTP/1.1 503 x\nDate: " + now.Format(http.TimeFormat) + "\nRetry-After: " + now.Add(time.Second).Format(http.TimeFormat) + "\nContent-Length: 0\n\n",
		"503 with a past date":   "HTTP/1.1 503 x\nRetry-After: Sat, 21 Nov 2020 20:50:56 GMT\nContent-Length: 0\n\n",
		"503 for a century":      "HTTP/1.1 503 x\nRetry-After: 3153600000\nContent-Length: 0\n\n",
		"503 for nonsense":       "HTTP/1.1 503 x\nRetry-After: soon\nContent-Length: 0\n\n",
		"429 in seconds":         "HTTP/1.1 429 x\nRetry-After: 1\nContent-Length: 0\n\n",
		"429 for longer":         "HTTP/1.1 429 x\nRetry-After: 99999999999999999999\nContent-Length: 0\n\n",
		"502 without a word":     "HTTP/1.1 502 x\nContent-Length: 0\n\n",
		"504 and a page":         "HTTP/1.1 504 x\nContent-Type: text/html\nContent-Length: 13\n\n<html></html>",
		"stalled mid-body":       "stall" + good + "\n23",
		"stalled in the head":    "stall" + good,
		"stalled from the start": "stall",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 1 {
					raw(t, w, good+"\n2345")
					return
				}
				text, stalls := strings.CutPrefix(first, "stall")
				if !stalls {
					raw(t, w, first)
					return
				}
				stall(t, w, text)
			})
			b := remote.Retry(remote.Watchdog(s.actor(t, Unknown, ""), 2*time.Second),
				remote.RetryOptions{Wait: time.Millisecond, MaxRetryAfter: 2 * time.Second})
			p := make([]byte, 4)
			n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: "v1", Size: 10}, p, 2)
			if n != 4 || err != nil || string(p) != "2345" {
				t.Errorf("read %q, %v", p[:n], err)
			}
			if got := asked.Load(); got != 2 {
				t.Errorf("%d requests, want 2", got)
			}
		})
	}
}

// stall sends the beginning of an answer, and nothing more until the client goes.
func stall(t *testing.T, w http.ResponseWriter, text string) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	_, _ = buf.WriteString(strings.ReplaceAll(text, "\n", "\r\n"))
	_ = buf.Flush()
	_, _ = conn.Read(make([]byte, 1)) // its end
}

// TestSlowBody: a body that comes in small pieces tells of its progress, although the
// reader waits for larger ones.
func TestSlowBody(t *testing.T) {
	const size, piece = 600_000, 200_000
	moved := make(chan struct{}, 1000)
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Content-Length", fmt.Sprint(size))
		for range size / piece {
			for len(moved) > 0 {
				<-moved
			}
			_, _ = w.Write(make([]byte, piece))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-moved: // not before the reader has told of it
			case <-r.Context().Done():
				if len(moved) == 0 {
					t.Error("no progress was told")
				}
			}
		}
	})
	ctx := remote.WithProgress(t.Context(), func() { moved <- struct{}{} })
	n, err := s.actor(t, Unknown, "").ReadAt(ctx, remote.Ref{Path: "/f", Version: "v1", Size: size}, make([]byte, size), 0)
	if n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestSurplus: what follows after a large body is nobody's. It may spoil the next answer
// on the connection, which the next attempt makes good.
func TestSurplus(t *testing.T) {
	const size = 1 << 20
	body := strings.Repeat("0123456789abcdef", size/16)
	for _, surplus := range []int{0, 10, 400} {
		s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
			raw(t, w, fmt.Sprintf("HTTP/1.1 200 x\nETag: \"v1\"\nContent-Length: %d\n\n", size)+body+strings.Repeat("x", surplus))
		})
		b := remote.Retry(s.actor(t, Unknown, ""), remote.RetryOptions{Wait: time.Millisecond})
		for range 3 {
			p := make([]byte, size)
			n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: "v1", Size: size}, p, 0)
			if n != size || err != nil || string(p) != body {
				t.Fatalf("%d bytes, %v", n, err)
			}
		}
	}
}

// TestRedirectedMidway: a server begins to send readers elsewhere, to another path and
// to another host. The range goes along, the credentials do not.
func TestRedirectedMidway(t *testing.T) {
	var tag atomic.Value
	tag.Store(`"v1"`)
	serve := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", tag.Load().(string))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}
	data := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Range") == "" {
			t.Errorf("the data server got %v", r.Header)
		}
		serve(w, r)
	}))
	defer data.Close()
	var to atomic.Value
	to.Store("")
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		if target := to.Load().(string); target != "" && r.URL.Path == "/f" && r.Method == http.MethodGet {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
			return
		}
		serve(w, r)
	})
	b := s.actor(t, Unknown, "")
	read := func() error {
		p := make([]byte, 4)
		n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: "v1", Size: 10}, p, 3)
		if err == nil && string(p[:n]) != "3456" {
			t.Errorf("to %q: read %q", to.Load(), p[:n])
		}
		return err
	}
	for _, target := range []string{"", "/elsewhere", data.URL + "/x?token=1", ""} {
		to.Store(target)
		if err := read(); err != nil {
			t.Errorf("to %q: %v", target, err)
		}
	}
	tag.Store(`"v2"`)
	for _, target := range []string{"/elsewhere", data.URL + "/x", ""} {
		to.Store(target)
		isKind(t, read(), remote.Changed)
	}
	to.Store("ftp://127.0.0.1/x")
	isKind(t, read(), remote.Unsupported)
}

// TestShortenedElsewhere: 416 for a range that was good when the file was opened, by
// servers that tell the new size with it and such that do not.
func TestShortenedElsewhere(t *testing.T) {
	for _, told := range []string{"Content-Range: bytes */5\n", "", "Content-Range: bytes */x\n"} {
		s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PROPFIND" {
				capture{207, http.Header{}, propfindOf("/f", "v2", 5)}.write(w)
				return
			}
			raw(t, w, "HTTP/1.1 416 x\n"+told+"Content-Length: 0\n\n")
		})
		b := s.actor(t, Unknown, "")
		_, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: "v1", Size: 10}, make([]byte, 2), 7)
		isKind(t, err, remote.Changed)
		n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: 10}, make([]byte, 2), 7)
		if n != 0 || err != io.EOF {
			t.Errorf("whatever is there: %d, %v", n, err)
		}
		if !b.Caps().Ranges {
			t.Error("the server is thought to refuse ranges")
		}
	}
}
