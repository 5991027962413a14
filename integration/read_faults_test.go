package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// faultySize is that of the files of the tests of faulty servers.
const faultySize = 8<<20 + 4321

// How long those tests let the program try: for as long as it takes, and so shortly that a
// program gets an error.
var (
	steady   = []string{"--io-timeout=1h", "--retry-time=1h"}
	patience = []string{"--io-timeout=2s", "--retry-time=3s", "--attr-ttl=1h", "--dir-ttl=1h"}
)

// readOrRefuse reads a file to its end: every byte that comes is right, and the first
// error is one that says what is wrong. It returns the error.
func readOrRefuse(t *testing.T, what, path string, content []byte) error {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Errorf("%s: open: %v", what, err)
		return err
	}
	defer func() { _ = file.Close() }()
	p := make([]byte, 128<<10)
	for off := int64(0); ; {
		n, err := file.ReadAt(p, off)
		if wrong := differ(p[:n], content, off); wrong != nil {
			t.Errorf("%s: %v", what, wrong)
			return wrong
		}
		off += int64(n)
		switch {
		case err == io.EOF && off == int64(len(content)):
			return nil
		case err == nil:
		case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT):
			return err
		default:
			t.Errorf("%s: at %d of %d: %v", what, off, len(content), err)
			return err
		}
	}
}

// contentOnly limits a fault to the content of files.
func contentOnly(s *shelf, hook func(*http.Request) *efss.Fault) {
	prefix := s.share.DAVPath("alice")
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method != http.MethodGet || !strings.HasPrefix(r.URL.Path, prefix) {
			return nil
		}
		return hook(r)
	})
}

// sometimes returns a hook whose fault hits one request in n.
func sometimes(random func(n int64) int64, n int64, fault func() *efss.Fault) func(*http.Request) *efss.Fault {
	return func(*http.Request) *efss.Fault {
		if random(n) != 0 {
			return nil
		}
		return fault()
	}
}

// lockedRandom returns random numbers below n to many goroutines.
func lockedRandom(t *testing.T) func(n int64) int64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var count atomic.Uint64
	return func(n int64) int64 { return rand.New(rand.NewPCG(seed, count.Add(1))).Int64N(n) }
}

// TestReadFaultySometimes reads large files of servers some of whose answers fail: the
// program tries again, and every byte comes and is right.
func TestReadFaultySometimes(t *testing.T) {
	t.Parallel()
	random := lockedRandom(t)
	busy := &efss.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}}
	many := &efss.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"0"}}}
	for what, fault := range map[string]func() *efss.Fault{
		"cut at random": func() *efss.Fault { return &efss.Fault{CutReply: true, ReplyAt: random(1 << 20)} },
		"aborted":       func() *efss.Fault { return &efss.Fault{Abort: true} },
		"too long":      func() *efss.Fault { return &efss.Fault{LengthDelta: 1 + random(1000)} },
		"too short":     func() *efss.Fault { return &efss.Fault{LengthDelta: -1 - random(1000)} },
		"503":           func() *efss.Fault { return busy },
		"429":           func() *efss.Fault { return many },
		"500":           func() *efss.Fault { return &efss.Fault{Status: http.StatusInternalServerError} },
		"502 with a page": func() *efss.Fault {
			return &efss.Fault{Status: http.StatusBadGateway, Body: "<html>" + strings.Repeat("x", 5000)}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := startShelf(t, efss.Nextcloud)
			content := book(1, faultySize)
			s.plant(t, map[string][]byte{"large": content})
			m := s.mount(t, harness.Program(t), "", append(steady, "--attr-ttl=1h")...)
			contentOnly(s, sometimes(random, 3, fault))
			if err := readOrRefuse(t, what, filepath.Join(m.Dir, "a", "large"), content); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			m.MustUnmount(t)
		})
	}
}

// TestReadFaultyAlways reads from servers that never answer well: an error that says so,
// never a wrong byte, and all is well as soon as the server is.
func TestReadFaultyAlways(t *testing.T) {
	t.Parallel()
	random := lockedRandom(t)
	for what, fault := range map[string]func() *efss.Fault{
		"cut":       func() *efss.Fault { return &efss.Fault{CutReply: true, ReplyAt: random(4000)} },
		"stalled":   func() *efss.Fault { return &efss.Fault{Stall: true, ReplyAt: random(4000)} },
		"too long":  func() *efss.Fault { return &efss.Fault{LengthDelta: 1} },
		"too short": func() *efss.Fault { return &efss.Fault{LengthDelta: -1} },
		"503":       func() *efss.Fault { return &efss.Fault{Status: http.StatusServiceUnavailable} },
		"gone":      func() *efss.Fault { return &efss.Fault{Status: http.StatusGone} },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := startShelf(t, efss.ModDAV)
			content, small := book(1, faultySize), book(2, 5000)
			s.plant(t, map[string][]byte{"large": content, "small": small, "other": small})
			m := s.mount(t, harness.Program(t), "", patience...)
			root := filepath.Join(m.Dir, "a")
			waitFor(t, func() error { _, err := os.ReadDir(root); return err })
			contentOnly(s, func(*http.Request) *efss.Fault { return fault() })
			for _, name := range []string{"large", "small"} {
				if err := readOrRefuse(t, what, filepath.Join(root, name), map[string][]byte{"large": content, "small": small}[name]); err == nil {
					t.Errorf("%s: %s was read", what, name)
				}
			}
			s.share.SetFaults(nil)
			for name, want := range map[string][]byte{"large": content, "small": small, "other": small} {
				waitFor(t, func() error { return readWhole(filepath.Join(root, name), want) })
			}
			m.MustUnmount(t)
		})
	}
}

// oddShare is a share of one large file that answers GET in ways of its own. Its tag is
// what tag says, in PROPFIND and GET alike.
func oddShare(t *testing.T, content []byte, get http.HandlerFunc, tag func() string) *fakeDAV {
	t.Helper()
	f := &fakeDAV{good: map[string]string{"large": string(content)}, list: func(w io.Writer) { response(w, "/large", len(content)) }, get: get}
	return f.start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "PROPFIND" {
			f.ServeHTTP(w, r)
			return
		}
		kept := &keptAnswer{ResponseWriter: w}
		f.ServeHTTP(kept, r)
		_, _ = w.Write(bytes.ReplaceAll(kept.body.Bytes(), []byte(`"1"`), []byte(tag())))
	}))
}

// keptAnswer keeps a body.
type keptAnswer struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (k *keptAnswer) Write(p []byte) (int, error) { return k.body.Write(p) }

// TestReadIgnoredRange reads a large file of a server that answers every range with the
// whole file.
func TestReadIgnoredRange(t *testing.T) {
	t.Parallel()
	content := book(1, faultySize)
	one := func() string { return `"1"` }
	f := oddShare(t, content, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	}, one)
	env, args := fakeArgs(f)
	m := harness.Mounting(t, append(env, readEnv()...), append(args, "--cache-dir="+cacheDir(t), "--cache-size=256MiB")...)
	path := filepath.Join(m.Dir, "a", "large")
	if err := readPages(path, content, 10); err != nil {
		t.Error(err)
	}
	if err := readWhole(path, content); err != nil {
		t.Error(err)
	}
	m.MustUnmount(t)
}

// TestReadTagForms changes the form of a server's entity tags between mounts with the
// same cache, as an upgrade or another proxy before it does: all bytes are right.
func TestReadTagForms(t *testing.T) {
	t.Parallel()
	content := book(1, faultySize)
	var tag atomic.Pointer[string]
	set := func(text string) { tag.Store(&text) }
	now := func() string { return *tag.Load() }
	set(`"1"`)
	f := oddShare(t, content, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", now())
		http.ServeContent(w, r, "", longAgo, bytes.NewReader(content))
	}, now)
	env, args := fakeArgs(f)
	cache := cacheDir(t)
	for _, form := range []string{`"1"`, `W/"1"`, `"1-gzip"`, `""`, `1`, `"1"`} {
		set(form)
		m := harness.Mounting(t, append(env, readEnv()...), append(args, "--cache-dir="+cache, "--cache-size=256MiB", "--attr-ttl=0")...)
		path := filepath.Join(m.Dir, "a", "large")
		if err := readPages(path, content, 5); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if err := readWhole(path, content); err != nil {
			t.Errorf("%s: %v", form, err)
		}
		// The form changes under the mount, too.
		set(`"another` + strings.Trim(form, `W/"`) + `"`)
		if err := readWhole(path, content); err != nil {
			t.Errorf("after %s: %v", form, err)
		}
		m.MustUnmount(t)
	}
}

// TestReadCutConnections reads large files while the connections to a share and a zone
// are cut at random bytes: all bytes come and are right.
func TestReadCutConnections(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *shelf{
		"share": func(t *testing.T) *shelf { return startShelf(t, efss.Nextcloud) }, "zone": startZoneShelf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			random := lockedRandom(t)
			s := start(t)
			files := map[string][]byte{}
			for i := range 6 {
				files[fmt.Sprint("large", i)] = book(uint64(i), faultySize/2)
			}
			s.plant(t, files)
			proxy := remotetest.NewProxy(t, s.address)
			m := s.via(proxy.Addr()).mount(t, harness.Program(t), "", steady...)
			for name, content := range files {
				proxy.CutDown(random(faultySize / 2))
				if err := readOrRefuse(t, name, filepath.Join(m.Dir, "a", name), content); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if s := proxy.Stats(); s.Conns < 2 {
				t.Errorf("%d connections: none was cut", s.Conns)
			}
			m.MustUnmount(t)
		})
	}
}
