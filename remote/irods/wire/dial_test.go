package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestPolicies negotiates with every pair of policies and checks what comes out.
func TestPolicies(t *testing.T) {
	ca := newAuthority(t)
	for server := PolicyDontCare; server <= PolicyRefuse; server++ {
		address := serve(t, ServerConfig{Policy: server, TLS: ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))}, echo)
		for client := PolicyDontCare; client <= PolicyNone; client++ {
			t.Run(fmt.Sprintf("%s with %s", client, server), func(t *testing.T) {
				cfg := config(address)
				cfg.Policy, cfg.TLS = client, &tls.Config{RootCAs: ca.roots}
				checkPolicy(t, cfg, server)
			})
		}
	}
}

func checkPolicy(t *testing.T, cfg Config, server Policy) {
	t.Helper()
	c, err := Dial(t.Context(), cfg)
	useTLS, ok := Agree(cfg.Policy, server)
	if cfg.Policy == PolicyNone {
		if server == PolicyRequire {
			wantCode(t, err, CodeInvalidInput)
			return
		}
		useTLS, ok = false, true
	}
	if !ok {
		var disagree *NegotiationError
		if !errors.As(err, &disagree) || disagree.Server != server {
			t.Errorf("error %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if (c.TLS() != nil) != useTLS {
		t.Errorf("TLS state %v, want TLS: %v", c.TLS(), useTLS)
	}
	var out STR
	if _, err := c.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{Path: "/z"}, Out: &out}); err != nil || out.Text != "/z" {
		t.Errorf("%q, %v", out.Text, err)
	}
}

// TestVerify checks certificates that are good, for another name, expired, or signed
// by nobody.
func TestVerify(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	hour := time.Now().Add(time.Hour)
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		expired x509.CertificateInvalidError
	)
	for _, c := range []struct {
		what   string
		server *tls.Config
		verify Verify
		cause  any // nil: works
	}{
		{"good", ca.issue(t, "127.0.0.1", hour), VerifyHostname, nil},
		{"other name", ca.issue(t, "example.org", hour), VerifyHostname, &name},
		{"other name, chain only", ca.issue(t, "example.org", hour), VerifyCert, nil},
		{"expired", ca.issue(t, "127.0.0.1", time.Now().Add(-time.Hour)), VerifyHostname, &expired},
		{"expired, chain only", ca.issue(t, "127.0.0.1", time.Now().Add(-time.Hour)), VerifyCert, &expired},
		{"unknown", other.issue(t, "127.0.0.1", hour), VerifyHostname, &unknown},
		{"unknown, chain only", other.issue(t, "127.0.0.1", hour), VerifyCert, &unknown},
		{"unknown, unchecked", other.issue(t, "127.0.0.1", hour), VerifyNone, nil},
	} {
		cfg := config(serve(t, ServerConfig{Policy: PolicyRequire, TLS: c.server}, nil))
		cfg.Policy, cfg.TLS, cfg.Verify = PolicyRequire, &tls.Config{RootCAs: ca.roots}, c.verify
		conn, err := Dial(t.Context(), cfg)
		if err == nil {
			_ = conn.Close()
		}
		var broken *BrokenError
		switch {
		case c.cause == nil && err != nil:
			t.Errorf("%s: %v", c.what, err)
		case c.cause != nil && (!errors.As(err, &broken) || !errors.As(err, c.cause)):
			t.Errorf("%s: %T %v", c.what, err, err)
		}
	}
}

// TestNative logs in by both flows, with right and wrong credentials.
func TestNative(t *testing.T) {
	for _, release := range []string{"rods5.0.2", "rods4.3.0", "rods4.2.12"} {
		address := serve(t, ServerConfig{Release: release}, nil)
		c := dial(t, config(address))
		if c.Server().ReleaseVersion != release || c.TLS() != nil {
			t.Errorf("server %+v", c.Server())
		}
		wrong := config(address)
		wrong.Password = func(context.Context) (string, error) { return "wrong", nil }
		_, err := Dial(t.Context(), wrong)
		wantCode(t, err, CodeWrongPassword)
		nobody := config(address)
		nobody.User = "nobody"
		_, err = Dial(t.Context(), nobody)
		wantCode(t, err, CodeUnknownUser)
	}
}

// TestCredentials checks the ways in which there is no password to send.
func TestCredentials(t *testing.T) {
	address := serve(t, ServerConfig{Password: func(user, _ string) (string, bool) { return "", user == Anonymous }}, nil)
	cfg := config(address)
	mine := errors.New("no terminal")
	cfg.Password = func(context.Context) (string, error) { return "", mine }
	if _, err := Dial(t.Context(), cfg); err != mine {
		t.Errorf("error %v", err)
	}
	cfg.Password = func(context.Context) (string, error) { return strings.Repeat("x", 51), nil }
	if _, err := Dial(t.Context(), cfg); err != ErrPasswordLength {
		t.Errorf("error %v", err)
	}
	cfg.User = Anonymous
	cfg.Password = func(context.Context) (string, error) { t.Error("asked for anonymous"); return "", nil }
	dial(t, cfg)
}

// TestPAM logs in by PAM over TLS, and checks that without TLS nobody even asks for the
// password.
func TestPAM(t *testing.T) {
	ca := newAuthority(t)
	pam := func(user, password string, ttl int) (string, error) {
		if user != "rods" || password != "pam secret that is longer than fifty bytes, as they may be" || ttl != 5 {
			return "", &Error{Code: CodePam}
		}
		return testPassword, nil
	}
	for _, release := range []string{"rods5.0.2", "rods4.2.12"} {
		cfg := config(serve(t, ServerConfig{Release: release, TLS: ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour)), PAM: pam}, nil))
		cfg.Scheme, cfg.PasswordTTL, cfg.TLS = SchemePAM, 5, &tls.Config{RootCAs: ca.roots}
		cfg.Password = func(context.Context) (string, error) { t.Error("asked without TLS"); return "", nil }
		for _, policy := range []Policy{PolicyNone, PolicyRefuse} {
			cfg.Policy = policy
			if _, err := Dial(t.Context(), cfg); err != ErrNoTLS {
				t.Errorf("without TLS: %v", err)
			}
		}
		cfg.Policy = PolicyDontCare
		cfg.Password = func(context.Context) (string, error) {
			return "pam secret that is longer than fifty bytes, as they may be", nil
		}
		dial(t, cfg)
		cfg.Password = func(context.Context) (string, error) { return "wrong", nil }
		_, err := Dial(t.Context(), cfg)
		wantCode(t, err, CodePam)
	}
}

// TestServerRefusesPlainPAM sends the password without TLS, as no client of ours does.
func TestServerRefusesPlainPAM(t *testing.T) {
	address := serve(t, ServerConfig{PAM: func(string, string, int) (string, error) { return testPassword, nil }}, nil)
	c := dial(t, config(address))
	_, err := c.pam(t.Context(), "x", true)
	wantCode(t, err, CodeNotAllowed)
	_, err = c.pam(t.Context(), "x", false)
	wantCode(t, err, CodeNotAllowed)
}

// TestNotAuthenticated calls before logging in.
func TestNotAuthenticated(t *testing.T) {
	address := serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		return s.Reply(0, &MiscSvrInfo{Zone: "tempZone"}, nil)
	})
	cfg := config(address)
	c, err := connect(t.Context(), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.guard(t.Context(), func() error { return c.startup(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	_, err = c.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}})
	wantCode(t, err, CodeNotAuthenticated)
	var info MiscSvrInfo
	if _, err := c.Call(t.Context(), &Call{API: APIGetMiscSvrInfo, Out: &info}); err != nil || info.Zone != "tempZone" {
		t.Errorf("%+v, %v", info, err)
	}
	in := &AuthResponseInp{Username: "rods#tempZone", Response: ChallengeResponse("", testPassword)}
	_, err = c.Call(t.Context(), &Call{API: APIAuthResponse, In: in})
	wantCode(t, err, CodeWrongPassword) // an answer without a challenge
}

// TestAdmit lets the server turn clients away before they log in.
func TestAdmit(t *testing.T) {
	address := serve(t, ServerConfig{Admit: func(p StartupPack) int {
		if p.Option == "wire.test" {
			return CodeLibrary
		}
		return 0
	}}, nil)
	_, err := Dial(t.Context(), config(address))
	wantCode(t, err, CodeLibrary)
}

func TestHeartbeat(t *testing.T) {
	if err := Heartbeat(t.Context(), serve(t, ServerConfig{}, nil)); err != nil {
		t.Error(err)
	}
	silent := listen(t, func(ctx context.Context, nc net.Conn) { <-ctx.Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantBroken(t, Heartbeat(ctx, silent), context.DeadlineExceeded, false)
	web := listen(t, func(_ context.Context, nc net.Conn) { _, _ = io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n") })
	wantBroken(t, Heartbeat(t.Context(), web), ErrFrame, false)
	if err := Heartbeat(t.Context(), "127.0.0.1:1"); err == nil {
		t.Error("a closed port answers")
	}
}

// TestDialGarbage connects to what is no iRODS server, or one that dies early.
func TestDialGarbage(t *testing.T) {
	version := appendFrame(nil, header{kind: typeVersion}, &Version{}, true)
	for name, answer := range map[string]string{
		"nothing":        "",
		"another server": "SSH-2.0-OpenSSH_9.9\r\n",
		"huge header":    "\x7f\xff\xff\xff",
		"no header":      "\x00\x00\x00\x00",
		"not xml":        "\x00\x00\x00\x04abcd",
		"negative":       string(appendHeader(nil, header{kind: typeVersion, msgLen: -1}, true)),
		"endless":        string(appendHeader(nil, header{kind: typeVersion, msgLen: 1 << 30}, true)),
		"other type":     string(appendFrame(nil, header{kind: typeAPIReply}, &Version{}, true)),
		"cut":            string(version[:len(version)-5]),
		"wrong message":  string(appendFrame(nil, header{kind: typeVersion}, &STR{}, true)),
		"negotiation":    string(appendFrame(nil, header{kind: typeNeg}, &csNeg{status: 1, result: "CS_NEG_PERHAPS"}, true)),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(listen(t, func(_ context.Context, nc net.Conn) {
				_, _ = readHeader(nc, Limits{}.withDefaults())
				_, _ = io.WriteString(nc, answer)
				_ = nc.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, nc)
			}))
			cfg.Policy = PolicyDontCare
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c, err := Dial(ctx, cfg)
			if c != nil || err == nil || ctx.Err() != nil {
				t.Fatalf("%v, %v", c, err)
			}
			wantBroken(t, err, nil, false)
		})
	}
}

// TestDialDeadline gives up on a server that accepts and says nothing.
func TestDialDeadline(t *testing.T) {
	address := listen(t, func(ctx context.Context, nc net.Conn) { <-ctx.Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := Dial(ctx, config(address))
	wantBroken(t, err, context.DeadlineExceeded, false)
	_, err = Dial(t.Context(), config("127.0.0.1:1"))
	wantBroken(t, err, nil, false)
}

func TestBefore(t *testing.T) {
	for release, want := range map[string]bool{
		"rods4.2.12": true, "rods4.3.0": false, "rods4.3.10": false, "rods5.0.2": false,
		"rods4": true, "rods3.3.1": true, "": false, "other": false,
	} {
		if got := (&Version{ReleaseVersion: release}).Before(4, 3, 0); got != want {
			t.Errorf("%q before 4.3.0: %v", release, got)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for p := PolicyDontCare; p <= PolicyNone; p++ {
		if got, err := ParsePolicy(p.String()); err != nil || got != p {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
	if p, err := ParsePolicy(""); err != nil || p != PolicyDontCare {
		t.Errorf("empty: %v, %v", p, err)
	}
	if _, err := ParsePolicy("CS_NEG_MAYBE"); err == nil {
		t.Error("no error")
	}
	if negotiated("cs_neg_sid_kw=x;cs_neg_result_kw=CS_NEG_USE_SSL;") != negUseTLS || negotiated(negUseTCP) != negUseTCP {
		t.Error("negotiated")
	}
}
