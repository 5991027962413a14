package zone

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// federated starts two zones that know each other, and returns a client of alice's in the
// first one. The second one insists on TLS.
func federated(t *testing.T) (near, far *Zone, alice *client, home string) {
	t.Helper()
	near = start(t, nil)
	far = start(t, func(o *Options) {
		o.Name, o.TLS, o.Policy = "farZone", true, wire.PolicyRequire
		o.Accounts = append(o.Accounts, Account{Name: "alice", Zone: "tempZone"})
	})
	if err := Federate(near, far); err != nil {
		t.Fatal(err)
	}
	return near, far, dial(t, near, "alice", "apass"), "/farZone/home/alice#tempZone"
}

// TestFederation does everything in another zone by path.
func TestFederation(t *testing.T) {
	near, far, c, home := federated(t)
	c.mkdir(home+"/d", 0)
	mine := c.open(near.Home("alice")+"/local", createFlags)
	c.put(home+"/d/f", "content")
	c.write(mine, "here")
	c.close(mine)
	if got := c.get(home + "/d/f"); got != "content" {
		t.Errorf("content %q", got)
	}
	if got := c.stat(home + "/d/f"); got.Size != 7 || got.OwnerName != "alice" || got.OwnerZone != "tempZone" {
		t.Errorf("stat %+v", got)
	}
	in := &wire.DataObjInp{Path: home + "/d/put", DataSize: 3, Cond: wire.KeyValPair{{Key: wire.KwDataIncluded}, {Key: wire.KwVerifyChecksum, Value: sha2("put")}}}
	c.call(&wire.Call{API: wire.APIDataObjPut, In: in, Data: []byte("put")}, 0)
	into := make([]byte, 10)
	if n := c.call(&wire.Call{API: wire.APIDataObjGet, In: &wire.DataObjInp{Path: home + "/d/put"}, Out: &wire.PortalOprOut{}, Into: into}, 0).N; string(into[:n]) != "put" {
		t.Errorf("get %q", into[:n])
	}
	c.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: home + "/d/put"}, Dst: wire.DataObjInp{Path: home + "/g"}}, 0)
	c.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: home + "/g"}, Dst: wire.DataObjInp{Path: near.Home("alice") + "/g"}}, int(otherZone))
	c.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: near.Home("alice") + "/local"}, Dst: wire.DataObjInp{Path: home + "/l"}}, int(otherZone))
	c.do(wire.APIDataObjCopy, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: home + "/g"}, Dst: wire.DataObjInp{Path: near.Home("alice") + "/g"}}, int(crossZoneCopy))
	c.json(wire.APITouch, map[string]any{"logical_path": home + "/g", "options": map[string]any{"seconds_since_epoch": 5}}, 0)
	c.do(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: [10]string{"add", "-d", home + "/g", "a", "v"}}, 0)
	c.json(wire.APIAtomicMetadata, map[string]any{"entity_name": home + "/g", "entity_type": "data_object"}, wire.CodeNoAccess)
	c.json(wire.APIAtomicMetadata, map[string]any{"entity_name": home + "/x", "entity_type": "data_object"}, wire.CodeInvalidInput)
	c.do(wire.APIReplicaTruncate, &wire.DataObjInp{Path: home + "/g", DataSize: 1}, 0)
	if got := c.stat(home + "/g"); got.Size != 1 {
		t.Errorf("stat %+v", got)
	}
	rows := c.query([]int{wire.ColDataName, wire.ColMetaDataName, wire.ColDataOwnerZone}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(home)})
	if fmt.Sprint(rows) != "[[g a tempZone]]" {
		t.Error(rows)
	}
	c.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: home + "/g"}, 0)
	c.stat("/farZone/trash/home/alice#tempZone/g")
	for i := range 12 {
		c.put(fmt.Sprintf("%s/d/f%d", home, i), "")
	}
	progress := 0
	rm := &wire.CollInp{Name: home + "/d", Cond: wire.KeyValPair{{Key: wire.KwRecursive}, {Key: wire.KwForce}}}
	c.call(&wire.Call{API: wire.APIRmColl, In: rm, OnProgress: func(wire.CollOprStat) { progress++ }}, 0)
	if progress != 0 {
		t.Error("the other zone's progress is passed on")
	}
	c.do(wire.APIObjStat, &wire.DataObjInp{Path: home + "/d"}, wire.CodeNotExist)
	if got := c.get(near.Home("alice") + "/local"); got != "here" {
		t.Errorf("local content %q", got)
	}
	if near.Calls()[wire.APIDataObjOpen] <= far.Calls()[wire.APIDataObjOpen] || far.Calls()[wire.APIDataObjOpen] == 0 {
		t.Errorf("opens: %d and %d", near.Calls()[wire.APIDataObjOpen], far.Calls()[wire.APIDataObjOpen])
	}
}

// TestFederationParallel writes with two connections by token in another zone, and loses
// one of them.
func TestFederationParallel(t *testing.T) {
	near, far, first, home := federated(t)
	second := dial(t, near, "alice", "apass")
	fd := first.open(home+"/big", createFlags)
	token, hier := first.token(fd)
	fd2 := second.open(home+"/big", wire.OpenReadWrite, wire.Pair{Key: wire.KwReplicaToken, Value: token}, wire.Pair{Key: wire.KwRescHier, Value: hier})
	second.seek(fd2, 5, 0)
	second.write(fd2, "world")
	second.json(wire.APIReplicaClose, map[string]any{"fd": fd2, "update_size": false, "update_status": false}, 0)
	second.json(wire.APIReplicaClose, map[string]any{"fd": fd2}, int(descClosed))
	first.write(fd, "hello")
	first.close(fd)
	if got := second.get(home + "/big"); got != "helloworld" {
		t.Errorf("content %q", got)
	}
	first.open(home+"/big", wire.OpenWriteOnly)
	second.openFails(home+"/big", wire.OpenReadOnly, wire.CodeHierarchy)
	_ = first.Close()
	waitFor(t, func() bool { return far.Agents() == 1 })
	if got := second.query([]int{wire.ColReplStatus}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(home)}); fmt.Sprint(got) != "[[0]]" {
		t.Errorf("status %v after the writer's death", got)
	}
	far.KillAgents()
	if _, err := second.Call(t.Context(), &wire.Call{API: wire.APIObjStat, In: &wire.DataObjInp{Path: home}}); wire.CodeOf(err) != wire.CodeHeaderLength {
		t.Errorf("after the death of the far agent: %v", err)
	}
	second.stat(home) // a new one
}

// TestFederationAccess checks what people of another zone may do, and what happens if the
// zone is unknown, or the user to it, or it is away.
func TestFederationAccess(t *testing.T) {
	near, far, alice, home := federated(t)
	rods := dial(t, near, "rods", "rods")
	rods.do(wire.APIObjStat, &wire.DataObjInp{Path: home}, wire.CodeUnknownUser)
	local, err := wire.Dial(t.Context(), configFor(t, far, "alice", "apass"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = local.Close() }()
	namesake := &client{t, local}
	namesake.do(wire.APIObjStat, &wire.DataObjInp{Path: home}, wire.CodeNotExist)
	alice.put(home+"/f", "x")
	grant := &wire.ModAccessControlInp{Level: "read", User: "alice", Zone: "farZone", Path: home}
	alice.do(wire.APIModAccessControl, grant, 0)
	namesake.stat(home)
	grant.Path = home + "/f"
	alice.do(wire.APIModAccessControl, grant, 0)
	if got := namesake.get(home + "/f"); got != "x" {
		t.Errorf("content %q", got)
	}
	namesake.openFails(home+"/f", wire.OpenWriteOnly, wire.CodeNoAccess)
	rows := namesake.query([]int{wire.ColUserName, wire.ColUserZone}, wire.Where{Column: wire.ColUserName, Cond: wire.Equal("alice")})
	if fmt.Sprint(rows) != "[[alice farZone] [alice tempZone]]" {
		t.Error(rows)
	}
	for zone, want := range map[string]int{"noZone": wire.CodeInvalidZone, "farZone": 0, "tempZone": 0, "": 0} {
		in := (&wire.GenQueryInp{MaxRows: 5, Cond: wire.KeyValPair{{Key: wire.KwZone, Value: zone}}}).Select(wire.ColZoneName)
		alice.do(wire.APIGenQuery, in, want)
	}
	alice.do(wire.APIGenQuery2, &wire.Genquery2Inp{Query: "select COLL_NAME", Zone: "farZone"}, 0)
	alice.do(wire.APIObjStat, &wire.DataObjInp{Path: "/noZone/home"}, wire.CodeNotExist)
	if rows := alice.query([]int{wire.ColCollName}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal("/noZone/home")}); len(rows) != 0 {
		t.Error(rows)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	alice.do(wire.APIObjStat, &wire.DataObjInp{Path: home}, wire.CodeHeaderLength)
	alice.do(wire.APIObjStat, &wire.DataObjInp{Path: home}, int(crossZoneConnect))
	alice.stat(near.Home("alice"))
	if err := Federate(near, near); err == nil || !strings.Contains(err.Error(), "tempZone") {
		t.Errorf("a zone federated with itself: %v", err)
	}
}

// TestServerLogin tries to log in as another zone's server.
func TestServerLogin(t *testing.T) {
	near, far, _, _ := federated(t)
	for _, password := range []string{"", "wrong"} {
		cfg := configFor(t, far, "alice", password)
		cfg.Zone, cfg.ProxyUser, cfg.ProxyZone = near.Name(), near.Name()+serverSuffix, near.Name()
		if _, err := wire.Dial(t.Context(), cfg); wire.CodeOf(err) != wire.CodeWrongPassword {
			t.Errorf("password %q: %v", password, err)
		}
		cfg.Zone = far.Name()
		if _, err := wire.Dial(t.Context(), cfg); wire.CodeOf(err) != wire.CodeUnknownUser {
			t.Errorf("as a user of the zone itself: %v", err)
		}
	}
	cfg := configFor(t, far, "alice", "")
	cfg.Zone = near.Name()
	if _, err := wire.Dial(t.Context(), cfg); wire.CodeOf(err) != wire.CodeUnknownUser {
		t.Errorf("directly from the other zone: %v", err)
	}
}
