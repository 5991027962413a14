package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// errSeen ends a handshake that has shown its certificate.
var errSeen = errors.New("seen")

// zonePeer returns the certificate that a zone shows, nil if TLS is not agreed upon.
// Nobody logs in: the handshake is broken off, and without TLS there is no password.
func zonePeer(ctx context.Context, b *settings.Branch) (*x509.Certificate, error) {
	opts, err := assemble.ZoneOptions(b)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.ConnectTimeout)
	defer cancel()
	var leaf *x509.Certificate
	conn, err := wire.Dial(ctx, wire.Config{
		Address: net.JoinHostPort(opts.Host, strconv.Itoa(opts.Port)), User: opts.User, Zone: opts.Zone, Policy: opts.Policy,
		Verify:   wire.VerifyNone, // an expired certificate is to be seen
		Password: func(context.Context) (string, error) { return "", errSeen },
		TLS: &tls.Config{VerifyConnection: func(state tls.ConnectionState) error {
			leaf = state.PeerCertificates[0]
			return errSeen
		}},
	})
	if err == nil { // the user anonymous, without TLS
		return nil, conn.Close()
	}
	return leaf, nil
}

func zoneIdentity(info *irods.Info) Finding {
	detail := fmt.Sprintf("iRODS %s, %s as %s", info.Version, info.Root, info.User)
	if info.Resource != "" {
		detail += ", new objects on " + info.Resource
	}
	return Finding{Check: "server", Status: OK, Detail: detail}
}

// encryption tells whether data can be read on the way.
func encryption(b *settings.Branch, version string) Finding {
	if version != "" {
		f := Finding{Check: "tls", Status: OK, Detail: version}
		if b.Verify == "none" {
			f.Status, f.Detail, f.Remedy = Warn, f.Detail+", but anybody can pose as the server: its certificate is not checked", "use --irods-verify=hostname with --ca-file"
		}
		return f
	}
	f := Finding{Check: "tls", Status: OK, Detail: "none: data go unencrypted, within this machine"}
	if !local(b) {
		f.Status, f.Detail, f.Remedy = Warn, "none: data go unencrypted (the password does not go at all)", "ask the zone's admin for TLS; --irods-tls=require makes sure of it"
		if b.TLS == "refuse" {
			f.Remedy = "take --irods-tls=refuse away, or ask the zone's admin for TLS"
		}
	}
	return f
}

// local tells whether the zone is on this machine by its very name or address.
func local(b *settings.Branch) bool {
	u, err := irods.ParseURL(b.URL)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Host)
	return u.Host == "localhost" || strings.HasSuffix(u.Host, ".localhost") || err == nil && ip.IsLoopback()
}

// many connections are a burden on a zone: with the usual settings its database takes
// about a hundred from everybody together.
const many = 16

func connections(b *settings.Branch, roundTrip time.Duration) Finding {
	f := Finding{Check: "connections", Status: OK, Detail: fmt.Sprintf("up to %d at a time, each with a process and a database connection there", b.MaxConnections)}
	if roundTrip > 0 {
		f.Detail = fmt.Sprintf("round trip %v; ", roundTrip.Round(10*time.Microsecond)) + f.Detail
	}
	if b.MaxConnections > many {
		f.Status, f.Remedy = Warn, fmt.Sprintf("on many nodes at once this can exhaust the zone's database: use --max-connections=%d or less", many)
	}
	return f
}
