package posix_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/webdav"
)

// davBranch is a branch on a WebDAV server of its own that behaves as dialect does.
func davBranch(t *testing.T, dialect efss.Dialect, ttl time.Duration) fs.Branch {
	t.Helper()
	server, err := efss.Start(efss.Options{Dir: t.TempDir(), Dialect: dialect,
		Users: []efss.User{{Name: "alice", AppPassword: "app-alice"}}}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, server.Close)
	u, err := url.Parse(server.DAVURL("alice"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := webdav.Dial(t.Context(), webdav.Options{URL: u, User: "alice",
		Password: func(context.Context) (remote.Secret, error) { return remote.NewSecret("app-alice"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, b.Close)
	return rootBranch(b, ttl)
}
