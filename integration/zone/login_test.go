package zone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// configFor is a client's configuration for a zone, with or without TLS.
func configFor(t *testing.T, z *Zone, user, password string) wire.Config {
	t.Helper()
	cfg := wire.Config{
		Address: z.Addr(), User: user, Zone: z.Name(), Policy: wire.PolicyNone,
		Password: func(context.Context) (string, error) { return password, nil },
	}
	if z.CAFile() != "" {
		pem, err := os.ReadFile(z.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
		cfg.TLS.RootCAs.AppendCertsFromPEM(pem)
		cfg.Policy = wire.PolicyRequire
	}
	return cfg
}

// login connects by a configuration for the zone.
func login(t *testing.T, z *Zone, change func(*wire.Config)) error {
	t.Helper()
	cfg := configFor(t, z, "alice", "apass")
	if change != nil {
		change(&cfg)
	}
	c, err := wire.Dial(t.Context(), cfg)
	if err == nil {
		_, err = c.Call(t.Context(), &wire.Call{API: wire.APIObjStat, In: &wire.DataObjInp{Path: z.Home("alice")}})
		_ = c.Close()
	}
	return err
}

// TestLogin logs in with and without TLS, by all ways, and fails to.
func TestLogin(t *testing.T) {
	accounts := []Account{{Name: "rods", Password: "rods", Admin: true}, {Name: "alice", Password: "apass", PAM: "secret"}}
	plain := start(t, nil)
	secure := start(t, func(o *Options) { o.TLS, o.Policy, o.Accounts = true, wire.PolicyRequire, accounts })
	old := start(t, func(o *Options) { o.Release = "rods4.2.12" })
	expired := start(t, func(o *Options) {
		o.TLS, o.Policy, o.NotAfter = true, wire.PolicyRequire, time.Now().Add(-time.Hour)
	})
	pam := func(password string) func(*wire.Config) {
		return func(c *wire.Config) {
			c.Scheme, c.Password = wire.SchemePAM, func(context.Context) (string, error) { return password, nil }
		}
	}
	for name, c := range map[string]struct {
		zone   *Zone
		change func(*wire.Config)
		code   int // 0: works
	}{
		"plain":            {plain, nil, 0},
		"old flow":         {old, nil, 0},
		"TLS":              {secure, nil, 0},
		"PAM":              {secure, pam("secret"), 0},
		"wrong PAM":        {secure, pam("wrong"), wire.CodePam},
		"TLS is required":  {secure, func(c *wire.Config) { c.Policy = wire.PolicyNone }, wire.CodeInvalidInput},
		"wrong password":   {plain, func(c *wire.Config) { c.Password = nil }, wire.CodeWrongPassword},
		"unknown user":     {plain, func(c *wire.Config) { c.User = "bob" }, wire.CodeUnknownUser},
		"a group":          {plain, func(c *wire.Config) { c.User = "lab" }, wire.CodeUnknownUser},
		"another zone":     {plain, func(c *wire.Config) { c.Zone = "otherZone" }, wire.CodeUnknownUser},
		"for another user": {plain, asAdmin, 0},
	} {
		if err := login(t, c.zone, c.change); wire.CodeOf(err) != c.code || (err != nil && c.code == 0) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var invalid x509.CertificateInvalidError
	if err := login(t, expired, nil); !errors.As(err, &invalid) {
		t.Errorf("expired certificate: %v", err)
	}
	var disagree *wire.NegotiationError
	if err := login(t, secure, func(c *wire.Config) { c.Policy = wire.PolicyRefuse }); !errors.As(err, &disagree) {
		t.Errorf("policies: %v", err)
	}
}

// asAdmin lets the administrator log in for alice.
func asAdmin(c *wire.Config) {
	c.ProxyUser, c.Password = "rods", func(context.Context) (string, error) { return "rods", nil }
}

// TestCertificateStays checks that the authority survives a restart.
func TestCertificateStays(t *testing.T) {
	dir := t.TempDir()
	var before []byte
	for range 2 {
		z := start(t, func(o *Options) { o.Dir, o.TLS = dir, true })
		pem, err := os.ReadFile(z.CAFile())
		if err != nil || (before != nil && string(pem) != string(before)) {
			t.Fatalf("another authority, %v", err)
		}
		before = pem
		if err := login(t, z, func(c *wire.Config) { c.Policy = wire.PolicyDontCare }); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
