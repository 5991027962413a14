package irods

import (
	"context"
	"testing"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// startZone starts a zone with the users alice and bob.
func startZone(t testing.TB, opts zone.Options) *zone.Zone {
	t.Helper()
	opts.Dir = t.TempDir()
	if !opts.TLS {
		opts.Policy = wire.PolicyRefuse // as a server without a certificate
	}
	if opts.Accounts == nil {
		opts.Accounts = []zone.Account{{Name: "alice", Password: "wonderland"}, {Name: "bob", Password: "builder"}, {Name: "rods", Password: "rods", Admin: true}}
	}
	z, err := zone.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = z.Close() })
	return z
}

// options are those of alice's home.
func options(z *zone.Zone, address string) Options {
	host, port := splitAddress(address)
	return Options{
		Host: host, Port: port, User: "alice", Zone: z.Name(), Root: z.Home("alice"),
		Password: func(context.Context) (remote.Secret, error) { return remote.NewSecret("wonderland"), nil },
	}
}

func dial(t testing.TB, opts Options) *Backend {
	t.Helper()
	b, err := Dial(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// target is a zone behind a proxy that can stall, with a second client.
func target(t *testing.T) remotetest.Target {
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	return remotetest.Target{
		Backend: dial(t, options(z, proxy.Addr())),
		Other:   dial(t, options(z, z.Addr())),
		Stall: func() (resume func()) {
			proxy.Stall()
			return proxy.Resume
		},
		MayRefuse: nil,
	}
}

func TestConformance(t *testing.T) { remotetest.Run(t, target) }
