package keep_test

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

const user, password = "alice", "correct horse"

// startEFSS starts a server that cannot take many files at a time.
func startEFSS(t *testing.T) *efss.Running {
	t.Helper()
	run, err := efss.Start(efss.Options{
		Dir: t.TempDir(), Dialect: efss.ModDAV, Users: []efss.User{{Name: user, AppPassword: password}}, NoGzip: true,
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

// dialEFSS returns a client of the server, without archives.
func dialEFSS(t *testing.T, run *efss.Running) remote.Backend {
	t.Helper()
	u, _, err := webdav.ParseURL(run.DAVURL(user))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(context.Context) (remote.Secret, error) { return remote.NewSecret(password), nil }
	b, err := webdav.Dial(t.Context(), webdav.Options{URL: u, User: user, Password: secret, MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	return remote.Retry(b, remote.RetryOptions{Wait: time.Millisecond})
}

// forbidden tells which names the server, or the adapter, does not take.
func forbidden(name string) bool {
	return strings.HasPrefix(name, ".ht") || strings.HasPrefix(name, ".davfs.") || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl)
}

// TestConformanceEFSS runs the suite over WebDAV.
func TestConformanceEFSS(t *testing.T) {
	remotetest.Run(t, func(t *testing.T) remotetest.Target {
		run := startEFSS(t)
		return remotetest.Target{
			Backend: keep.Wrap(dialEFSS(t, run), keep.Options{}), Other: keep.Wrap(dialEFSS(t, run), keep.Options{}),
			LargeDir: 60, LargeFile: 1<<20 + 3, LateVersions: true, MayRefuse: forbidden,
		}
	})
}
