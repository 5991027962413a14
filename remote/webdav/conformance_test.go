package webdav_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
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
	return webdav.Options{URL: u, User: user, Password: secret(password), MaxConns: 8, Bulk: true}
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
	share   func(t *testing.T) (start func(t *testing.T) (address string)) // or nil
}

func startEFSS(t *testing.T, d efss.Dialect) *efss.Running {
	t.Helper()
	run, err := efss.Start(efss.Options{
		Dir: t.TempDir(), Dialect: d, Users: []efss.User{{Name: user, AppPassword: password}}, NoGzip: true,
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
		}, nil})
	}
	return append(all, realServer("httpd", webdav.ModDAV, httpd.Start), realServer("rclone", webdav.Rclone, httpd.StartRclone),
		realServer("nginx", webdav.Unknown, httpd.StartNginx), realServer("lighttpd", webdav.Unknown, httpd.StartLighttpd))
}

// realServer is a program of this machine, which it takes time to start.
func realServer(name, dialect string, start func(httpd.Options) (*httpd.Server, error)) server {
	run := func(t *testing.T) string {
		return httpd.Run(t, start, httpd.Options{User: user, Password: password}).URL
	}
	share := func(t *testing.T) func(*testing.T) string {
		root, n := run(t), 0
		return func(t *testing.T) string {
			n++
			return collection(t, root, fmt.Sprint("t", n))
		}
	}
	return server{name, dialect, run, share}
}

// collection makes a collection on a server and returns its address.
func collection(t *testing.T, root, name string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "MKCOL", root+name+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(user, password)
	r.Close = true // the checks count goroutines
	if answer := harness.Send(t, r); answer.StatusCode != http.StatusCreated {
		t.Fatalf("MKCOL: %s", answer.Status)
	}
	return root + name + "/"
}

// shared returns a server for the tests within one: if it takes time to start, one process
// for all, and a collection for each.
func (s server) shared(t *testing.T) server {
	t.Helper()
	if s.share != nil {
		s.start = s.share(t)
	}
	return s
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

// sizes of the suite's large things: enough for several requests, quick enough for the
// race detector.
const (
	largeDir  = 60
	largeFile = 1<<20 + 3
)

// What follows says what an ordinary run leaves out, because another part of it does the
// same to the same code. MESHMOUNT_LONG=1 runs all of it.

// twins are dialects of the embedded server whose real servers are tested as well. The
// embedded server's own tests compare the two.
var twins = []string{"efss-moddav", "efss-rclone"}

// Checks that few servers and decorators can make a difference to: names, where a server
// has rules of its own, and calls and uploads that break off, which depend on the way of
// uploads only.
var (
	checksOfNames  = []string{"Names", "NamePairs", "LongNames"}
	checksOfStalls = []string{"Cancel", "CloseInFlight"}
	checksOfBreaks = slices.Concat(checksOfStalls, []string{"BadSources", "SourceUse"})
)

// spared are the checks that other servers stand for: rclone for those that refuse no
// names, rclone and OpenCloud for those that store as one of them does.
var spared = map[string][]string{
	"efss-reva":    slices.Concat(checksOfNames, checksOfBreaks),
	"efss-xrootd":  checksOfBreaks,
	"efss-generic": slices.Concat(checksOfNames, checksOfBreaks),
	"nginx":        slices.Concat(checksOfNames, checksOfBreaks), // it does not list names with a dot
	"lighttpd":     slices.Concat(checksOfNames, checksOfBreaks),
}

// long tells whether to run the variants that take minutes.
func long() bool { return os.Getenv("MESHMOUNT_LONG") != "" }

// conform runs the suite but for some checks on a server, under what wrap puts around
// the adapter.
func conform(t *testing.T, s server, but []string, wrap func(remote.Backend) remote.Backend) {
	s = s.shared(t)
	remotetest.Run(t, func(t *testing.T) remotetest.Target {
		if !long() && slices.Contains(but, path.Base(t.Name())) {
			t.Skip("another server or test stands for it; MESHMOUNT_LONG=1 runs it")
		}
		if s.dialect == webdav.XRootD && path.Base(t.Name()) == "ChangedBelow" {
			// It makes a name with a % before it asks for the ability.
			t.Skip("for a remote.Tracker, which no WebDAV server is")
		}
		address := s.start(t)
		through, stall := address, stallMissing(t)
		if slices.Contains(checksOfStalls, path.Base(t.Name())) {
			var proxy *remotetest.Proxy
			proxy, through = behind(t, address)
			stall = func() func() { proxy.Stall(); return proxy.Resume }
		}
		return remotetest.Target{
			Backend: wrap(able(dial(t, options(t, through)))), Other: able(dial(t, options(t, address))),
			Stall: stall, MayRefuse: mayRefuse(s.dialect), LargeDir: largeDir, LargeFile: largeFile,
		}
	})
}

// stallMissing is how to stall a server that is not behind a proxy, which would cost
// all checks a tenth of their time.
func stallMissing(t *testing.T) func() func() {
	return func() func() {
		t.Fatal("a check that stalls the server is not among checksOfStalls")
		return nil
	}
}

// decorators are those of package remote, innermost first.
var decorators = []struct {
	name string
	wrap func(remote.Backend) remote.Backend
}{
	{"watchdog", func(b remote.Backend) remote.Backend { return remote.Watchdog(b, 20*time.Second) }},
	{"limit", func(b remote.Backend) remote.Backend { return remote.Limit(b, 4) }},
	{"observe", func(b remote.Backend) remote.Backend { return remote.Observe(b, slog.New(slog.DiscardHandler)) }},
	{"breaker", func(b remote.Backend) remote.Backend { return remote.Breaker(b, remote.BreakerOptions{}) }},
	{"retry", func(b remote.Backend) remote.Backend { return remote.Retry(b, remote.RetryOptions{}) }},
}

// stacked puts all decorators around b, in their order.
func stacked(b remote.Backend) remote.Backend {
	for _, d := range decorators {
		b = d.wrap(b)
	}
	return b
}

// TestConformance runs the suite on every server, alone.
func TestConformance(t *testing.T) {
	for _, s := range servers() {
		if slices.Contains(twins, s.name) && !long() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			conform(t, s, spared[s.name], func(b remote.Backend) remote.Backend { return b })
		})
	}
}

// TestConformanceStacked runs it under all decorators: on the server with the most
// abilities, or on all. Package remote does the same over memory, one by one.
func TestConformanceStacked(t *testing.T) {
	for _, s := range servers() {
		if s.name == "efss-nextcloud" || long() {
			t.Run(s.name, func(t *testing.T) { conform(t, s, checksOfNames, stacked) })
		}
	}
}

// TestConformanceDecorated runs it under each decorator alone.
func TestConformanceDecorated(t *testing.T) {
	if !long() {
		t.Log("the stack holds each of them; set MESHMOUNT_LONG=1 to run them one by one")
		return
	}
	for _, s := range servers() {
		for _, d := range decorators {
			t.Run(s.name+"/"+d.name, func(t *testing.T) { conform(t, s, nil, d.wrap) })
		}
	}
}

// able hides the ability to take files that are still being written if the server has it not.
func able(b *webdav.Backend) remote.Backend {
	if b.Grows() {
		return b
	}
	return &growless{b, b, b, b, b, b, b}
}

type growless struct {
	remote.Backend
	remote.AttrSetter
	remote.Opener
	remote.Usager
	remote.Locator
	remote.Batcher
	remote.Symlinker
}

// mayRefuse tells which names a dialect cannot keep as measured.
func mayRefuse(dialect string) func(string) bool {
	return func(name string) bool {
		lower := strings.ToLower(name)
		if !utf8.ValidString(name) || dialect != webdav.ModDAV && strings.ContainsFunc(name, unicode.IsControl) {
			return true
		}
		switch dialect {
		case webdav.Nextcloud:
			return strings.ContainsAny(name, `\`) || lower == ".htaccess" || strings.HasSuffix(lower, ".part") ||
				strings.HasSuffix(lower, ".filepart") || len(name) > 250 || name == "cafe\u0301" || name == "\u212b"
		case webdav.OCIS:
			return strings.Contains(name, `\`) || len(name) > 255
		case webdav.ModDAV:
			return lower == ".htaccess" || strings.HasPrefix(lower, ".dav") || len(name) > 255
		case webdav.XRootD:
			return strings.ContainsAny(name, "%?") || len(name) > 255
		}
		return len(name) > 255
	}
}
