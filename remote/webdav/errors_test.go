package webdav

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

func TestStatusKinds(t *testing.T) {
	for status, kind := range map[int]remote.Kind{
		400: remote.Invalid, 401: remote.Auth, 403: remote.Permission, 404: remote.NotExist, 405: remote.Unsupported,
		409: remote.NotExist, 410: remote.NotExist, 412: remote.Conflict, 413: remote.TooLarge, 414: remote.NameTooLong,
		418: remote.Other, 423: remote.Locked, 425: remote.Locked, 429: remote.Unavailable, 500: remote.Unavailable,
		501: remote.Unsupported, 502: remote.Unavailable, 503: remote.Unavailable, 504: remote.Unavailable,
		507: remote.NoSpace, 599: remote.Unavailable, 204: remote.Corrupt, 304: remote.Corrupt,
	} {
		if got := kindOf(status); got != kind {
			t.Errorf("%d is %v, want %v", status, got, kind)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	const date = "Sat, 21 Nov 2026 20:51:00 GMT"
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "x": 0, "Sat, 21 Nov 2026 20:51:30 GMT": 30 * time.Second,
		"Sat, 21 Nov 2026 20:50:30 GMT": 0, "999999999": 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}, "Date": {date}}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestBusyServer(t *testing.T) {
	s := newStage(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "12")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns"><s:exception>X</s:exception>`+
			"<s:message>System in\nmaintenance \x1b[31m mode. "+strings.Repeat("long ", 100)+`</s:message></d:error>`)
	})
	_, err := s.actor(t, Nextcloud, "").Stat(t.Context(), "/f")
	var e *remote.Error
	if !errors.As(err, &e) || e.Kind != remote.Unavailable || e.RetryAfter != 12*time.Second || e.Op != "stat" || e.Path != "/f" {
		t.Fatalf("%#v", err)
	}
	// A control character makes the document unreadable, and its message none.
	if text := err.Error(); strings.ContainsAny(text, "\n\x1b") || len(text) > 400 {
		t.Errorf("the error reads %q", text)
	}
	if got := bounded("a\n b\x1b"+strings.Repeat("x", 300), 50); len(got) > 60 || strings.ContainsAny(got, "\n\x1b") || !strings.HasPrefix(got, "a b?") {
		t.Errorf("bounded text %q", got)
	}
}

// watched is a Source that notices use after the Put is over.
type watched struct {
	t    *testing.T
	size int64
	over bool
}

func (w *watched) Size() int64 { return w.size }
func (w *watched) Open() (io.ReadCloser, error) {
	return w, nil
}
func (w *watched) Read(p []byte) (int, error) {
	if w.over {
		w.t.Error("read after the end of the put")
	}
	return min(len(p), 1000), nil
}
func (w *watched) Close() error { return nil }

// TestEarlyAnswers: a server that answers before it has the body, and closes, is
// understood, and the source is left alone afterwards.
func TestEarlyAnswers(t *testing.T) {
	for status, kind := range map[int]remote.Kind{412: remote.Exist, 413: remote.TooLarge, 507: remote.NoSpace, 403: remote.Permission} {
		s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PROPFIND" {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.WriteHeader(status)
		})
		src := &watched{t: t, size: 2*usualRanges.piece - 1} // more goes in ranges to mod_dav
		_, err := s.actor(t, ModDAV, "").Put(t.Context(), "/f", src, remote.PutOptions{Cond: remote.Cond{NotExist: true}})
		src.over = true
		if remote.KindOf(err) == remote.NotExist && status == 403 {
			continue // the parent is missing here
		}
		isKind(t, err, kind)
	}
}

// TestSources: a source that is not what it says is our fault, and never stored.
func TestSources(t *testing.T) {
	for name, src := range map[string]remote.Source{
		"short": lying{"abc", 5}, "long": lying{"abcdefgh", 5}, "empty but not": lying{"abc", 0}, "large but short": lying{"abc", 30 << 20},
	} {
		for _, dialect := range []string{Nextcloud, ModDAV, Unknown, OCIS} {
			var complete atomic.Bool
			s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				switch {
				case r.Method == "PROPFIND":
					w.WriteHeader(http.StatusNotFound)
				case r.Method == "POST":
					w.Header().Set("Location", "/place")
					w.WriteHeader(http.StatusCreated)
				case r.Method == "PUT" || r.Method == "PATCH":
					if err == nil && n == src.Size() {
						complete.Store(true)
					}
					w.WriteHeader(http.StatusCreated)
				default:
					w.WriteHeader(http.StatusCreated)
				}
			})
			b := s.actor(t, dialect, "/remote.php/dav/files/alice")
			_, err := b.Put(t.Context(), "/f", src, remote.PutOptions{Cond: remote.Cond{NotExist: true}})
			isKind(t, err, remote.Invalid)
			if complete.Load() {
				t.Errorf("%s on %s: the server got a whole file", name, dialect)
			}
		}
	}
}

// lying is a Source whose size is another than its bytes'.
type lying struct {
	text string
	size int64
}

func (l lying) Size() int64                  { return l.size }
func (l lying) Open() (io.ReadCloser, error) { return text(l.text).Open() }

// TestSourceErrors come back as they are.
func TestSourceErrors(t *testing.T) {
	mine := errors.New("the disk is gone")
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	})
	_, err := s.actor(t, ModDAV, "").Put(t.Context(), "/f", failing{mine}, remote.PutOptions{Cond: remote.Cond{NotExist: true}})
	if !errors.Is(err, mine) {
		t.Errorf("%v", err)
	}
	isKind(t, err, remote.Invalid)
}

type failing struct{ err error }

func (failing) Size() int64                    { return 10 }
func (f failing) Open() (io.ReadCloser, error) { return nil, f.err }

// TestCancelCause: the watchdog's reason comes out, and says what may have happened.
func TestCancelCause(t *testing.T) {
	arrived := make(chan struct{}, 1)
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not see the client go
		select {
		case arrived <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	})
	b := s.actor(t, ModDAV, "")
	for _, change := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := &remote.Error{Op: "watch", Kind: remote.Unavailable, Err: errors.New("no progress")}
		go func() { <-arrived; cancel(reason) }()
		var err error
		if change {
			_, err = b.Mkdir(ctx, "/d")
		} else {
			_, err = b.Stat(ctx, "/d")
		}
		var e *remote.Error
		if !errors.As(err, &e) || !errors.Is(err, reason) || e.Kind != remote.Unavailable || e.Unsure != change {
			t.Errorf("change %v: %#v", change, err)
		}
	}
}

// TestClosed: what is under way ends, what comes later fails.
func TestClosed(t *testing.T) {
	arrived := make(chan struct{})
	s := newStage(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
	})
	b := s.actor(t, ModDAV, "")
	failed := make(chan error)
	go func() { _, err := b.Stat(context.Background(), "/f"); failed <- err }()
	<-arrived
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	isKind(t, <-failed, remote.BadHandle)
	_, err := b.Stat(t.Context(), "/f")
	isKind(t, err, remote.BadHandle)
}
