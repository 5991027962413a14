package irods

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"
	"unicode/utf8"

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

// target is a zone behind a proxy that can stall, with a second client. wrap is put around
// the first one.
func target(t *testing.T, wrap func(remote.Backend) remote.Backend) remotetest.Target {
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	return remotetest.Target{
		Backend: wrap(dial(t, options(z, proxy.Addr()))),
		Other:   dial(t, options(z, z.Addr())),
		Stall: func() (resume func()) {
			proxy.Stall()
			return proxy.Resume
		},
		// All but what is not UTF-8 is kept, and names of up to 255 bytes.
		MayRefuse: func(name string) bool { return !utf8.ValidString(name) || len(name) > maxName },
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

// manyTests tells whether to run the variants that take minutes.
func manyTests() bool { return os.Getenv("MESHMOUNT_LONG") != "" }

func TestConformance(t *testing.T) {
	remotetest.Run(t, func(t *testing.T) remotetest.Target {
		x := target(t, func(b remote.Backend) remote.Backend { return b })
		x.LargeDir = 300
		return x
	})
}

// cheap makes the suite's large things smaller: what is large about them is the adapter's
// matter, not that of decorators.
func cheap(x remotetest.Target) remotetest.Target {
	x.LargeDir, x.LargeFile = 60, 1<<20+3
	return x
}

// TestConformanceStacked runs the suite under all decorators.
func TestConformanceStacked(t *testing.T) {
	remotetest.Run(t, func(t *testing.T) remotetest.Target { return cheap(target(t, stacked)) })
}

// TestConformanceDecorated runs it under each decorator alone.
func TestConformanceDecorated(t *testing.T) {
	if !manyTests() {
		t.Log("the stack holds each of them; set MESHMOUNT_LONG=1 to run them one by one")
		return
	}
	for _, d := range decorators {
		t.Run(d.name, func(t *testing.T) {
			remotetest.Run(t, func(t *testing.T) remotetest.Target { return cheap(target(t, d.wrap)) })
		})
	}
}

// TestModel compares random operations with a map.
func TestModel(t *testing.T) {
	remotetest.RunModel(t, func(t *testing.T) remotetest.Target {
		return target(t, func(b remote.Backend) remote.Backend { return b })
	})
}
