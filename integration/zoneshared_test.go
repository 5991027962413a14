package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// TestZonePermissions works on what others own: modes show what one may do, and
// the rest is EACCES.
func TestZonePermissions(t *testing.T) {
	t.Parallel()
	b := startDeviant(t)
	bob, home := b.client("bob"), b.Home("bob")
	bob.must(wire.APICollCreate, &wire.CollInp{Name: home + "/d"})
	for _, name := range []string{"readable", "writable", "hidden"} {
		in := &wire.DataObjInp{Path: home + "/d/" + name, CreateMode: 0o644, OpenFlags: wire.OpenReadWrite | wire.OpenCreate}
		fd := bob.must(wire.APIDataObjOpen, in)
		if _, err := bob.call(wire.APIDataObjWrite, &wire.OpenedDataObjInp{Desc: fd, Len: 5}, []byte("bob's")); err != nil {
			t.Fatal(err)
		}
		bob.must(wire.APIDataObjClose, &wire.OpenedDataObjInp{Desc: fd})
	}
	for path, level := range map[string]string{"": "read", "/d": "read", "/d/readable": "read", "/d/writable": "write"} {
		bob.must(wire.APIModAccessControl, &wire.ModAccessControlInp{Level: level, User: "alice", Zone: b.Name(), Path: home + path})
	}
	m := harness.Mounting(t, []string{"MESHMOUNT_PASSWORD_A=" + zoneSecret}, "a=irods://alice@"+b.Addr()+home+"/d")
	dir := filepath.Join(m.Dir, "a")
	if got := strings.Join(listNames(t, dir), " "); got != "readable writable" {
		t.Errorf("listed %s", got)
	}
	for name, want := range map[string]os.FileMode{"readable": 0o444, "writable": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != "bob's" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o555 {
		t.Errorf("the collection: %v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "writable"), []byte("alice's"), 0o644); err != nil {
		t.Error(err)
	}
	wantErrno(t, "overwrite", os.WriteFile(filepath.Join(dir, "readable"), []byte("x"), 0o644), syscall.EACCES)
	wantErrno(t, "remove", os.Remove(filepath.Join(dir, "writable")), syscall.EACCES)
	wantErrno(t, "rename", os.Rename(filepath.Join(dir, "writable"), filepath.Join(dir, "x")), syscall.EACCES)
	wantErrno(t, "mkdir", os.Mkdir(filepath.Join(dir, "x"), 0o755), syscall.EACCES)
	if _, err := os.Stat(filepath.Join(dir, "hidden")); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("what the zone does not let alice see: %v", err)
	}
}

// TestZoneReplicas looks at an object with two replicas, and at one of which the first is
// stale: the good one is read, and both are told.
func TestZoneReplicas(t *testing.T) {
	t.Parallel()
	b := startDeviant(t)
	m, dir := b.mount()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	alice := b.client("alice")
	alice.must(wire.APIDataObjRepl, &wire.DataObjInp{Path: b.home + "/f", Cond: wire.KeyValPair{{Key: wire.KwDestRescName, Value: "resc2"}}})
	attribute := func(name string) string {
		return harness.Run(t, dir, "getfattr", "-n", "user.meshmount."+name, "--only-values", "f")
	}
	if got := attribute("locations"); got != "0 demoResc good localhost\n1 resc2 good localhost" {
		t.Errorf("locations %q", got)
	}
	if got := attribute("checksum"); !strings.Contains(got, "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1") {
		t.Errorf("checksum %q", got)
	}
	second := wire.KeyValPair{{Key: wire.KwRescName, Value: "resc2"}}
	fd := alice.must(wire.APIDataObjOpen, &wire.DataObjInp{Path: b.home + "/f", OpenFlags: wire.OpenReadWrite, Cond: second})
	if _, err := alice.call(wire.APIDataObjWrite, &wire.OpenedDataObjInp{Desc: fd, Len: 4}, []byte("TEXT")); err != nil {
		t.Fatal(err)
	}
	alice.must(wire.APIDataObjClose, &wire.OpenedDataObjInp{Desc: fd})
	if text, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(text) != "TEXT" {
		t.Errorf("read %q, %v", text, err)
	}
	if got := attribute("locations"); got != "0 demoResc stale localhost\n1 resc2 good localhost" {
		t.Errorf("locations %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("mine"), 0o644); err != nil {
		t.Error(err)
	}
	if got := attribute("locations"); strings.Count(got, "good") != 1 || strings.Count(got, "stale") != 1 {
		t.Errorf("locations after writing %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(text) != "mine" {
		t.Errorf("read %q, %v", text, err)
	}
	m.MustUnmount(t)
}

// TestZoneFederation mounts a collection of another zone through one's own.
func TestZoneFederation(t *testing.T) {
	t.Parallel()
	near := startZone(t, zone.Options{})
	far, err := zone.Start(zone.Options{Dir: t.TempDir(), Name: "farZone", Accounts: []zone.Account{
		{Name: "rods", Password: "rods", Admin: true}, {Name: "alice", Zone: near.Name()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := far.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := zone.Federate(near, far); err != nil {
		t.Fatal(err)
	}
	m := harness.Mounting(t, []string{"MESHMOUNT_PASSWORD_A=" + zoneSecret},
		"a=irods://alice%23"+near.Name()+"@"+near.Addr()+"/farZone/home/alice%23"+near.Name())
	useZone(t, filepath.Join(m.Dir, "a"))
	crossTree(t, filepath.Join(m.Dir, "a"))
	want := scan(t, filepath.Join(m.Dir, "a"))
	m.MustUnmount(t)
	m = harness.Mounting(t, []string{"MESHMOUNT_PASSWORD_A=" + zoneSecret},
		"a=irods://alice%23"+near.Name()+"@"+near.Addr()+"/farZone/home/alice%23"+near.Name())
	compareFacts(t, "after a fresh mount", want, scan(t, filepath.Join(m.Dir, "a")))
	harness.Shell(t, filepath.Join(m.Dir, "a"), `mv tree tree2; cp -a tree2 tree3; rm -r tree2; [ "$(./tree3/run.sh)" = run ]
		setfattr -n user.irods.colour -v blue tree3/run.sh
		setfattr -n user.irods.colour -v red tree3/run.sh
		[ "$(getfattr --only-values -n user.irods.colour tree3/run.sh)" = red ]
		setfattr -x user.irods.colour tree3/run.sh
		! getfattr -n user.irods.colour tree3/run.sh 2>/dev/null`)
	m.MustUnmount(t)
	if n := far.Calls()[wire.APIDataObjPut] + far.Calls()[wire.APIDataObjOpen]; n < 10 {
		t.Errorf("the other zone has seen %v", far.Calls())
	}
}
