package integration_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// zoneSecret is everybody's password in the zones of these tests.
const zoneSecret = "wonder land"

// startZone starts a zone whose users are alice and bob. Without TLS it refuses it, as
// a real server that has no certificate.
func startZone(t testing.TB, opts zone.Options) *zone.Zone {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if !opts.TLS {
		opts.Policy = wire.PolicyRefuse
	}
	opts.Accounts = []zone.Account{{Name: "alice", Password: zoneSecret}, {Name: "bob", Password: zoneSecret}}
	z, err := zone.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
	return z
}

// zoneURL is the address of a user's home, of the zone or a proxy before it.
func zoneURL(z *zone.Zone, address, user string) string {
	return "irods://" + user + "@" + address + z.Home(user)
}

// startZones starts two zones: branch a is alice's home in the one, branch b bob's in
// the other. What lies on the disk of a zone is read through an independent client.
func startZones(t *testing.T) site {
	t.Helper()
	one, two := startZone(t, zone.Options{}), startZone(t, zone.Options{Name: "otherZone"})
	return site{
		args: []string{"a=" + zoneURL(one, one.Addr(), "alice"), "b=" + zoneURL(two, two.Addr(), "bob")},
		env:  []string{"MESHMOUNT_PASSWORD_A=" + zoneSecret, "MESHMOUNT_PASSWORD_B=" + zoneSecret},
		disk: func(branch string) string {
			if branch == "a" {
				return exportZone(t, one, "alice")
			}
			return exportZone(t, two, "bob")
		},
		last: func() string { return fmt.Sprintf("calls: %v and %v\n", one.Calls(), two.Calls()) },
	}
}

// exportZone copies a user's home to a directory by Debian's python3-irodsclient.
func exportZone(t *testing.T, z *zone.Zone, user string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(z.Addr())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command("/usr/bin/python3", "testdata/zone/export.py", port, z.Name(), user, z.Home(user), dir)
	cmd.Env = append(os.Environ(), "ZONE_PASSWORD="+zoneSecret)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("export: %v\n%s", err, out)
	}
	return dir
}

// dialZone connects to a collection by its URL.
func dialZone(t *testing.T, address, secret string) *irods.Backend {
	t.Helper()
	u, err := irods.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	b, err := irods.Dial(t.Context(), irods.Options{Host: u.Host, Port: u.Port, User: u.User, Zone: irods.ZoneOf(u.Root), Root: u.Root,
		Password: func(context.Context) (remote.Secret, error) { return remote.NewSecret(secret), nil }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAppsZone runs the application checks on two mounted zones.
func TestAppsZone(t *testing.T) {
	t.Parallel()
	testApps(t, startZones(t), harness.StaticProgram(t))
}

// startShareAndZone starts an OpenCloud server and a zone: branch a is a share, branch
// b a collection.
func startShareAndZone(t *testing.T) site {
	t.Helper()
	share, zones := startEFSS(t, efss.OpenCloud), startZones(t)
	return site{
		args: []string{share.args[0], zones.args[1]},
		env:  []string{share.env[0], zones.env[1]},
		disk: func(branch string) string {
			if branch == "a" {
				return share.disk("a")
			}
			return zones.disk("b")
		},
		last: func() string { return share.last() + zones.last() },
	}
}

// TestAppsShareAndZone runs those application checks that use both branches on a mount
// of a share and a zone.
func TestAppsShareAndZone(t *testing.T) {
	t.Parallel()
	s := startShareAndZone(t)
	m := harness.MountingProgram(t, harness.StaticProgram(t), s.env, s.args...)
	a, b := filepath.Join(m.Dir, "a"), filepath.Join(m.Dir, "b")
	checks := []string{"rsync", "branches", "shell"}
	newApps(t, "propagating", full(hundred, thousands)).some(t, a, b, checks, "work", "verify")
	for _, check := range checks { // what the first run has left in the other branch
		if err := os.RemoveAll(filepath.Join(b, check)); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(a, check)); err != nil {
			t.Fatal(err)
		}
	}
	newApps(t, "mount", full(hundred, thousands)).some(t, b, a, checks, "work", "verify")
	m.MustUnmount(t)
}
