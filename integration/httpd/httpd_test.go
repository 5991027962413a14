package httpd

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ask sends one request and returns status and body.
func ask(t *testing.T, s *Server, user, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, "secret")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

func TestServers(t *testing.T) {
	for name, start := range map[string]func(Options) (*Server, error){"apache": Start, "rclone": StartRclone, "nginx": StartNginx, "lighttpd": StartLighttpd} {
		t.Run(name, func(t *testing.T) {
			s := Run(t, start, Options{User: "alice", Password: "secret"})
			if resp, _ := ask(t, s, "", "GET", "x", ""); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("without login: %s", resp.Status)
			}
			if resp, _ := ask(t, s, "alice", "PUT", "x", "content"); resp.StatusCode != http.StatusCreated {
				t.Fatalf("PUT: %s", resp.Status)
			}
			if resp, body := ask(t, s, "alice", "GET", "x", ""); body != "content" {
				t.Errorf("GET: %s %q", resp.Status, body)
			}
			if disk, err := os.ReadFile(filepath.Join(s.Dir, "x")); string(disk) != "content" {
				t.Errorf("on disk: %q %v", disk, err)
			}
			if resp, _ := ask(t, s, "alice", "MKCOL", "d/", ""); resp.StatusCode != http.StatusCreated {
				t.Errorf("MKCOL: %s", resp.Status)
			}
		})
	}
}

func TestDigestChallenge(t *testing.T) {
	s := Run(t, Start, Options{User: "alice", Password: "secret", Digest: true})
	resp, _ := ask(t, s, "alice", "GET", "", "")
	if got := resp.Header.Get("Www-Authenticate"); resp.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(got, "Digest ") {
		t.Errorf("%s, %q", resp.Status, got)
	}
}

func TestDepthInfinity(t *testing.T) {
	for _, on := range []bool{false, true} {
		s := Run(t, Start, Options{DepthInfinity: on})
		resp, _ := ask(t, s, "", "PROPFIND", "", "")
		want := http.StatusForbidden
		if on {
			want = http.StatusMultiStatus
		}
		if resp.StatusCode != want {
			t.Errorf("DepthInfinity %v: %s", on, resp.Status)
		}
	}
}

func TestTLS(t *testing.T) {
	for _, plain := range []bool{false, true} {
		s := Run(t, Start, Options{TLS: true, NoHTTP2: plain})
		pem, err := os.ReadFile(s.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if want := map[bool]int{false: 2, true: 1}[plain]; resp.ProtoMajor != want {
			t.Errorf("NoHTTP2 %v: %s", plain, resp.Proto)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	pid := s.Pid
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if _, err := os.Stat(s.home); !os.IsNotExist(err) {
		t.Errorf("%s is still there", s.home)
	}
	if err := s.Close(); err == nil {
		t.Error("the second Close found a server")
	}
}

func TestStartFailure(t *testing.T) {
	if _, err := StartRclone(Options{Digest: true}); err == nil {
		t.Error("rclone has learned digest")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := StartRclone(Options{}); err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("a missing program gives: %v", err)
	}
}
