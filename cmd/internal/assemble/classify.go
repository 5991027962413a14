package assemble

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
)

// Classify turns an error of Dial into one with an exit code and a remedy.
func Classify(b *settings.Branch, err error) error {
	if e, ok := errors.AsType[*exit.Error](err); ok {
		return e
	}
	for _, judge := range []func(*settings.Branch, error) error{ofContext, ofTLS, ofZone, ofNetwork, ofServer} {
		if e := judge(b, err); e != nil {
			return e
		}
	}
	return exit.New(exit.ServerTrouble, "run: meshmount doctor", "%s: %w", b.Title(), cause(err))
}

func ofContext(b *settings.Branch, err error) error {
	if errors.Is(err, context.Canceled) {
		return exit.New(exit.Interrupted, "", "%s: interrupted while connecting", b.Title())
	}
	return nil
}

// ofTLS judges what is wrong with certificates, ours and the server's.
func ofTLS(b *settings.Branch, err error) error {
	host := hostOf(b)
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok && e.Reason == x509.Expired {
		when := "is not valid before " + e.Cert.NotBefore.Format(time.DateOnly)
		if time.Now().After(e.Cert.NotAfter) {
			when = "expired on " + e.Cert.NotAfter.Format(time.DateOnly)
		}
		return exit.New(exit.TLS, "tell the server's admin, and check this machine's clock", "%s: the certificate of %s %s", b.Title(), host, when)
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		remedy := "check the host name in the URL"
		if b.Kind() == settings.Zone {
			remedy += "; if the zone is known by another name, --irods-verify=cert leaves the name out"
		}
		return exit.New(exit.TLS, remedy, "%s: %w", b.Title(), e)
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return exit.New(exit.TLS, "if you trust it, give its authority with --ca-file", "%s: the certificate of %s is not trusted: %w", b.Title(), host, e)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return exit.New(exit.TLS, "tell the server's admin", "%s: the certificate of %s: %w", b.Title(), host, e.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		remedy := "use dav:// if the server offers no TLS"
		if b.Kind() == settings.Zone {
			remedy = "tell the zone's admin, or see whether --irods-tls=refuse works"
		}
		return exit.New(exit.TLS, remedy, "%s: %s does not speak TLS at this port", b.Title(), host)
	}
	if e, ok := errors.AsType[tls.AlertError](err); ok {
		return exit.New(exit.TLS, "tell the server's admin", "%s: TLS with %s failed: %w", b.Title(), host, e)
	}
	if e, ok := errors.AsType[*os.PathError](err); ok && b.CAFile != "" && e.Path == string(b.CAFile) {
		return exit.New(exit.Config, "name a readable PEM file with --ca-file", "%s: %w", b.Title(), e)
	}
	return nil
}

const remedyNetwork = "check host and port in the URL, the network, and firewalls"

// ofNetwork judges what happens before a server says anything.
func ofNetwork(b *settings.Branch, err error) error {
	host := hostOf(b)
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		if e.IsNotFound {
			return exit.New(exit.UnknownHost, "check the host name in the URL", "%s: unknown host %s", b.Title(), e.Name)
		}
		return exit.New(exit.UnknownHost, "check the network and /etc/resolv.conf", "%s: the name server did not tell the address of %s (%s)", b.Title(), e.Name, e.Err)
	}
	for _, e := range []struct {
		err  error
		text string
	}{
		{syscall.ECONNREFUSED, "connection refused"},
		{syscall.EHOSTUNREACH, "no route to the host"}, {syscall.ENETUNREACH, "the network is unreachable"},
		{errPatience, "no answer in time"}, {os.ErrDeadlineExceeded, "no answer in time"}, {context.DeadlineExceeded, "no answer in time"},
	} {
		if errors.Is(err, e.err) {
			return exit.New(exit.Unreachable, remedyNetwork, "%s: %s (%s)", b.Title(), e.text, host)
		}
	}
	if e, ok := errors.AsType[net.Error](err); ok && remote.KindOf(err) == remote.Unavailable {
		if e.Timeout() {
			return exit.New(exit.Unreachable, remedyNetwork, "%s: no answer in time (%s)", b.Title(), host)
		}
		return exit.New(exit.Unreachable, remedyNetwork, "%s: %w", b.Title(), shortest(err))
	}
	return nil
}

// shortest drops the request and its URL from an error of net/http.
func shortest(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// ofServer judges the server's own answers.
func ofServer(b *settings.Branch, err error) error {
	if b.Kind() == settings.Zone {
		return ofKind(b, err)
	}
	switch remote.KindOf(err) {
	case remote.Auth:
		return refused(b)
	case remote.Permission:
		return exit.New(exit.Denied, "check the path, and that the share is shared with this user", "%s: permission denied: %w", b.Title(), cause(err))
	case remote.NotExist, remote.NotDir, remote.Unsupported, remote.Invalid, remote.Corrupt:
		return exit.New(exit.NotCollection, "check the path; on Nextcloud it is /remote.php/dav/files/USER/", "%s: not a WebDAV collection: %w", b.Title(), cause(err))
	case remote.Unavailable, remote.Locked:
		return exit.New(exit.ServerTrouble, "try again later, or ask the server's admin", "%s: the server is in trouble: %w", b.Title(), cause(err))
	}
	return nil
}

func refused(b *settings.Branch) error {
	switch b.Credential.Kind {
	case settings.Token:
		return exit.New(exit.AuthFailed, "get a new token; it was tried once and is not tried again", "%s: the server refused the token", b.Title())
	case settings.Password:
		return exit.New(exit.AuthFailed, "check it; on Nextcloud make an app password; it was tried once and is not tried again",
			"%s: the server refused the password of %s", b.Title(), b.User)
	}
	return exit.New(exit.AuthFailed, "write davs://USER@HOST/PATH, or use --token-file", "%s: the server wants a login", b.Title())
}

// cause returns what a *remote.Error wraps, without the hint that Dial has put in
// brackets after it: the remedy is ours.
func cause(err error) error {
	e, ok := errors.AsType[*remote.Error](err)
	if !ok || e.Err == nil {
		return err
	}
	if inner := errors.Unwrap(e.Err); inner != nil && strings.HasPrefix(e.Err.Error(), inner.Error()+" (") {
		return inner
	}
	return e.Err
}

func hostOf(b *settings.Branch) string {
	u, err := url.Parse(b.URL)
	if err != nil {
		return b.URL
	}
	return u.Host
}
