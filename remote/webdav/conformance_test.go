package webdav_test

import (
	"context"
	"os"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/httpd"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

const (
	user     = "alice"
	password = "correct horse"
)

// secret is a SecretSource of one constant.
func secret(s string) remote.SecretSource {
	return func(context.Context) (remote.Secret, error) { return remote.NewSecret(s), nil }
}

// options for the server at address, with user and password.
func options(t *testing.T, address string) webdav.Options {
	t.Helper()
	u, _, err := webdav.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	return webdav.Options{URL: u, User: user, Password: secret(password), MaxConns: 8}
}

func dial(t *testing.T, o webdav.Options) *webdav.Backend {
	t.Helper()
	b, err := webdav.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// server is a running server and the address of an empty collection on it.
type server struct {
	name    string
	dialect string
	start   func(t *testing.T) (address string)
}

func startEFSS(t *testing.T, d efss.Dialect) *efss.Running {
	t.Helper()
	run, err := efss.Start(efss.Options{
		Dir: t.TempDir(), Dialect: d, Users: []efss.User{{Name: user, AppPassword: password}},
	}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := run.Close(); err != nil {
			t.Errorf("close of the server: %v", err)
		}
	})
	return run
}

// efssDialects maps what we must detect to what the embedded server plays.
var efssDialects = map[efss.Dialect]string{
	efss.Nextcloud: webdav.Nextcloud, efss.OpenCloud: webdav.OCIS, efss.Reva: webdav.Reva, efss.ModDAV: webdav.ModDAV,
	efss.Rclone: webdav.Rclone, efss.XRootD: webdav.XRootD, efss.Generic: webdav.Unknown,
}

// servers returns all servers to test against: the embedded one in each dialect, and
// the real ones that this machine has.
func servers() []server {
	var all []server
	for _, d := range efss.Dialects() {
		all = append(all, server{"efss-" + d.String(), efssDialects[d], func(t *testing.T) string {
			return startEFSS(t, d).DAVURL(user)
		}})
	}
	real := func(start func(httpd.Options) (*httpd.Server, error)) func(*testing.T) string {
		return func(t *testing.T) string {
			return httpd.Run(t, start, httpd.Options{User: user, Password: password}).URL
		}
	}
	return append(all,
		server{"httpd", webdav.ModDAV, real(httpd.Start)},
		server{"rclone", webdav.Rclone, real(httpd.StartRclone)})
}

func TestDetection(t *testing.T) {
	for _, s := range servers() {
		t.Run(s.name, func(t *testing.T) {
			b := dial(t, options(t, s.start(t)))
			defer b.Close()
			if got := b.Info().Dialect; got != s.dialect {
				t.Errorf("found %q, want %q: %+v", got, s.dialect, b.Info())
			}
			t.Logf("%+v\n%+v", b.Info(), b.Caps())
		})
	}
}

func TestConformance(t *testing.T) {
	for _, s := range servers() {
		t.Run(s.name, func(t *testing.T) {
			remotetest.Run(t, func(t *testing.T) remotetest.Target {
				o := options(t, s.start(t))
				return remotetest.Target{Backend: able(dial(t, o)), Other: able(dial(t, o)), MayRefuse: mayRefuse(s.dialect), LargeDir: 300}
			})
		})
	}
}

// able hides the ability to keep symbolic links where the server cannot mark them.
func able(b *webdav.Backend) remote.Backend {
	if b.Caps().StoresMode {
		return b
	}
	return &linkless{b, b, b, b, b}
}

type linkless struct {
	remote.Backend
	remote.AttrSetter
	remote.Opener
	remote.Usager
	remote.Locator
}

func mayRefuse(string) func(string) bool { return func(string) bool { return true } }

func TestMain(m *testing.M) { os.Exit(m.Run()) }
