package webdav_test

import (
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/webdav"
)

// startTLS starts an embedded server with TLS.
func startTLS(t *testing.T, notAfter time.Time) *efss.Running {
	t.Helper()
	run, err := efss.Start(efss.Options{Dir: t.TempDir(), Users: []efss.User{{Name: user, AppPassword: password}}},
		efss.StartOptions{TLS: true, NotAfter: notAfter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Close() })
	return run
}

func TestTLS(t *testing.T) {
	run := startTLS(t, time.Time{})
	o := options(t, run.DAVURL(user))
	_, err := webdav.Dial(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "CA file") {
		t.Errorf("an unknown authority: %v", err)
	}
	if remote.Retryable(err) {
		t.Error("a bad certificate is not cured by time")
	}
	o.CAFile = run.CAFile
	b := dial(t, o)
	defer b.Close()
	if b.Info().Protocol != "HTTP/2.0" || b.Info().Auth != "basic" {
		t.Errorf("info %+v", b.Info())
	}
	for _, file := range []string{filepath.Join(t.TempDir(), "none"), "/dev/null"} {
		o.CAFile = file
		_, err := webdav.Dial(t.Context(), o)
		wantKind(t, err, remote.Invalid)
	}
}

func TestExpiredCertificate(t *testing.T) {
	run := startTLS(t, time.Now().Add(-time.Hour))
	o := options(t, run.DAVURL(user))
	o.CAFile = run.CAFile
	_, err := webdav.Dial(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "expired") || remote.Retryable(err) {
		t.Errorf("an expired certificate: %v", err)
	}
}

// deadAddress refuses connections.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestDialErrors(t *testing.T) {
	run := startEFSS(t, efss.Nextcloud)
	if err := os.WriteFile(filepath.Join(run.Disk(user), "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := run.Scan(user); err != nil {
		t.Fatal(err)
	}
	base := run.DAVURL(user)
	for name, c := range map[string]struct {
		url  string
		kind remote.Kind
		says string
	}{
		"refused connection":  {"http://" + deadAddress(t), remote.Unavailable, "refused"},
		"unknown host":        {"https://no-such-host.invalid/", remote.Other, "host"},
		"no such collection":  {base + "none", remote.NotExist, "path"},
		"a file":              {base + "file", remote.NotDir, "folder"},
		"plain HTTP far away": {"http://192.0.2.1/", remote.Invalid, "plain HTTP"},
		"TLS to a plain port": {strings.Replace(base, "http:", "https:", 1), remote.Other, "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := webdav.Dial(t.Context(), options(t, c.url))
			wantKind(t, err, c.kind)
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("the error says %q, not %q", err, c.says)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	here := &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	for name, o := range map[string]webdav.Options{
		"no URL":              {},
		"another scheme":      {URL: &url.URL{Scheme: "ftp", Host: "h"}},
		"a user in the URL":   {URL: &url.URL{Scheme: "http", Host: "localhost", User: url.User("u")}},
		"two secrets":         {URL: here, User: "u", Password: secret("p"), Token: secret("t")},
		"no user":             {URL: here, Password: secret("p")},
		"an unknown dialect":  {URL: here, Dialect: "gopher"},
		"a negative number":   {URL: here, MaxConns: -1},
		"a negative time-out": {URL: here, ConnectTimeout: -1},
	} {
		_, err := webdav.Dial(t.Context(), o)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		wantKind(t, err, remote.Invalid)
	}
}

func TestMaintenance(t *testing.T) {
	run := startEFSS(t, efss.Nextcloud)
	run.SetMaintenance(true)
	_, err := webdav.Dial(t.Context(), options(t, run.DAVURL(user)))
	wantKind(t, err, remote.Unavailable)
	if run.Count("PROPFIND") != 0 {
		t.Error("credentials were sent to a server in maintenance")
	}
	run.SetMaintenance(false)
	b := dial(t, options(t, run.DAVURL(user)))
	defer b.Close()
	run.SetMaintenance(true)
	_, err = b.Stat(t.Context(), "/")
	wantKind(t, err, remote.Unavailable)
}

// TestFindRoot gives the address of the site, and the old WebDAV address.
func TestFindRoot(t *testing.T) {
	run := startEFSS(t, efss.Nextcloud)
	for _, path := range []string{"", "/", "/remote.php/webdav", "/remote.php/webdav/"} {
		b := dial(t, options(t, run.BaseURL+path))
		if got := b.Info(); got.Root != run.DAVURL(user) || got.UserID != user || b.URL("/") != strings.TrimSuffix(run.DAVURL(user), "/") {
			t.Errorf("%q: root %q, user %q, want %q", path, got.Root, got.UserID, run.DAVURL(user))
		}
		if _, err := b.Mkdir(t.Context(), "/sub"); err != nil && path == "" {
			t.Error(err)
		}
		b.Close()
	}
	b := dial(t, options(t, run.BaseURL+"/remote.php/webdav/sub"))
	defer b.Close()
	if b.Info().Root != run.DAVURL(user)+"sub/" {
		t.Errorf("root %q", b.Info().Root)
	}
}

// TestForcedDialect takes the caller's word.
func TestForcedDialect(t *testing.T) {
	run := startEFSS(t, efss.ModDAV)
	o := options(t, run.DAVURL(user))
	o.Dialect = webdav.Unknown
	b := dial(t, o)
	defer b.Close()
	if b.Info().Dialect != webdav.Unknown || run.Count("OPTIONS") != 0 {
		t.Errorf("dialect %q, %d OPTIONS", b.Info().Dialect, run.Count("OPTIONS"))
	}
}

func TestClockSkew(t *testing.T) {
	s := newEFSS(t, efss.Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	front, _ := guard(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		s.ServeHTTP(w, r)
	}))
	b := dial(t, options(t, front.URL+s.DAVPath(user)))
	defer b.Close()
	if d := b.Info().ClockSkew - time.Hour; !b.Info().SkewKnown || d < -3*time.Second || d > 3*time.Second {
		t.Errorf("skew %v", b.Info().ClockSkew)
	}
}

// TestDialCost counts the requests of a mount, and those that carry no credentials.
func TestDialCost(t *testing.T) {
	for _, d := range efss.Dialects() {
		run := startEFSS(t, d)
		b := dial(t, options(t, run.DAVURL(user)))
		if n := run.Count(""); n > 4 {
			t.Errorf("%v: %d requests: %v", d, n, run.Requests())
		}
		b.Close()
	}
}
