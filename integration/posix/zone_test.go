package posix_test

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// zoneBranch is a branch on a collection of a zone of its own, which has no certificate.
func zoneBranch(t *testing.T, ttl time.Duration) fs.Branch {
	t.Helper()
	z, err := zone.Start(zone.Options{Dir: t.TempDir(), Policy: wire.PolicyRefuse, Accounts: []zone.Account{{Name: "alice", Password: "wonder land"}}})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, z.Close)
	host, text, err := net.SplitHostPort(z.Addr())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := irods.Dial(t.Context(), irods.Options{Host: host, Port: port, User: "alice", Zone: z.Name(), Root: z.Home("alice"),
		Password: func(context.Context) (remote.Secret, error) { return remote.NewSecret("wonder land"), nil }})
	if err != nil {
		t.Fatal(err)
	}
	closing(t, b.Close)
	return rootBranch(b, ttl)
}

// closing closes something when the test ends.
func closing(t *testing.T, end func() error) {
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
}

// TestPosixSuiteZone runs go-fuse's POSIX suite on mounted zones.
func TestPosixSuiteZone(t *testing.T) {
	posixSuite(t, func(t *testing.T) fs.Branch { return zoneBranch(t, time.Minute) })
}
