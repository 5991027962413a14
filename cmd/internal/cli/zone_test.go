package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// startZone starts a zone with the users me (password hunter2, by PAM pam-hunter2) and
// rods.
func startZone(t *testing.T, change func(*zone.Options)) *zone.Zone {
	t.Helper()
	o := zone.Options{Dir: t.TempDir(), Policy: wire.PolicyRefuse, Accounts: []zone.Account{
		{Name: "rods", Password: "rods", Admin: true}, {Name: "me", Password: password, PAM: "pam-hunter2"}, {Name: "you", Password: "x"},
	}}
	if change != nil {
		change(&o)
	}
	z, err := zone.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
	return z
}

// collection returns the URL of the home of me.
func collection(z *zone.Zone) string { return "irods://me@" + z.Addr() + z.Home("me") }

// secureZone starts a zone that requires TLS.
func secureZone(t *testing.T, change func(*zone.Options)) *zone.Zone {
	t.Helper()
	return startZone(t, func(o *zone.Options) {
		o.TLS, o.Policy = true, wire.PolicyRequire
		if change != nil {
			change(o)
		}
	})
}

// iinit sets up the world's home as iCommands do, for the user me of a zone. more are
// further lines of the environment.
func (w *world) iinit(z *zone.Zone, password, more string) {
	w.t.Helper()
	host, port, err := net.SplitHostPort(z.Addr())
	dir := filepath.Join(w.dir, ".irods")
	if err := errors.Join(err, os.MkdirAll(dir, 0o700)); err != nil {
		w.t.Fatal(err)
	}
	w.write(".irods/irods_environment.json", 0o600, fmt.Sprintf(
		`{"irods_host": %q, "irods_port": %q, "irods_user_name": "me", "irods_zone_name": %q%s}`, host, port, z.Name(), more))
	if password == "" {
		return
	}
	now := time.Now()
	content, err := irods.Scramble(password, os.Getuid(), now, 5)
	if err != nil {
		w.t.Fatal(err)
	}
	name := w.write(".irods/.irodsA", 0o600, string(content))
	if err := os.Chtimes(name, now, now); err != nil {
		w.t.Fatal(err)
	}
}

// uses writes and reads a file of a branch.
func (w *world) uses(branch string) {
	w.t.Helper()
	file := filepath.Join(w.point, branch, "file")
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		w.t.Fatalf("%v\n%s", err, w.logs())
	}
	readBack(w.t, file, "text")
}

func TestZoneMount(t *testing.T) {
	z, share := startZone(t, nil), site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD_LEXIS_P1=hunter2", "MESHMOUNT_PASSWORD_SCIEBO=hunter2")
	w.succeeds(w.run("mount", w.point, "lexis/p1="+collection(z), "sciebo="+address(share)))
	w.uses("lexis/p1")
	w.uses("sciebo")
	checkClean(t, w.holder().PID)
	w.succeeds(w.run("unmount", w.point))
	if log := w.logs(); strings.Contains(log, password) || !strings.Contains(log, "msg=connected branch=lexis/p1 collection="+z.Home("me")+" product=iRODS version=5.0.2 user=me#tempZone") {
		t.Errorf("log:\n%s", log)
	}
	w.clean()
}

// TestZoneOfICommands mounts what iCommands have set up, without any other secret.
func TestZoneOfICommands(t *testing.T) {
	plain := startZone(t, nil)
	secure := secureZone(t, nil)
	ca := fmt.Sprintf(`, "irods_ssl_ca_certificate_file": %q, "irods_client_server_policy": "CS_NEG_REQUIRE"`, secure.CAFile())
	cases := []struct {
		name, more, url, log string
		zone                 *zone.Zone
	}{
		{"as it is", "", "irods:", "auth=native", plain},
		{"collection", "", "irods:///tempZone/home/me", "auth=native", plain},
		{"TLS", ca, "irods:", `tls="TLS 1.3"`, secure},
		{"after a login by PAM", ca + `, "irods_authentication_scheme": "PAM"`, "irods:", "auth=native", secure},
		{"resource", `, "irods_default_resource": "resc2"`, "irods:", "resource=resc2", plain},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.iinit(c.zone, password, c.more)
			w.succeeds(w.run("mount", w.point, "a="+c.url))
			w.uses("a")
			w.succeeds(w.run("unmount", w.point))
			if !strings.Contains(w.logs(), c.log) {
				t.Errorf("%s is not in\n%s", c.log, w.logs())
			}
			w.clean()
		})
	}
}

// TestCertificateDirectory trusts what lies in a directory, among other things.
func TestCertificateDirectory(t *testing.T) {
	z := secureZone(t, nil)
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	pem, err := os.ReadFile(z.CAFile())
	dir := filepath.Join(w.dir, "ca")
	if err := errors.Join(err, os.MkdirAll(filepath.Join(dir, "sub"), 0o755)); err != nil {
		t.Fatal(err)
	}
	w.write("ca/note", 0o644, "no certificate")
	w.write("ca/4a6481c9.0", 0o644, string(pem))
	w.succeeds(w.run("mount", "--irods-ca-dir", dir, w.point, "="+collection(z)))
	w.uses("")
	w.succeeds(w.run("unmount", w.point))
	w.fails(w.run("mount", "--irods-ca-dir", dir+"/sub", w.point, "="+collection(z)), exit.TLS, "is not trusted")
	w.fails(w.run("mount", "--irods-ca-dir", dir+"/none", w.point, "="+collection(z)), exit.TLS, "is not trusted")
	w.fails(w.run("mount", "--irods-ca-dir", dir+"/note", w.point, "="+collection(z)), exit.Config, "not a directory")
	w.clean()
}

func TestZoneByPAM(t *testing.T) {
	z := secureZone(t, nil)
	w := newWorld(t)
	secret := w.write("pw", 0o600, "pam-hunter2\n")
	w.succeeds(w.run("mount", "--irods-auth=pam", "--ca-file", z.CAFile(), "--password-file", secret, w.point, "="+collection(z)))
	w.uses("")
	w.succeeds(w.run("unmount", w.point))
	if !strings.Contains(w.logs(), "auth=pam_password") {
		t.Errorf("log:\n%s", w.logs())
	}
	w.clean()
}

// elsewhere makes a zone listen at an address that its certificate does not name.
func elsewhere(o *zone.Options) { o.Addr = "127.0.0.2:0" }

func TestLessVerification(t *testing.T) {
	z := secureZone(t, elsewhere)
	for _, options := range [][]string{{"--irods-verify=cert", "--ca-file", z.CAFile()}, {"--irods-verify=none"}} {
		w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
		w.succeeds(w.run(append(append([]string{"mount"}, options...), w.point, "="+collection(z))...))
		w.uses("")
		w.succeeds(w.run("unmount", w.point))
		w.clean()
	}
}

func TestFilesOfICommandsThatCannotBeUsed(t *testing.T) {
	z := startZone(t, nil)
	w := newWorld(t)
	w.iinit(z, "", "")
	w.fails(w.run("mount", w.point, "a=irods:"), exit.SecretMissing, "no password for user me; use --password-file, --password-command or MESHMOUNT_PASSWORD_A, or run iinit")
	w.iinit(z, "wrong", "")
	w.fails(w.run("mount", w.point, "a=irods:"), exit.AuthFailed, "the server refused the password of me#tempZone; run iinit again")
	stored := filepath.Join(w.dir, ".irods/.irodsA")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(stored, old, old); err != nil {
		t.Fatal(err)
	}
	w.fails(w.run("mount", w.point, "a=irods:"), exit.SecretUnusable, stored+" is not for this user, or was copied or changed; run iinit again")
	if err := os.Chmod(stored, 0o644); err != nil {
		t.Fatal(err)
	}
	w.fails(w.run("mount", w.point, "a=irods:"), exit.SecretUnusable, "run: chmod 600 "+stored)
	w.iinit(z, "", `, "irods_authentication_scheme": "krb"`)
	w.fails(w.run("mount", w.point, "a=irods:"), exit.Config, `"krb" is not supported; native and pam_password are`)
	w.write(".irods/irods_environment.json", 0o600, "{")
	w.fails(w.run("mount", w.point, "a=irods:"), exit.Config, "irods_environment.json is not JSON")
	if err := os.RemoveAll(filepath.Join(w.dir, ".irods")); err != nil {
		t.Fatal(err)
	}
	w.fails(w.run("mount", w.point, "a=irods:"), exit.BadURL, "there is no iRODS environment")
	w.clean()
}

func TestTrashOfAZone(t *testing.T) {
	z := startZone(t, nil)
	for _, c := range []struct {
		options []string
		code    int
	}{{nil, wire.CodeNotExist}, {[]string{"--irods-trash"}, 0}} {
		w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
		w.succeeds(w.run(append(append([]string{"mount"}, c.options...), w.point, "="+collection(z))...))
		w.uses("")
		w.succeeds(w.run("flush", w.point)) // or it never gets to the zone
		if err := os.Remove(filepath.Join(w.point, "file")); err != nil {
			t.Error(err)
		}
		w.succeeds(w.run("unmount", w.point))
		_, err := connect(t, z).Call(t.Context(), &wire.Call{API: wire.APIObjStat, In: &wire.DataObjInp{Path: "/tempZone/trash/home/me/file"}, Out: &wire.RodsObjStat{}})
		if wire.CodeOf(err) != c.code {
			t.Errorf("%q: the trash has %v", c.options, err)
		}
		w.clean()
	}
}

func TestMountHelperOfAZone(t *testing.T) {
	z := startZone(t, nil)
	w := newWorld(t)
	w.iinit(z, password, "")
	for _, source := range []string{"irods:", collection(z)} {
		w.succeeds(w.finish(w.command("mount.meshmount", source, w.point, "-o", "rw,noexec,_netdev,irods_trash,max_connections=2")))
		w.uses("")
		m, _, err := state.FindMount(w.point)
		if err != nil || m.Source != source {
			t.Errorf("%+v, %v: mount(8) would not recognise it", m, err)
		}
		w.succeeds(w.run("unmount", w.point))
	}
	w.clean()
}

func TestDoctorOfZones(t *testing.T) {
	secure, plain := secureZone(t, func(o *zone.Options) { o.NotAfter = time.Now().Add(100 * time.Hour) }), startZone(t, nil)
	w := newWorld(t)
	w.iinit(secure, password, "")
	r := w.run("doctor", "--ca-file=a="+secure.CAFile(), "a=irods:", "b="+strings.Replace(collection(plain), "me@", "you@", 1), "--password-file=b="+w.write("pw", 0o600, "x"), "--max-connections=b=99")
	if r.code != exit.DoctorFailed {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{
		"WARN  a: certificate: of localhost, valid until ", "it expires in 4 days",
		"OK    a: server: iRODS 5.0.2, /tempZone/home/me as me#tempZone", "OK    a: tls: TLS 1.3", "OK    a: credentials: accepted (native)",
		"OK    a: connections: ", "up to 8 at a time", "a: promises: ", "OK    a: access: reading and writing",
		"FAIL  b: server: the zone has no collection /tempZone/home/me that you#tempZone may see",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	r = w.run("doctor", "a="+collection(plain), "--irods-auth-file="+filepath.Join(w.dir, ".irods/.irodsA"), "--max-connections=99")
	w.succeeds(r)
	for _, want := range []string{"OK    a: tls: none: data go unencrypted, within this machine", "WARN  a: connections: ", "use --max-connections=16 or less"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	w.clean()
}

func TestConfigOfZones(t *testing.T) {
	z := startZone(t, nil)
	w := newWorld(t)
	w.iinit(z, password, "")
	r := w.run("config", "a=irods:", "--irods-trash")
	w.succeeds(r)
	file := filepath.Join(w.dir, ".irods/irods_environment.json")
	for _, want := range []string{
		`url = "irods://` + z.Addr() + `/tempZone/home/me"  # command line argument`, `user = "me"  # iRODS environment ` + file, "max-connections = 8  # default",
		"irods-trash = true  # command line --irods-trash", `irods-auth-file = "` + w.dir + `/.irods/.irodsA"  # iRODS environment`,
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
}
