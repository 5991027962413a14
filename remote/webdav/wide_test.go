package webdav

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// mixed is a server with TLS and HTTP/2 that has one large file.
type mixed struct {
	content []byte
	mu      sync.Mutex
	seen    []string // "GET HTTP/1.1", ...
	refused int      // handshakes without HTTP/2
}

// ServeHTTP implements http.Handler.
func (m *mixed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	m.seen = append(m.seen, r.Method+" "+r.Proto)
	m.mu.Unlock()
	if r.Method == "PROPFIND" {
		body := `<d:multistatus xmlns:d="DAV:"><d:response><d:href>/</d:href><d:propstat><d:prop><d:resourcetype><d:collection/></d:resourcetype></d:prop>` +
			`<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response></d:multistatus>`
		capture{207, http.Header{}, body}.write(w)
		return
	}
	w.Header().Set("ETag", `"v1"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.content))
}

// start serves m and dials it. only refuses clients that do not offer HTTP/2.
func (m *mixed) start(t *testing.T, only bool) *Backend {
	t.Helper()
	s := httptest.NewUnstartedServer(m)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if only && !slices.Contains(hello.SupportedProtos, "h2") {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.refused++
			return nil, errors.New("HTTP/2 only")
		}
		return nil, nil
	}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	u, _, err := ParseURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Dial(t.Context(), Options{URL: u, CAFile: ca, Dialect: Unknown})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// read reads n bytes and tells by what.
func (m *mixed) read(t *testing.T, b *Backend, n int) (protocols string) {
	t.Helper()
	m.mu.Lock()
	m.seen = nil
	m.mu.Unlock()
	p := make([]byte, n)
	got, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Version: "v1", Size: int64(len(m.content))}, p, 5)
	if err != nil && err != io.EOF || !bytes.Equal(p[:got], m.content[5:5+got]) {
		t.Fatalf("%d bytes of %d, %v", got, n, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.seen, ", ")
}

// TestWide: large bodies go over connections of their own where there is HTTP/2.
func TestWide(t *testing.T) {
	m := &mixed{content: bytes.Repeat([]byte("0123456789"), wideBody/4)}
	b := m.start(t, false)
	if b.Info().Protocol != "HTTP/2.0" {
		t.Fatal(b.Info().Protocol)
	}
	for _, c := range []struct {
		n    int
		want string
	}{
		{1000, "GET HTTP/2.0"}, {wideBody, "GET HTTP/2.0"}, {wideBody + 1, "GET HTTP/1.1"},
		{wideBody, "GET HTTP/1.1"}, {wideBody - 1, "GET HTTP/2.0"},
	} {
		if got := m.read(t, b, c.n); got != c.want {
			t.Errorf("%d bytes by %q, want %q", c.n, got, c.want)
		}
	}
}

// TestOnlyHTTP2: what has no way by HTTP/1.1 goes by HTTP/2, and soon without an attempt.
func TestOnlyHTTP2(t *testing.T) {
	m := &mixed{content: bytes.Repeat([]byte("0123456789"), wideBody/4)}
	b := m.start(t, true)
	for range 2 * wideFaults {
		if got := m.read(t, b, 2*wideBody); got != "GET HTTP/2.0" {
			t.Errorf("read by %q", got)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused != wideFaults {
		t.Errorf("tried HTTP/1.1 %d times, want %d", m.refused, wideFaults)
	}
}
