package zone

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// shared makes a collection of rods in which alice has the level, with an object on which
// she has the other level.
func shared(t *testing.T, z *Zone, coll, object string) (alice *client, dir string) {
	t.Helper()
	rods := dial(t, z, "rods", "rods")
	dir = z.Home("rods") + "/shared"
	rods.mkdir(dir, 0)
	rods.grant("read", "alice", z.Home("rods"), 0)
	rods.put(dir+"/f", "content")
	rods.grant(coll, "alice", dir, 0)
	rods.grant(object, "alice", dir+"/f", 0)
	return dial(t, z, "alice", "apass"), dir
}

// TestRights tries everything that changes something, with each level of permission, and
// checks which level it takes.
func TestRights(t *testing.T) {
	all := []string{"read_object", "create_metadata", "modify_metadata", "delete_metadata", "create_object", "modify_object", "delete_object", "own"}
	force := wire.KeyValPair{{Key: wire.KwForce}}
	for what, x := range map[string]struct {
		coll, object string // the least levels that do
		do           func(c *client, dir string) error
	}{
		"open for writing": {"read_object", "modify_object", func(c *client, dir string) error {
			return c.try(wire.APIDataObjOpen, &wire.DataObjInp{Path: dir + "/f", OpenFlags: wire.OpenWriteOnly})
		}},
		"create": {"modify_object", "read_object", func(c *client, dir string) error {
			return c.try(wire.APIDataObjOpen, &wire.DataObjInp{Path: dir + "/g", OpenFlags: createFlags})
		}},
		"mkdir": {"modify_object", "read_object", func(c *client, dir string) error {
			return c.try(wire.APICollCreate, &wire.CollInp{Name: dir + "/g"})
		}},
		"unlink for good": {"read_object", "delete_object", func(c *client, dir string) error {
			return c.try(wire.APIDataObjUnlink, &wire.DataObjInp{Path: dir + "/f", Cond: force})
		}},
		"unlink": {"read_object", "own", func(c *client, dir string) error {
			return c.try(wire.APIDataObjUnlink, &wire.DataObjInp{Path: dir + "/f"})
		}},
		"rename": {"read_object", "own", func(c *client, dir string) error {
			return c.try(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: dir + "/f"}, Dst: wire.DataObjInp{Path: dir + "/g"}})
		}},
		"touch": {"read_object", "modify_metadata", func(c *client, dir string) error {
			return c.tryJSON(wire.APITouch, map[string]any{"logical_path": dir + "/f"})
		}},
		"touch collection": {"modify_object", "read_object", func(c *client, dir string) error {
			return c.tryJSON(wire.APITouch, map[string]any{"logical_path": dir})
		}},
		"add metadata": {"read_object", "create_metadata", func(c *client, dir string) error {
			return c.try(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: [10]string{"add", "-d", dir + "/f", "a", "v"}})
		}},
		"set metadata": {"read_object", "create_metadata", func(c *client, dir string) error {
			return c.try(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: [10]string{"set", "-d", dir + "/f", "a", "v"}})
		}},
		"add metadata to collection": {"create_metadata", "read_object", func(c *client, dir string) error {
			return c.try(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: [10]string{"add", "-C", dir, "a", "v"}})
		}},
		"atomic metadata": {"read_object", "modify_object", func(c *client, dir string) error {
			return c.tryJSON(wire.APIAtomicMetadata, map[string]any{"entity_name": dir + "/f", "entity_type": "data_object", "operations": []any{
				map[string]string{"operation": "add", "attribute": "a", "value": "v"}}})
		}},
		"permissions": {"read_object", "own", func(c *client, dir string) error {
			return c.try(wire.APIModAccessControl, &wire.ModAccessControlInp{Level: "read", User: "public", Path: dir + "/f"})
		}},
	} {
		t.Run(what, func(t *testing.T) {
			for _, higher := range []bool{false, true} {
				for _, objects := range []bool{false, true} {
					coll, object := x.coll, x.object
					switch i := indexOf(all, x.object); {
					case higher:
						coll, object = "own", "own"
					case objects && i > 0:
						object = all[i-1]
					case !objects && indexOf(all, x.coll) > 0:
						coll = all[indexOf(all, x.coll)-1]
					}
					alice, dir := shared(t, start(t, nil), coll, object)
					err := x.do(alice, dir)
					fits := indexOf(all, coll) >= indexOf(all, x.coll) && indexOf(all, object) >= indexOf(all, x.object)
					if fits && err != nil || !fits && wire.CodeOf(err) != wire.CodeNoAccess {
						t.Errorf("collection %s, object %s: %v", coll, object, err)
					}
				}
			}
		})
	}
}

func indexOf(all []string, one string) int {
	for i, s := range all {
		if s == one {
			return i
		}
	}
	return -1
}

func (c *client) try(api int, in wire.Message) error {
	_, err := c.Call(c.t.Context(), &wire.Call{API: api, In: in})
	return err
}

func (c *client) tryJSON(api int, in any) error {
	m, err := wire.NewJSON(in)
	if err != nil {
		return err
	}
	return c.try(api, m)
}

// TestRemoveWhatMayBeRemoved takes a tree apart of which one object may not be removed:
// all others go.
func TestRemoveWhatMayBeRemoved(t *testing.T) {
	z := start(t, nil)
	rods := dial(t, z, "rods", "rods")
	top := z.Home("rods") + "/top"
	rods.grant("own", "alice", z.Home("rods"), 0)
	rods.mkdir(top, 0)
	rods.mkdir(top+"/a", 0)
	rods.mkdir(top+"/b", 0)
	for _, name := range []string{"/f", "/a/f", "/a/keep", "/b/f", "/z"} {
		rods.put(top+name, "x")
	}
	rods.do(wire.APIModAccessControl, &wire.ModAccessControlInp{Recursive: 1, Level: "own", User: "alice", Path: top}, 0)
	rods.grant("read", "alice", top+"/a/keep", 0)
	alice := dial(t, z, "alice", "apass")
	in := &wire.CollInp{Name: top, Cond: wire.KeyValPair{{Key: wire.KwRecursive}}}
	alice.do(wire.APIRmColl, in, wire.CodeNoAccess) // as a whole, or not at all
	in.Cond = append(in.Cond, wire.Pair{Key: wire.KwForce})
	alice.do(wire.APIRmColl, in, wire.CodeCollectionNotEmpty)
	rows := rods.query([]int{wire.ColCollName, wire.ColDataName}, wire.Where{Column: wire.ColCollName, Cond: wire.Like(top + "%")})
	if got := fmt.Sprint(rows); got != "[["+top+"/a keep]]" {
		t.Error(got)
	}
}

// TestRenameTimes checks what a rename does to the modify times.
func TestRenameTimes(t *testing.T) {
	when := &clock{}
	z := start(t, func(o *Options) { o.Now = when.Now })
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	when.set(100)
	c.mkdir(home+"/a", 0)
	c.mkdir(home+"/b", 0)
	c.put(home+"/a/f", "x")
	rename := func(from, to string) {
		t.Helper()
		c.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: home + from}, Dst: wire.DataObjInp{Path: home + to}}, 0)
	}
	times := func(paths ...string) string {
		text := ""
		for _, p := range paths {
			text += " " + strings.TrimLeft(c.stat(home+p).ModifyTime, "0")
		}
		return text
	}
	when.set(200)
	rename("/a/f", "/a/g")
	if got := times("/a/g", "/a", "/b"); got != " 100 200 100" {
		t.Errorf("within a collection:%s", got)
	}
	when.set(300)
	rename("/a/g", "/b/g")
	if got := times("/b/g", "/a", "/b"); got != " 300 300 300" {
		t.Errorf("to another collection:%s", got)
	}
	c.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: home + "/b/g"}, Dst: wire.DataObjInp{Path: "/other/home/g"}}, int(otherZone))
}

// TestForcedRenameLosesBoth shows that a forced rename of what one does not own removes
// the destination and then fails, as by the server's source.
func TestForcedRenameLosesBoth(t *testing.T) {
	z := start(t, nil)
	alice, dir := shared(t, z, "own", "delete_object")
	alice.put(dir+"/old", "mine")
	force := wire.KeyValPair{{Key: wire.KwForce}}
	alice.do(wire.APIDataObjRename, &wire.DataObjCopyInp{
		Src: wire.DataObjInp{Path: dir + "/f", Cond: force}, Dst: wire.DataObjInp{Path: dir + "/old", Cond: force},
	}, wire.CodeNoAccess)
	alice.do(wire.APIObjStat, &wire.DataObjInp{Path: dir + "/old"}, wire.CodeNotExist)
	if got := alice.get(dir + "/f"); got != "content" {
		t.Errorf("content %q", got)
	}
}

// TestJoins asks for columns of several tables.
func TestJoins(t *testing.T) {
	z := start(t, func(o *Options) { o.FreeSpace = map[string]int64{"resc2": 1 << 40} })
	rods := dial(t, z, "rods", "rods")
	alice, dir := shared(t, z, "read", "read")
	rods.put(dir+"/hidden", "x")
	rods.mkdir(dir+"/sub", 0)
	for _, args := range [][10]string{{"add", "-d", dir + "/f", "a", "1", "u"}, {"add", "-d", dir + "/f", "b", "2"}, {"add", "-C", dir, "c", "3"}, {"add", "-C", dir + "/sub", "d", "4"}} {
		rods.do(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: args}, 0)
	}
	ids := map[string]string{}
	for _, r := range rods.query([]int{wire.ColUserName, wire.ColUserID}) {
		ids[r[0]] = r[1]
	}
	in, own, read := wire.Where{Column: wire.ColCollName, Cond: wire.Equal(dir)}, "1200", "1050"
	for i, x := range []struct {
		c       *client
		columns []int
		where   wire.Where
		want    string
	}{
		{rods, []int{wire.ColDataName, wire.ColDataAccessType, wire.ColDataAccessUserID}, in,
			fmt.Sprint([][]string{{"f", read, ids["alice"]}, {"f", own, ids["rods"]}, {"hidden", own, ids["rods"]}})},
		{alice, []int{wire.ColDataName, wire.ColDataAccessType, wire.ColDataAccessUserID}, in,
			fmt.Sprint([][]string{{"f", read, ids["alice"]}, {"f", own, ids["rods"]}})},
		{rods, []int{wire.ColCollName, wire.ColCollAccessType, wire.ColCollAccessUserID}, in,
			fmt.Sprint([][]string{{dir, read, ids["alice"]}, {dir, own, ids["rods"]}})},
		{alice, []int{wire.ColCollName}, wire.Where{Column: wire.ColCollParentName, Cond: wire.Equal(dir)}, "[]"},
		{rods, []int{wire.ColCollName}, wire.Where{Column: wire.ColCollParentName, Cond: wire.Equal(dir)}, "[[" + dir + "/sub]]"},
		{alice, []int{wire.ColDataName, wire.ColMetaDataName, wire.ColMetaDataValue, wire.ColMetaDataUnits}, in, "[[f a 1 u] [f b 2 ]]"},
		{rods, []int{wire.ColCollName, wire.ColMetaCollName}, wire.Where{Column: wire.ColCollParentName, Cond: wire.Equal(dir)}, "[[" + dir + "/sub d]]"},
		{rods, []int{wire.ColMetaDataName}, wire.Where{Column: wire.ColCollParentName, Cond: wire.Equal(z.Home("rods"))}, "[[a] [b]]"},
		{rods, []int{wire.ColDataName, wire.ColMetaCollValue}, in, "[[f 3] [hidden 3]]"},
		{alice, []int{wire.ColUserGroupName}, wire.Where{Column: wire.ColUserName, Cond: wire.Equal("alice")}, "[[alice] [lab] [public]]"},
		{alice, []int{wire.ColUserZone, wire.ColUserGroupID}, wire.Where{Column: wire.ColUserName, Cond: wire.Equal("rods")},
			fmt.Sprint([][]string{{"tempZone", ids["public"]}, {"tempZone", ids["rods"]}})},
		{alice, []int{wire.ColRescName, wire.ColRescLocation, wire.ColRescFreeSpace}, wire.Where{Column: wire.ColRescName, Cond: wire.Like("%")},
			"[[demoResc localhost ] [resc2 localhost 1099511627776]]"},
	} {
		if got := fmt.Sprint(x.c.query(x.columns, x.where)); got != x.want {
			t.Errorf("query %d: %s, want %s", i, got, x.want)
		}
	}
}

// TestManyRows gets 5,000 rows in one page, in order, and counts them.
func TestManyRows(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	o := z.cat.objs[number(func() string { c.put(z.Home("rods")+"/f", "x"); return c.stat(z.Home("rods") + "/f").ID }())]
	z.mu.Lock()
	for i := range 5000 {
		o.AVUs = append(o.AVUs, avu{ID: z.cat.newID(), Name: "n" + strconv.Itoa(i), Value: "v"})
	}
	z.mu.Unlock()
	var out wire.GenQueryOut
	in := (&wire.GenQueryInp{MaxRows: 5000}).Select(wire.ColDataName, wire.ColMetaDataName)
	in.Selects[1].Option = wire.OrderByDesc | 1
	c.call(&wire.Call{API: wire.APIGenQuery, In: in, Out: &out}, 0)
	if out.Rows != 5000 || out.Value(wire.ColMetaDataName, 0) != "n999" || out.Continue == 0 {
		t.Errorf("%d rows from %s on, continue %d", out.Rows, out.Value(wire.ColMetaDataName, 0), out.Continue)
	}
	in = &wire.GenQueryInp{MaxRows: 10, Selects: []wire.Select{{Column: wire.ColDataName, Option: 1}, {Column: wire.ColMetaDataID, Option: wire.SelectCount}}}
	c.call(&wire.Call{API: wire.APIGenQuery, In: in, Out: &out}, 0)
	if out.Rows != 1 || out.Value(wire.ColMetaDataID, 0) != "5000" {
		t.Errorf("count %+v", out)
	}
}

// TestAtomicMetadataFailures checks the codes and what is said of the failure.
func TestAtomicMetadataFailures(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	f := z.Home("rods") + "/f"
	c.put(f, "")
	for i, x := range []struct {
		in          map[string]any
		want, index int
	}{
		{map[string]any{"entity_name": f + "x", "entity_type": "data_object"}, wire.CodeInvalidInput, 0},
		{map[string]any{"entity_name": f, "entity_type": "collection"}, wire.CodeInvalidInput, 0},
		{map[string]any{"entity_name": f, "entity_type": "thing"}, wire.CodeInvalidInput, 0},
		{map[string]any{"operations": []any{map[string]any{"operation": "add", "attribute": "a", "value": "v"}, map[string]any{"operation": "add", "attribute": "a"}}}, int(badJSON), 1},
		{map[string]any{"operations": []any{map[string]any{"operation": "add", "attribute": "a", "value": ""}}}, wire.CodeInvalidInput, 0},
		{map[string]any{"operations": []any{map[string]any{"operation": "sing", "attribute": "a", "value": "v"}}}, int(badOperation), 0},
	} {
		if x.in["entity_name"] == nil {
			x.in["entity_name"], x.in["entity_type"] = f, "data_object"
		}
		m, err := wire.NewJSON(x.in)
		if err != nil {
			t.Fatal(err)
		}
		var out wire.BinBytesBuf
		var said struct {
			Index   *int   `json:"operation_index"`
			Message string `json:"error_message"`
		}
		c.call(&wire.Call{API: wire.APIAtomicMetadata, In: m, Out: &out}, x.want)
		if err := out.JSON(&said); err != nil || said.Index == nil || *said.Index != x.index || said.Message == "" {
			t.Errorf("case %d: %s, %v", i, out.Data, err)
		}
	}
	if rows := c.query([]int{wire.ColMetaDataName}, wire.Where{Column: wire.ColDataName, Cond: wire.Equal("f")}); len(rows) != 0 {
		t.Errorf("metadata %v", rows)
	}
}

// TestTouchOptions checks which replica is touched and what is refused.
func TestTouchOptions(t *testing.T) {
	when := &clock{}
	z := start(t, func(o *Options) { o.Now = when.Now })
	c := dial(t, z, "rods", "rods")
	when.set(100)
	path := z.Home("rods") + "/f"
	c.twoReplicas(path, true)
	for i, x := range []struct {
		options map[string]any
		want    int
		then    string
	}{
		{map[string]any{"seconds_since_epoch": 7}, 0, "0 5 100 S, 1 5 7 S"},
		{map[string]any{"seconds_since_epoch": 8, "replica_number": 0}, 0, "0 5 8 S, 1 5 7 S"},
		{map[string]any{"seconds_since_epoch": 9, "leaf_resource_name": "resc2"}, 0, "0 5 8 S, 1 5 9 S"},
		{map[string]any{"replica_number": 3}, wire.CodeNoSuchReplica, ""},
		{map[string]any{"replica_number": 0, "leaf_resource_name": "resc2"}, int(incompatible), ""},
		{map[string]any{"seconds_since_epoch": -1}, int(notFormed), ""},
		{map[string]any{"reference": path, "seconds_since_epoch": 1}, int(incompatible), ""},
		{map[string]any{"reference": path, "replica_number": 0}, 0, "0 5 9 S, 1 5 9 S"},
	} {
		c.json(wire.APITouch, map[string]any{"logical_path": path, "options": x.options}, x.want)
		if got := c.shape("f"); x.then != "" && got != x.then {
			t.Errorf("case %d: %s, want %s", i, got, x.then)
		}
	}
	c.open(path, wire.OpenWriteOnly)
	c.json(wire.APITouch, map[string]any{"logical_path": path}, wire.CodeNoGoodReplica) // it is being written
}
