package webdav_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/httpd"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

func wantKind(t *testing.T, err error, kind remote.Kind) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error is %v, want %v", err, kind)
	}
}

// logins counts the requests with credentials that reach a server.
type logins struct {
	total atomic.Int64
}

// guard stands in front of a server and counts.
func guard(t *testing.T, h http.Handler) (*httptest.Server, *logins) {
	t.Helper()
	n := &logins{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			n.total.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s, n
}

// newEFSS returns a server that is not listening.
func newEFSS(t *testing.T, o efss.Options) *efss.Server {
	t.Helper()
	o.Dir = t.TempDir()
	if o.Users == nil {
		o.Users = []efss.User{{Name: user, AppPassword: password, Token: "good token"}}
	}
	s, err := efss.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestWrongPassword(t *testing.T) {
	for _, d := range efss.Dialects() {
		t.Run(d.String(), func(t *testing.T) {
			s := newEFSS(t, efss.Options{Dialect: d})
			front, n := guard(t, s)
			o := options(t, front.URL+s.DAVPath(user))
			o.Password = secret("wrong one")
			_, err := webdav.Dial(t.Context(), o)
			wantKind(t, err, remote.Auth)
			if n.total.Load() != 1 || s.AuthFailures() != 1 {
				t.Errorf("%d requests with the password, %d failed logins, want 1 each", n.total.Load(), s.AuthFailures())
			}
			if text := err.Error(); strings.Contains(text, "wrong one") || strings.ContainsAny(text, "\n\r") {
				t.Errorf("the error is %q", text)
			}
		})
	}
}

func TestNoCredentials(t *testing.T) {
	s := newEFSS(t, efss.Options{})
	front, n := guard(t, s)
	o := options(t, front.URL+s.DAVPath(user))
	o.User, o.Password = "", nil
	_, err := webdav.Dial(t.Context(), o)
	wantKind(t, err, remote.Auth)
	if n.total.Load() != 0 {
		t.Error("credentials were sent")
	}
}

// changing is a SecretSource whose answer the test changes. It counts.
type changing struct {
	mu    sync.Mutex
	text  string
	asked int
}

func (c *changing) set(s string) { c.mu.Lock(); c.text = s; c.mu.Unlock() }

func (c *changing) source(context.Context) (remote.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	return remote.NewSecret(c.text), nil
}

// TestTokenChanges: a token that has expired is read again once, a wrong one is sent
// once and then never until it changes, whatever the number of callers.
func TestTokenChanges(t *testing.T) {
	var valid atomic.Value
	valid.Store("first")
	s := newEFSS(t, efss.Options{})
	var refused atomic.Int64
	front, n := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "" && got != "Bearer "+valid.Load().(string) {
			refused.Add(1)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Header.Get("Authorization") != "" {
			r.Header.Set("Authorization", "Bearer good token")
		}
		s.ServeHTTP(w, r)
	}))
	token := &changing{text: "first"}
	o := options(t, front.URL+s.DAVPath(user))
	o.User, o.Password, o.Token = "", nil, token.source
	b := dial(t, o)
	defer b.Close()
	stat := func() error { _, err := b.Stat(t.Context(), "/"); return err }

	valid.Store("second")
	token.set("second")
	if err := stat(); err != nil || refused.Load() != 1 {
		t.Errorf("a renewed token: %v, %d refusals, want 1", err, refused.Load())
	}

	valid.Store("third") // and the source still has the second
	refused.Store(0)
	wantKind(t, stat(), remote.Auth)
	if refused.Load() != 1 {
		t.Errorf("%d refusals, want 1", refused.Load())
	}
	before := n.total.Load()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { wantKind(t, stat(), remote.Auth) })
	}
	all.Wait()
	if n.total.Load() != before {
		t.Errorf("a refused token was sent %d more times", n.total.Load()-before)
	}

	refused.Store(0)
	token.set("wrong again")
	for range 20 {
		all.Go(func() { wantKind(t, stat(), remote.Auth) })
	}
	all.Wait()
	if refused.Load() != 1 {
		t.Errorf("a new wrong token was sent %d times, want once", refused.Load())
	}
	token.set("third")
	if err := stat(); err != nil {
		t.Errorf("the right token at last: %v", err)
	}
}

func TestSecretSourceFails(t *testing.T) {
	s := newEFSS(t, efss.Options{})
	front, n := guard(t, s)
	for _, c := range []struct {
		source remote.SecretSource
		kind   remote.Kind
	}{
		{func(context.Context) (remote.Secret, error) { return remote.Secret{}, errors.New("no such file") }, remote.Auth},
		{secret(""), remote.Auth},
	} {
		o := options(t, front.URL+s.DAVPath(user))
		o.Password = c.source
		_, err := webdav.Dial(t.Context(), o)
		wantKind(t, err, c.kind)
	}
	if n.total.Load() != 0 {
		t.Error("credentials were sent")
	}
}

// TestSchemes logs in by each scheme at servers that know it.
func TestSchemes(t *testing.T) {
	digest := func(t *testing.T) string {
		return httpd.Run(t, httpd.Start, httpd.Options{User: user, Password: password, Digest: true}).URL
	}
	embedded := func(o efss.Options) func(*testing.T) string {
		return func(t *testing.T) string {
			s := newEFSS(t, o)
			front, _ := guard(t, s)
			return front.URL + s.DAVPath(user)
		}
	}
	plain := []efss.User{{Name: user, Password: password}}
	for name, start := range map[string]func(*testing.T) string{
		"digest":                        digest,
		"digest of the embedded server": embedded(efss.Options{Dialect: efss.ModDAV, Digest: true, Users: plain}),
		"basic":                         embedded(efss.Options{Dialect: efss.Generic}),
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, start(t))
			b := dial(t, o)
			defer b.Close()
			if got, _, _ := strings.Cut(name, " "); b.Info().Auth != got {
				t.Errorf("logged in by %q", b.Info().Auth)
			}
			data := remotetest.Pattern(100_000, 1)
			if _, err := b.Put(t.Context(), "/f", remotetest.Bytes(data), remote.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					if _, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: int64(len(data))}, make([]byte, 10), int64(i)); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			o.Password = secret("wrong")
			_, err := webdav.Dial(t.Context(), o)
			wantKind(t, err, remote.Auth)
		})
	}
}

// TestStaleNonce: a nonce that is too old costs a request, not the login.
func TestStaleNonce(t *testing.T) {
	const challenge = `Digest realm="r", nonce="%", qop="auth,auth-int", algorithm=MD5`
	var nonce atomic.Value
	nonce.Store("one")
	var stale atomic.Int64
	front, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Authorization")
		now := nonce.Load().(string)
		if !strings.Contains(sent, `nonce="`+now+`"`) {
			h := strings.Replace(challenge, "%", now, 1)
			if sent != "" {
				h += ", stale=true"
				stale.Add(1)
			}
			w.Header().Set("WWW-Authenticate", h)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Method == "PROPFIND" {
			w.WriteHeader(http.StatusMultiStatus)
			_, _ = w.Write([]byte(`<d:multistatus xmlns:d="DAV:"><d:response><d:href>/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>`))
		}
	}))
	b := dial(t, options(t, front.URL))
	defer b.Close()
	for i := range 3 {
		nonce.Store(strings.Repeat("x", i+1))
		if _, err := b.Stat(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
	}
	if stale.Load() != 3 {
		t.Errorf("%d stale answers, want 3", stale.Load())
	}
}

// TestForeignHosts: no redirect and no Location carries credentials away.
func TestForeignHosts(t *testing.T) {
	var leaked atomic.Int64
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			leaked.Add(1)
		}
		_, _ = w.Write([]byte("0123456789"))
	}))
	defer thief.Close()
	s := newEFSS(t, efss.Options{})
	var status atomic.Int64
	front, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code := status.Load(); code != 0 {
			http.Redirect(w, r, thief.URL+r.URL.Path, int(code))
			return
		}
		s.ServeHTTP(w, r)
	}))
	b := dial(t, options(t, front.URL+s.DAVPath(user)))
	defer b.Close()
	for _, code := range []int64{301, 302, 307, 308} {
		status.Store(code)
		_, err := b.Stat(t.Context(), "/x")
		wantKind(t, err, remote.Unsupported)
		_, err = b.Put(t.Context(), "/x", remotetest.Bytes([]byte("mine")), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
		wantKind(t, err, remote.Unsupported)
		// Readers are sent to data servers by XRootD and dCache.
		p := make([]byte, 10)
		n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/x", Size: 10}, p, 0)
		if n != 10 || err != nil || string(p) != "0123456789" {
			t.Errorf("%d: read %q, %v", code, p[:n], err)
		}
	}
	if leaked.Load() != 0 {
		t.Errorf("credentials were sent to another host %d times", leaked.Load())
	}
}
