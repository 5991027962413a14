package doctor

import (
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

func TestZoneFacts(t *testing.T) {
	far := &settings.Branch{URL: "irods://data.example.org:1247/z", TLS: "request", Verify: "hostname", MaxConnections: 4}
	check(t, encryption(far, "TLS 1.3"), OK, "TLS 1.3")
	check(t, encryption(far, ""), Warn, "the password does not go at all) -> ask the zone's admin for TLS; --irods-tls=require")
	for _, url := range []string{"irods://127.0.0.2:1/z", "irods://[::1]:1/z", "irods://localhost:1/z", "irods://a.localhost:1/z"} {
		check(t, encryption(&settings.Branch{URL: url}, ""), OK, "within this machine")
	}
	far.TLS = "refuse"
	check(t, encryption(far, ""), Warn, "take --irods-tls=refuse away")
	far.Verify = "none"
	check(t, encryption(far, "TLS 1.2"), Warn, "anybody can pose as the server")
	check(t, connections(far, 0), OK, "up to 4 at a time")
	check(t, connections(far, 51234567), OK, "round trip 51.23ms; up to 4")
	far.MaxConnections = 17
	check(t, connections(far, time.Millisecond), Warn, "use --max-connections=16 or less")
	check(t, zoneIdentity(&irods.Info{Version: "5.0.2", Root: "/z/c", User: "a#z", Resource: "fast"}), OK, "iRODS 5.0.2, /z/c as a#z, new objects on fast")
}

// TestZonePeer sees certificates, an expired one too, without logging in.
func TestZonePeer(t *testing.T) {
	for name, c := range map[string]struct {
		tls    bool
		policy wire.Policy
		ends   time.Time
		user   string
		want   Status
	}{
		"fine":              {true, wire.PolicyRequire, time.Time{}, "me", OK},
		"soon":              {true, wire.PolicyDontCare, time.Now().Add(100 * time.Hour), "me", Warn},
		"expired":           {true, wire.PolicyRequire, time.Now().Add(-time.Hour), "nobody", Fail},
		"without":           {false, wire.PolicyRefuse, time.Time{}, "me", ""},
		"anonymous without": {false, wire.PolicyRefuse, time.Time{}, wire.Anonymous, ""},
	} {
		z, err := zone.Start(zone.Options{Dir: t.TempDir(), TLS: c.tls, Policy: c.policy, NotAfter: c.ends,
			Accounts: []zone.Account{{Name: "me", Password: "p"}, {Name: wire.Anonymous}}})
		if err != nil {
			t.Fatal(err)
		}
		config, err := settings.Resolve(settings.Input{Branches: []string{"a=irods://" + c.user + "@" + z.Addr() + "/tempZone"}})
		if err != nil {
			t.Fatal(err)
		}
		found := certificate(t.Context(), &config.Branches[0])
		if c.want == "" && len(found) > 0 || c.want != "" && (len(found) != 1 || found[0].Status != c.want) {
			t.Errorf("%s: %+v", name, found)
		}
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	}
}
