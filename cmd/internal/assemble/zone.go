package assemble

import (
	"context"
	"errors"
	"io"
	"syscall"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

func (d *Dialer) dialZone(ctx context.Context, b *settings.Branch) (remote.Backend, error) {
	opts, err := ZoneOptions(b)
	if err != nil {
		return nil, err
	}
	opts.Logger, opts.AppName = d.Log.With("branch", b.Name), d.Agent
	if b.Credential.Kind == settings.Password {
		opts.Password = d.Secrets(b)
	}
	backend, err := irods.Dial(ctx, opts)
	if err != nil {
		return nil, err // not a nil pointer that is no nil interface
	}
	return backend, nil
}

var zonePolicies = map[string]wire.Policy{"request": wire.PolicyDontCare, "require": wire.PolicyRequire, "refuse": wire.PolicyRefuse}

// ZoneOptions turns a branch's settings into the adapter's, less password and log.
func ZoneOptions(b *settings.Branch) (irods.Options, error) {
	u, err := irods.ParseURL(b.URL)
	if err != nil {
		return irods.Options{}, err
	}
	scheme, err := zoneScheme(b)
	if err != nil {
		return irods.Options{}, err
	}
	verify, err := irods.ParseVerify(b.Verify)
	if err != nil {
		return irods.Options{}, err
	}
	return irods.Options{
		Host: u.Host, Port: u.Port, Root: u.Root, User: b.User, Zone: b.Zone,
		Scheme: scheme, Policy: zonePolicies[b.TLS], Verify: verify, Encryption: b.Encryption,
		CAFile: string(b.CAFile), CADir: string(b.CADir),
		Resource: b.Resource, Trash: b.Trash, Checksums: b.Checksums, MaxConns: b.MaxConnections, ConnectTimeout: b.ConnectTimeout,
	}, nil
}

// zoneScheme is how to log in. What iinit has stored after a login by PAM is a password
// for the native way, made by the server.
func zoneScheme(b *settings.Branch) (wire.Scheme, error) {
	if b.Credential.From == settings.FromIRODS {
		return wire.SchemeNative, nil
	}
	return irods.ParseScheme(b.Auth)
}

// ofZone judges what only zones say.
func ofZone(b *settings.Branch, err error) error {
	if b.Kind() != settings.Zone {
		return nil
	}
	if e := ofNegotiation(b, err); e != nil {
		return e
	}
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return ofCode(b, e)
	}
	switch {
	case errors.Is(err, wire.ErrPasswordLength):
		return exit.New(exit.SecretUnusable, "check it; for an account of the site use --irods-auth=pam",
			"%s: the password of %s is longer than %d bytes", b.Title(), zoneUser(b), wire.MaxPassword)
	case errors.Is(err, wire.ErrFrame), errors.Is(err, wire.ErrPacking):
		return exit.New(exit.NotCollection, "check host and port in the URL", "%s: %s does not speak iRODS at this port", b.Title(), hostOf(b))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return exit.New(exit.ServerTrouble, "check host and port in the URL; try again later, or ask the zone's admin",
			"%s: %s has hung up without an answer", b.Title(), hostOf(b))
	}
	return nil
}

// ofNegotiation judges a disagreement about TLS.
func ofNegotiation(b *settings.Branch, err error) error {
	e, ok := errors.AsType[*wire.NegotiationError](err)
	switch {
	case ok && e.Client == wire.PolicyRefuse:
		return exit.New(exit.TLS, "take --irods-tls=refuse (irods_client_server_policy) away", "%s: the server requires TLS, and we are told to refuse it", b.Title())
	case ok:
		return exit.New(exit.TLS, "take --irods-tls=require (irods_client_server_policy) away if you accept that data go unencrypted",
			"%s: the server refuses TLS, and we are told to require it", b.Title())
	case errors.Is(err, wire.ErrNoTLS):
		return exit.New(exit.TLS, "ask the zone's admin for TLS; a password that iinit has stored needs none",
			"%s: the server does not agree to TLS, and logging in by PAM would send the password in clear", b.Title())
	}
	switch wire.CodeOf(err) {
	case wire.CodeServerNegotiation, wire.CodeClientNegotiation, wire.CodeNoNegotiation:
		return exit.New(exit.TLS, "tell the zone's admin; see whether --irods-tls=refuse or =require works", "%s: the server broke off the negotiation of TLS", b.Title())
	}
	return nil
}

// ofCode judges a refusal by its code; nil if its Kind says enough.
func ofCode(b *settings.Branch, e *wire.Error) error {
	switch e.Base() {
	case wire.CodeWrongPassword, wire.CodePam:
		return exit.New(exit.AuthFailed, remedyLogin(b)+"; it was tried once and is not tried again",
			"%s: the server refused the password of %s", b.Title(), zoneUser(b))
	case wire.CodePasswordExpired:
		return exit.New(exit.AuthFailed, remedyLogin(b), "%s: the password of %s has expired", b.Title(), zoneUser(b))
	case wire.CodeUnknownUser:
		return exit.New(exit.AuthFailed, "check user and zone in the URL; a user of another zone than the collection's is written USER%23ZONE@",
			"%s: the server knows no user %s", b.Title(), zoneUser(b))
	case wire.CodeInvalidZone:
		return exit.New(exit.NotCollection, "check the first name of the path, and the user's zone", "%s: the server knows no such zone", b.Title())
	case wire.CodeLibrary, wire.CodeTooManyConnections:
		return exit.New(exit.ServerTrouble, "try again later; the zone's admin can raise the limit of its database",
			"%s: the zone takes no more connections (%s)", b.Title(), wire.CodeName(e.Code))
	}
	return nil
}

// zoneUser is the full name of the branch's user.
func zoneUser(b *settings.Branch) string { return irods.FullUser(b.User, b.Zone) }

func remedyLogin(b *settings.Branch) string {
	switch {
	case b.Credential.From == settings.FromIRODS:
		return "run iinit again"
	case b.Auth == "pam":
		return "check it"
	}
	return "check it; for an account of the site use --irods-auth=pam"
}

// ofKind judges a zone's refusal by its Kind.
func ofKind(b *settings.Branch, err error) error {
	_, refusal := errors.AsType[*wire.Error](err)
	switch remote.KindOf(err) {
	case remote.Auth:
		return exit.New(exit.AuthFailed, "check user, zone and password", "%s: the server refused to log in %s: %w", b.Title(), zoneUser(b), cause(err))
	case remote.Permission:
		return exit.New(exit.Denied, "ask the collection's owner for the permission to read it", "%s: permission denied: %w", b.Title(), cause(err))
	case remote.NotExist:
		return exit.New(exit.NotCollection, "check the path; with iCommands: ils", "%s: %w", b.Title(), cause(err))
	case remote.NotDir:
		return exit.New(exit.NotCollection, "name the collection that it is in", "%s: %w", b.Title(), cause(err))
	case remote.Unsupported:
		return exit.New(exit.NotCollection, "ask the zone's admin for an update", "%s: %w", b.Title(), cause(err))
	case remote.Invalid:
		if !refusal {
			return exit.New(exit.Config, "", "%s: %w", b.Title(), cause(err))
		}
		return exit.New(exit.NotCollection, "check the path", "%s: %w", b.Title(), cause(err))
	case remote.Unavailable, remote.Locked, remote.Corrupt:
		if remote.KindOf(err) == remote.Unavailable && !refusal {
			return exit.New(exit.Unreachable, remedyNetwork, "%s: %w (%s)", b.Title(), cause(err), hostOf(b))
		}
		return exit.New(exit.ServerTrouble, "try again later, or ask the zone's admin", "%s: the server is in trouble: %w", b.Title(), cause(err))
	}
	return nil
}
