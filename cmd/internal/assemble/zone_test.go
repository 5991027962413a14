package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// zoneBranch is a branch with the defaults of the table of options.
func zoneBranch(t *testing.T, url string, environ ...string) *settings.Branch {
	t.Helper()
	c, err := settings.Resolve(settings.Input{Branches: []string{"z=" + url}, Environ: environ, Dir: "/base"})
	if err != nil {
		t.Fatal(err)
	}
	return &c.Branches[0]
}

func TestZoneOptions(t *testing.T) {
	b := zoneBranch(t, "irods://me%23home@h:1300/z/c%20d", "MESHMOUNT_IRODS_AUTH=pam", "MESHMOUNT_IRODS_TLS=require", "MESHMOUNT_IRODS_VERIFY=cert",
		"MESHMOUNT_CA_FILE=ca", "MESHMOUNT_IRODS_CA_DIR=cas", "MESHMOUNT_IRODS_ENCRYPTION=A:1:2:3", "MESHMOUNT_IRODS_RESOURCE=r",
		"MESHMOUNT_IRODS_TRASH=yes", "MESHMOUNT_IRODS_CHECKSUMS=yes", "MESHMOUNT_MAX_CONNECTIONS=7", "MESHMOUNT_CONNECT_TIMEOUT=9")
	got, err := ZoneOptions(b)
	want := irods.Options{
		Host: "h", Port: 1300, User: "me", Zone: "home", Root: "/z/c d", Scheme: wire.SchemePAM, Policy: wire.PolicyRequire, Verify: wire.VerifyCert,
		CAFile: "/base/ca", CADir: "/base/cas", Encryption: wire.Encryption{Algorithm: "A", KeySize: 1, SaltSize: 2, Rounds: 3},
		Resource: "r", Trash: true, MaxConns: 7, ConnectTimeout: 9 * time.Second, Checksums: true,
	}
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
	for text, policy := range map[string]wire.Policy{"request": wire.PolicyDontCare, "refuse": wire.PolicyRefuse} {
		b.TLS = text
		if got, err := ZoneOptions(b); err != nil || got.Policy != policy {
			t.Errorf("%s: %v, %v", text, got.Policy, err)
		}
	}
	b.Credential.From = settings.FromIRODS
	if got, err := ZoneOptions(b); err != nil || got.Scheme != wire.SchemeNative {
		t.Errorf("what iinit has stored goes by %v, %v", got.Scheme, err)
	}
	for _, spoil := range []func(*settings.Branch){
		func(b *settings.Branch) { b.URL = "irods://h:x/" }, func(b *settings.Branch) { b.Verify = "x" },
		func(b *settings.Branch) { b.Auth, b.Credential.From = "x", settings.FromFile },
	} {
		bad := *b
		spoil(&bad)
		if got, err := ZoneOptions(&bad); err == nil {
			t.Errorf("%+v", got)
		}
	}
}

func TestClassifyZones(t *testing.T) {
	password, stored, pam := zoneBranch(t, "irods://me@h/z/c"), zoneBranch(t, "irods://me@h/z/c"), zoneBranch(t, "irods://me@h/z/c", "MESHMOUNT_IRODS_AUTH=pam")
	stored.Credential.From = settings.FromIRODS
	refuse := func(kind remote.Kind, code int) error {
		return &remote.Error{Op: "connect", Kind: kind, Err: &wire.Error{Code: code}}
	}
	broken := func(kind remote.Kind, err error) error {
		return &remote.Error{Op: "connect", Kind: kind, Err: &wire.BrokenError{Err: fmt.Errorf("read: %w", err)}}
	}
	plain := func(kind remote.Kind) error {
		return &remote.Error{Op: "connect", Kind: kind, Err: errors.New("the cause")}
	}
	cases := []struct {
		name string
		b    *settings.Branch
		err  error
		code exit.Code
		want string
	}{
		{"password", password, refuse(remote.Auth, wire.CodeWrongPassword), exit.AuthFailed, "the server refused the password of me#z; check it; for an account of the site use --irods-auth=pam; it was tried once"},
		{"stored password", stored, refuse(remote.Auth, wire.CodeWrongPassword), exit.AuthFailed, "me#z; run iinit again; it was tried once"},
		{"PAM", pam, refuse(remote.Auth, wire.CodePam), exit.AuthFailed, "me#z; check it; it was tried once"},
		{"expired", stored, refuse(remote.Auth, wire.CodePasswordExpired), exit.AuthFailed, "the password of me#z has expired; run iinit again"},
		{"user", password, refuse(remote.Auth, wire.CodeUnknownUser), exit.AuthFailed, "the server knows no user me#z; check user and zone"},
		{"zone", password, refuse(remote.NotExist, wire.CodeInvalidZone), exit.NotCollection, "the server knows no such zone"},
		{"long password", password, &remote.Error{Kind: remote.Auth, Err: wire.ErrPasswordLength}, exit.SecretUnusable, "is longer than 50 bytes; check it; for an account of the site use --irods-auth=pam"},
		{"catalog", password, refuse(remote.Unavailable, wire.CodeLibrary), exit.ServerTrouble, "the zone takes no more connections (SYS_LIBRARY_ERROR)"},
		{"connections", password, refuse(remote.Unavailable, wire.CodeTooManyConnections), exit.ServerTrouble, "the zone takes no more connections"},
		{"we refuse", password, &remote.Error{Kind: remote.Unsupported, Err: &wire.NegotiationError{Client: wire.PolicyRefuse, Server: wire.PolicyRequire}}, exit.TLS, "the server requires TLS"},
		{"server refuses", password, &remote.Error{Kind: remote.Unsupported, Err: &wire.NegotiationError{Client: wire.PolicyRequire, Server: wire.PolicyRefuse}}, exit.TLS, "the server refuses TLS"},
		{"no TLS", pam, &remote.Error{Kind: remote.Unsupported, Err: wire.ErrNoTLS}, exit.TLS, "would send the password in clear"},
		{"negotiation", password, refuse(remote.Other, wire.CodeServerNegotiation), exit.TLS, "broke off the negotiation of TLS"},
		{"too old", password, plain(remote.Unsupported), exit.NotCollection, "the cause; ask the zone's admin for an update"},
		{"garbage", password, broken(remote.Corrupt, wire.ErrFrame), exit.NotCollection, "h:1247 does not speak iRODS at this port"},
		{"garbled", password, broken(remote.Corrupt, wire.ErrPacking), exit.NotCollection, "does not speak iRODS"},
		{"hung up", password, broken(remote.Unavailable, io.ErrUnexpectedEOF), exit.ServerTrouble, "h:1247 has hung up without an answer"},
		{"reset", password, broken(remote.Unavailable, syscall.ECONNRESET), exit.ServerTrouble, "h:1247 has hung up without an answer"},
		{"refused", password, broken(remote.Unavailable, syscall.ECONNREFUSED), exit.Unreachable, "connection refused (h:1247); check host and port"},
		{"late", password, broken(remote.Unavailable, context.DeadlineExceeded), exit.Unreachable, "no answer in time"},
		{"unavailable", password, plain(remote.Unavailable), exit.Unreachable, "the cause (h:1247); check host and port"},
		{"missing", password, plain(remote.NotExist), exit.NotCollection, "the cause; check the path"},
		{"object", password, plain(remote.NotDir), exit.NotCollection, "the cause; name the collection"},
		{"permission", password, refuse(remote.Permission, wire.CodeNoAccess), exit.Denied, "permission denied: "},
		{"options", password, plain(remote.Invalid), exit.Config, "the cause"},
		{"path", password, refuse(remote.Invalid, wire.CodeInputPath), exit.NotCollection, "check the path"},
		{"auth", password, plain(remote.Auth), exit.AuthFailed, "refused to log in me#z: the cause"},
		{"trouble", password, refuse(remote.Unavailable, wire.CodeInternal), exit.ServerTrouble, "the server is in trouble"},
		{"corrupt", password, plain(remote.Corrupt), exit.ServerTrouble, "the server is in trouble: the cause"},
		{"other", password, refuse(remote.Other, wire.CodeUnknownTable), exit.ServerTrouble, "run: meshmount doctor"},
		{"secret", stored, &remote.Error{Kind: remote.Auth, Err: exit.New(exit.SecretUnusable, "", "gone")}, exit.SecretUnusable, "gone"},
		{"interrupt", password, context.Canceled, exit.Interrupted, "interrupted while connecting"},
	}
	for _, c := range cases {
		err := Classify(c.b, c.err)
		if exit.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: code %d, %v; want %d, %s", c.name, exit.CodeOf(err), err, c.code, c.want)
		}
		if strings.Contains(err.Error(), "WebDAV") || strings.Contains(err.Error(), "dav:") || strings.Contains(err.Error(), "share") {
			t.Errorf("%s: a zone is no share: %v", c.name, err)
		}
	}
}

func TestDialAllKinds(t *testing.T) {
	z, err := zone.Start(zone.Options{Dir: t.TempDir(), Policy: wire.PolicyRefuse, Accounts: []zone.Account{{Name: "me", Password: "p"}, {Name: wire.Anonymous}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = z.Close() }()
	url := z.Addr() + z.Home("me")
	mine, public, bad := zoneBranch(t, "irods://me@"+url), zoneBranch(t, "irods://anonymous@"+url[:len(url)-len("/me")]), zoneBranch(t, "irods://me@127.0.0.1:1/z")
	public.Name, bad.Name = "public", "bad"
	d := Dialer{Log: slog.New(slog.DiscardHandler), Agent: "meshmount/test", Secrets: func(b *settings.Branch) remote.SecretSource {
		if b.Name == "public" {
			t.Error("asked for a password of anonymous")
		}
		return func(context.Context) (remote.Secret, error) { return remote.NewSecret("p"), nil }
	}}
	list, err := d.DialAll(t.Context(), []settings.Branch{*mine, *public})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"user me#tempZone auth native", "user anonymous#tempZone auth anonymous"} {
		if facts := strings.TrimSpace(fmt.Sprintln(Describe(list[i])...)); !strings.Contains(facts, want) || !strings.Contains(facts, "version 5.0.2") {
			t.Errorf("%s, want %s", facts, want)
		}
		if err := list[i].Close(); err != nil {
			t.Error(err)
		}
	}
	if list, err := d.DialAll(t.Context(), []settings.Branch{*mine, *bad}); list != nil || exit.CodeOf(err) != exit.Unreachable {
		t.Errorf("%v, %v", list, err)
	}
}
