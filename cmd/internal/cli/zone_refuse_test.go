package cli

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// answerOnce starts a server that sends text to whoever connects, and hangs up.
func answerOnce(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			if text != "" {
				_, _ = io.Copy(io.Discard, c) // the client hangs up first
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String()
}

func TestZonesThatCannotBeMounted(t *testing.T) {
	plain, secure := startZone(t, nil), secureZone(t, nil)
	expired := secureZone(t, func(o *zone.Options) { o.NotAfter = time.Now().Add(-24 * time.Hour) })
	misnamed := secureZone(t, elsewhere)
	old := startZone(t, func(o *zone.Options) { o.Release = "rods4.2.8" })
	broken := startZone(t, func(o *zone.Options) { o.Policy = wire.PolicyDontCare }) // offers TLS and has no certificate
	object(t, plain, "object")
	web := answering(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	webHost := strings.TrimPrefix(web, "dav://me@")
	at := func(z *zone.Zone, userAndPath string) string {
		user, path, _ := strings.Cut(userAndPath, "/")
		return "irods://" + user + "@" + z.Addr() + "/" + path
	}
	cases := []struct {
		name, url string
		args      []string
		code      exit.Code
		want      string
	}{
		{"wrong zone", at(plain, "me/otherZone/home/me"), nil, exit.AuthFailed, "the server knows no user me#otherZone; check user and zone"},
		{"zone of the path", at(plain, "me%23tempZone/otherZone/home/me"), nil, exit.NotCollection, "no collection /otherZone/home/me that me#tempZone may see; check the path"},
		{"wrong user", at(plain, "nobody/tempZone/home/me"), nil, exit.AuthFailed, "the server knows no user nobody#tempZone"},
		{"wrong password", at(plain, "you/tempZone/home/you"), nil, exit.AuthFailed, "the server refused the password of you#tempZone; check it"},
		{"wrong password by PAM", at(secure, "me/tempZone/home/me"), []string{"--irods-auth=pam", "--ca-file", secure.CAFile()}, exit.AuthFailed, "refused the password of me#tempZone; check it; it was tried once"},
		{"missing collection", at(plain, "me/tempZone/home/me/none"), nil, exit.NotCollection, "/tempZone/home/me/none"},
		{"an object", at(plain, "me/tempZone/home/me/object"), nil, exit.NotCollection, "is a data object, not a collection; name the collection"},
		{"no permission", at(plain, "me/tempZone/home/you"), nil, exit.NotCollection, "no collection /tempZone/home/you that me#tempZone may see"},
		{"expired certificate", collection(expired), []string{"--ca-file", expired.CAFile()}, exit.TLS, " expired on "},
		{"unknown authority", collection(secure), nil, exit.TLS, "is not trusted"},
		{"certificate of another host", collection(misnamed), []string{"--ca-file", misnamed.CAFile()}, exit.TLS, "not 127.0.0.2; check the host name in the URL; if the zone is known by another name, --irods-verify=cert"},
		{"no CA file", collection(secure), []string{"--ca-file", "none.pem"}, exit.Config, "none.pem"},
		{"no certificate in the CA file", collection(secure), []string{"--ca-file", "/etc/hostname"}, exit.Config, "/etc/hostname"},
		{"TLS is required", collection(secure), []string{"--irods-tls=refuse"}, exit.TLS, "the server requires TLS, and we are told to refuse it; take --irods-tls=refuse"},
		{"TLS is refused", collection(plain), []string{"--irods-tls=require"}, exit.TLS, "the server refuses TLS, and we are told to require it"},
		{"PAM without TLS", collection(plain), []string{"--irods-auth=pam"}, exit.TLS, "logging in by PAM would send the password in clear; ask the zone's admin"},
		{"TLS that does not work", collection(broken), nil, exit.TLS, "broke off the negotiation of TLS"},
		{"too old", collection(old), nil, exit.NotCollection, "4.2.8"},
		{"a web server", "irods://me@" + webHost + "/z", []string{"--connect-timeout=500ms"}, exit.Unreachable, "no answer"},
		{"an SSH server", "irods://me@" + answerOnce(t, "SSH-2.0-OpenSSH_9.9\r\n") + "/z", nil, exit.NotCollection, "does not speak iRODS at this port; check host and port"},
		{"garbage", "irods://me@" + answerOnce(t, "\x00\x00\x00\x20"+strings.Repeat("<MsgHeader_PI>", 3)) + "/z", nil, exit.NotCollection, "does not speak iRODS at this port"},
		{"hangs up", "irods://me@" + answerOnce(t, "") + "/z", nil, exit.ServerTrouble, "has hung up without an answer"},
		{"no answer", "irods://me@" + strings.TrimPrefix(silentServer(t), "dav://me@") + "z", []string{"--io-timeout=500ms", "--connect-timeout=500ms"}, exit.Unreachable, "no answer"},
		{"connection refused", "irods://me@" + closedPort(t) + "/z", nil, exit.Unreachable, "connection refused"},
		{"unknown host", "irods://me@host.invalid/z", nil, exit.UnknownHost, "host.invalid"},
		{"no user", "irods://" + plain.Addr() + "/tempZone", nil, exit.BadURL, "a zone needs a user"},
		{"password in the URL", "irods://me:hunter2@h/z", nil, exit.BadURL, "the URL holds a password"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
			w.fails(w.run(append([]string{"mount", w.point, "a=" + c.url}, c.args...)...), c.code, c.want)
			w.clean()
		})
	}
}

// connect logs in to a zone as me.
func connect(t *testing.T, z *zone.Zone) *wire.Conn {
	t.Helper()
	c, err := wire.Dial(t.Context(), wire.Config{Address: z.Addr(), User: "me", Zone: z.Name(), Policy: wire.PolicyNone,
		Password: func(context.Context) (string, error) { return password, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// object makes an object in the home of me.
func object(t *testing.T, z *zone.Zone, name string) {
	t.Helper()
	in := &wire.DataObjInp{Path: z.Home("me") + "/" + name, OprType: wire.OprPut, Cond: wire.KeyValPair{{Key: wire.KwDataIncluded}}}
	if _, err := connect(t, z).Call(t.Context(), &wire.Call{API: wire.APIDataObjPut, In: in, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
}

// TestCatalogOutOfConnections meets a zone whose database takes no more.
func TestCatalogOutOfConnections(t *testing.T) {
	z := startZone(t, func(o *zone.Options) { o.MaxAgents = 1 })
	connect(t, z)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
	w.fails(w.run("mount", w.point, "a="+collection(z)), exit.ServerTrouble, "the zone takes no more connections (")
	w.clean()
}

// TestZoneThatFailsInTheMiddle logs in, and then the agent misbehaves.
func TestZoneThatFailsInTheMiddle(t *testing.T) {
	for name, c := range map[string]struct {
		fault zone.Fault
		code  exit.Code
		want  string
	}{
		"killed":        {zone.Fault{Kill: true}, exit.ServerTrouble, "has hung up without an answer"},
		"wrong lengths": {zone.Fault{Raw: []byte("\xff\xff\xff\xff")}, exit.NotCollection, "does not speak iRODS at this port"},
		"garbage":       {zone.Fault{Raw: []byte("HTTP/1.1 200 OK\r\n\r\n")}, exit.NotCollection, "does not speak iRODS at this port"},
		"catalog":       {zone.Fault{Code: wire.CodeCatalogSQL}, exit.ServerTrouble, "the server is in trouble"},
		"internal":      {zone.Fault{Code: wire.CodeInternal}, exit.ServerTrouble, "the server is in trouble"},
		"no access":     {zone.Fault{Code: wire.CodeNoAccess}, exit.Denied, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			z := startZone(t, nil)
			z.SetFaults(func(zone.Call) *zone.Fault { return &c.fault })
			w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
			w.fails(w.run("mount", w.point, "a="+collection(z)), c.code, c.want)
			w.clean()
		})
	}
}

// gate is a server that counts attempts to log in and refuses them all.
func gate(t *testing.T, release string) (address string, attempts *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	attempts = new(atomic.Int32)
	config := wire.ServerConfig{Release: release, Policy: wire.PolicyRefuse, Password: func(string, string) (string, bool) {
		attempts.Add(1)
		return "another", true
	}}
	var serving sync.WaitGroup
	serve := func(c net.Conn) {
		s, err := wire.Accept(t.Context(), c, config)
		if err != nil {
			return
		}
		defer func() { _ = s.Close() }()
		for err == nil {
			_, err = s.Next()
		}
	}
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	return l.Addr().String(), attempts
}

func TestWrongPasswordOfAZoneIsOneAttempt(t *testing.T) {
	for _, release := range []string{"rods5.0.2", "rods4.2.12"} {
		address, attempts := gate(t, release)
		w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
		for _, command := range [][]string{{"mount", w.point}, {"mount", "-f", w.point}, {"doctor"}} {
			before := attempts.Load()
			r := w.run(append(command, "a=irods://me@"+address+"/z/home/me")...)
			if command[0] == "doctor" {
				if r.code != exit.DoctorFailed || !strings.Contains(r.out, "FAIL  a: credentials: the server refused the password of me#z") {
					t.Errorf("%+v", r)
				}
			} else {
				w.fails(r, exit.AuthFailed, "the server refused the password of me#z; check it; for an account of the site use --irods-auth=pam; it was tried once")
			}
			if n := attempts.Load() - before; n != 1 {
				t.Errorf("%s, %q: %d attempts", release, command, n)
			}
		}
		w.clean()
	}
}
