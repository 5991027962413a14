package integration_test

import (
	"testing"
	"time"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/integration/zone"
)

// zoneBranch is a branch on a collection of a zone of its own.
func zoneBranch(t *testing.T, ttl time.Duration) fs.Branch {
	t.Helper()
	z := startZone(t, zone.Options{})
	b := dialZone(t, zoneURL(z, z.Addr(), "alice"), zoneSecret)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return rootBranch(b, ttl)
}

// TestPosixSuiteZone runs go-fuse's POSIX suite on mounted zones.
func TestPosixSuiteZone(t *testing.T) {
	posixSuite(t, func(t *testing.T) fs.Branch { return zoneBranch(t, time.Minute) })
}
