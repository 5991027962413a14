package write_test

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// secret is alice's password on all servers, and a token on shares, as is newToken.
const (
	secret   = "wonderland"
	newToken = "another"
)

// server is an embedded server with one share or collection, alice's.
type server struct {
	// litter: unfinished uploads may stay, as the server removes them after a day: of a
	// process that was killed, if their content was replaced before another went on.
	litter bool
	kind   string
	dir    string        // where it keeps what it has
	share  *efss.Running // nil for a zone
	zone   *zone.Zone    // nil for a share
}

// kinds are the kinds of branches whose ways to store differ: chunked uploads, temporary
// names, and replicas that are overwritten in place.
func kinds() []string { return []string{"nextcloud", "moddav", "zone"} }

// startServer starts a server of a kind.
func startServer(t *testing.T, kind string) *server {
	t.Helper()
	switch kind {
	case "nextcloud":
		return startShare(t, efss.Options{Dialect: efss.Nextcloud})
	case "moddav":
		return startShare(t, efss.Options{Dialect: efss.ModDAV})
	}
	return startZone(t)
}

// startShare starts a share.
func startShare(t *testing.T, opts efss.Options) *server {
	t.Helper()
	opts.Dir = t.TempDir()
	if len(opts.Users) == 0 {
		opts.Users = []efss.User{{Name: "alice", AppPassword: secret, Token: newToken}}
	}
	s, err := efss.Start(opts, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{kind: opts.Dialect.String(), dir: opts.Dir, share: s}
}

// startZone starts a zone without TLS.
func startZone(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	z, err := zone.Start(zone.Options{Dir: dir, Policy: wire.PolicyRefuse, Accounts: []zone.Account{{Name: "alice", Password: secret}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{kind: "zone", dir: dir, zone: z}
}

// address returns host:port.
func (s *server) address() string {
	if s.zone != nil {
		return s.zone.Addr()
	}
	return strings.TrimPrefix(s.share.BaseURL, "http://")
}

// branch returns the argument for a branch of that name, at the server or a proxy before it.
func (s *server) branch(name, address string) string {
	if s.zone != nil {
		return name + "=irods://alice@" + address + s.zone.Home("alice")
	}
	return name + "=dav://alice@" + address + s.share.DAVPath("alice")
}

// password returns the variable with a branch's password.
func password(branch string) string {
	return "MESHMOUNT_PASSWORD_" + strings.ToUpper(branch) + "=" + secret
}

// settle waits until the server has carried out or dropped what dead clients have asked
// for. A server may do that after what later clients ask, and nobody can prevent it.
func (s *server) settle(t *testing.T) {
	t.Helper()
	settle(t, s)
}

// settle is the method of the same name, of several servers at a time.
func settle(t *testing.T, servers ...*server) {
	t.Helper()
	var ports []int
	for _, s := range servers {
		if s.zone != nil {
			await(t, "the end of a dead client's agents", func() bool { return s.zone.Agents() == 0 })
			continue
		}
		_, digits, err := net.SplitHostPort(s.address())
		if err != nil {
			t.Fatal(err)
		}
		port, err := strconv.Atoi(digits)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if len(ports) == 0 {
		return
	}
	if err := harness.Settled(ctx, ports...); err != nil {
		t.Fatal(err)
	}
}

// patience is how long await waits, for what a machine is slow to do that may stand still
// for a minute.
const patience = 4 * time.Minute

// await waits for something that another process or a server does.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen within %v", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// cacheDir names a directory that the program can make.
func cacheDir(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "cache")
}

// goRoot returns the root of the Go installation that runs the tests.
func goRoot(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(harness.Run(t, ".", "go", "env", "GOROOT"))
}
