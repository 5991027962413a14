package zone

import (
	"fmt"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

func (c *client) grant(level, user, path string, want int) {
	c.t.Helper()
	c.do(wire.APIModAccessControl, &wire.ModAccessControlInp{Level: level, User: user, Zone: "tempZone", Path: path}, want)
}

// TestAccess checks what a user without permissions can see and do, and what each
// level adds.
func TestAccess(t *testing.T) {
	z := start(t, nil)
	c, alice := dial(t, z, "rods", "rods"), dial(t, z, "alice", "apass")
	d := z.Home("rods") + "/d"
	f := d + "/f"
	c.mkdir(d, 0)
	c.put(f, "secret")
	c.grant("read", "alice", f, 0)
	// The object alone is not enough.
	alice.openFails(f, wire.OpenReadOnly, openNone)
	alice.do(wire.APIObjStat, &wire.DataObjInp{Path: f}, wire.CodeNotExist)
	alice.mkdir(d+"/x", wire.CodeNoAccess)
	c.grant("read", "lab", d, 0) // through a group
	if got := alice.get(f); got != "secret" {
		t.Errorf("content %q", got)
	}
	alice.openFails(f, wire.OpenWriteOnly, wire.CodeNoAccess)
	alice.openFails(d+"/new", createFlags, wire.CodeNoAccess)
	alice.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: f}, wire.CodeNoAccess)
	alice.grant("own", "alice", f, wire.CodeNoAccess)
	alice.grant("admin:own", "alice", f, wire.CodeNoAccess)
	alice.do(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: [10]string{"add", "-d", f, "a", "b"}}, wire.CodeNoAccess)
	c.grant("write", "alice", f, 0)
	alice.close(alice.open(f, wire.OpenWriteOnly))
	alice.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: f}, wire.CodeNoAccess)
	c.grant("write", "alice", d, 0)
	alice.put(d+"/new", "hers")
	c.openFails(d+"/new", wire.OpenReadOnly, wire.CodeNoAccess) // administrators see it, no more
	c.grant("admin:own", "rods", d+"/new", 0)
	c.grant("null", "lab", d, 0)
	c.grant("null", "alice", d, 0)
	alice.openFails(f, wire.OpenReadOnly, openNone)
	c.grant("nonsense", "alice", d, wire.CodeInvalidArgument)
	c.grant("read", "nobody", d, wire.CodeUnknownUser)
	c.grant("read", "alice", d+"/none", wire.CodeInvalidArgument)
}

// TestInheritance checks that new entries get the permissions of the collection.
func TestInheritance(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	d := z.Home("rods") + "/d"
	c.mkdir(d, 0)
	c.put(d+"/before", "")
	c.grant("read", "alice", d, 0)
	c.grant("inherit", "", d, 0)
	c.put(d+"/after", "")
	c.mkdir(d+"/sub", 0)
	rows := c.query([]int{wire.ColDataName, wire.ColDataAccessUserName, wire.ColDataAccessName}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(d)})
	if got := fmt.Sprint(rows); got != "[[after alice read_object] [after rods own] [before rods own]]" {
		t.Error(got)
	}
	rows = c.query([]int{wire.ColCollInheritance, wire.ColCollAccessUserName}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(d + "/sub")})
	if got := fmt.Sprint(rows); got != "[[1 alice] [1 rods]]" {
		t.Error(got)
	}
	c.do(wire.APIModAccessControl, &wire.ModAccessControlInp{Recursive: 1, Level: "write", User: "alice", Path: d}, 0)
	rows = c.query([]int{wire.ColDataName}, wire.Where{Column: wire.ColDataAccessUserName, Cond: wire.Equal("alice")},
		wire.Where{Column: wire.ColDataAccessName, Cond: wire.Equal("modify_object")})
	if len(rows) != 2 {
		t.Error(rows)
	}
	c.json(wire.APIAtomicACL, map[string]any{"logical_path": d, "operations": []map[string]string{
		{"entity_name": "alice", "acl": "null"}, {"entity_name": "lab", "acl": "read_object"},
	}}, 0)
	rows = c.query([]int{wire.ColCollAccessUserName}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(d)})
	if got := fmt.Sprint(rows); got != "[[alice] [lab] [rods]]" { // the names are those of members
		t.Error(got)
	}
	c.json(wire.APIAtomicACL, map[string]any{"logical_path": d, "operations": []map[string]string{{"entity_name": "nobody", "acl": "own"}}}, wire.CodeInvalidInput)
}

// TestMetadata runs the commands on metadata.
func TestMetadata(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	f := z.Home("rods") + "/f"
	c.put(f, "")
	avu := func(want int, args ...string) {
		t.Helper()
		in := &wire.ModAVUMetadataInp{}
		copy(in.Args[:], args)
		c.do(wire.APIModAVUMetadata, in, want)
	}
	check := func(want string) {
		t.Helper()
		rows := c.query([]int{wire.ColMetaDataName, wire.ColMetaDataValue, wire.ColMetaDataUnits}, wire.Where{Column: wire.ColDataName, Cond: wire.Equal("f")})
		if got := fmt.Sprint(rows); got != want {
			t.Errorf("metadata %s, want %s", got, want)
		}
	}
	avu(0, "add", "-d", f, "a", "1", "u")
	avu(0, "add", "-d", f, "a", "2")
	avu(wire.CodeExists, "add", "-d", f, "a", "2")
	check("[[a 1 u] [a 2 ]]")
	avu(0, "set", "-d", f, "a", "3", "w")
	check("[[a 3 w]]")
	avu(0, "mod", "-d", f, "a", "3", "w", "n:b", "v:4", "u:")
	check("[[b 4 ]]")
	avu(wire.CodeSuccessNoInfo, "mod", "-d", f, "zz", "3", "n:b")
	avu(0, "add", "-C", z.Home("rods"), "c", "1")
	avu(0, "cp", "-C", "-d", z.Home("rods"), f)
	check("[[b 4 ] [c 1 ]]")
	avu(wire.CodeSuccessNoInfo, "rm", "-d", f, "b", "5")
	avu(0, "rm", "-d", f, "b", "4")
	avu(0, "rmw", "-d", f, "%", "%", "%")
	check("[]")
	avu(0, "add", "-R", "demoResc", "where", "here")
	avu(0, "add", "-u", "alice", "mail", "a@b")
	rows := c.query([]int{wire.ColRescName, wire.ColMetaRescValue})
	more := c.query([]int{wire.ColUserName, wire.ColMetaUserValue})
	if fmt.Sprint(rows, more) != "[[demoResc here]] [[alice a@b]]" {
		t.Error(rows, more)
	}
	for _, args := range [][]string{
		{"add", "-d", f, "", "1"}, {"add", "-d", f, "a", ""}, {"dance", "-d", f, "a", "1"}, {"add", "-x", f, "a", "1"},
	} {
		avu(wire.CodeInvalidArgument, args...)
	}
	avu(wire.CodeUnknownFile, "add", "-d", f+"x", "a", "1")
	avu(wire.CodeUnknownCollection, "add", "-C", f+"x", "a", "1")
	avu(wire.CodeUnknownResource, "add", "-R", "nowhere", "a", "1")
	op := func(what, value string) map[string]string {
		return map[string]string{"operation": what, "attribute": "k", "value": value}
	}
	c.json(wire.APIAtomicMetadata, map[string]any{"entity_name": f, "entity_type": "data_object", "operations": []any{op("add", "1"), op("add", "2"), op("remove", "1")}}, 0)
	c.json(wire.APIAtomicMetadata, map[string]any{"entity_name": f, "entity_type": "data_object", "operations": []any{op("add", "3"), op("sing", "1")}}, int(badOperation))
	check("[[k 2 ]]")
}

// TestConditions checks conditions on a handful of objects.
func TestConditions(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	for i, name := range []string{"a'b", "a_b", "axb", "B", "100%"} {
		c.put(home+"/"+name, strings.Repeat("x", i*5))
	}
	for cond, want := range map[string]string{
		"= 'a'b'":                     "a'b",
		"='B'":                        "B",
		"= 'b'":                       "",
		"!= 'B'":                      "100% a'b a_b axb",
		"<> 'B'":                      "100% a'b a_b axb",
		"like 'a%'":                   "a'b a_b axb",
		"LIKE 'a_b'":                  "a'b a_b axb",
		`like 'a\_b'`:                 "a_b",
		`like '100\%'`:                "100%",
		"not like 'a%'":               "100% B",
		"in ('B','axb')":              "B axb",
		"in 'B' and 'axb' or what":    "B axb",
		"IS NOT NULL":                 "100% B a'b a_b axb",
		"IS NULL":                     "",
		"= 'B' || = 'a_b' && = 'axb'": "B", // && binds closer
		"= 'B' what follows":          "B",
		`like '100\\%'`:               "",
		"parent_of '/B/c'":            "",
		"between 'a' 'ay'":            "a'b a_b axb",
		"= 'B' || = 'axb'":            "B axb",
		"like 'a%' && not like '%x%'": "a'b a_b",
		"> 'a'":                       "a'b a_b axb",
		"<= 'B'":                      "100% B",
		"begin_of 'axbc'":             "axb",
	} {
		got := []string{}
		for _, r := range c.query([]int{wire.ColDataName}, wire.Where{Column: wire.ColDataName, Cond: cond}) {
			got = append(got, r[0])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", cond, got, want)
		}
	}
	sized := c.query([]int{wire.ColDataSize}, wire.Where{Column: wire.ColDataSize, Cond: "> '9'"}) // as numbers
	if fmt.Sprint(sized) != "[[10] [15] [20]]" {
		t.Error(sized)
	}
	for _, cond := range []string{"", "B", "= B", "= 'B", "in ('a", "between 'a'", "sounds like 'a'", "not", "not in ('B')", "= 'a'||b'", "Like 'a'"} {
		in := (&wire.GenQueryInp{MaxRows: 5}).Select(wire.ColDataName).Where(wire.ColDataName, cond)
		c.do(wire.APIGenQuery, in, wire.CodeInvalidArgument)
	}
	for column, cond := range map[int]string{wire.ColDataName: "== 'a'", wire.ColCollName: `like 'a\'`, wire.ColDataSize: "= 'a'", wire.ColDataID: "like '1%'"} {
		in := (&wire.GenQueryInp{MaxRows: 5}).Select(wire.ColDataName).Where(column, cond)
		c.do(wire.APIGenQuery, in, wire.CodeCatalogSQL)
	}
	c.do(wire.APIGenQuery, (&wire.GenQueryInp{MaxRows: 5}).Select(4242), wire.CodeUnknownTable)
}

// TestPaging reads pages, closes early, and asks for totals, orders and functions.
func TestPaging(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	for i := range 7 {
		c.put(fmt.Sprintf("%s/f%d", z.Home("rods"), i), strings.Repeat("x", i))
	}
	ask := func(in *wire.GenQueryInp) *wire.GenQueryOut {
		t.Helper()
		var out wire.GenQueryOut
		_, err := c.Call(t.Context(), &wire.Call{API: wire.APIGenQuery, In: in, Out: &out})
		if err != nil && wire.CodeOf(err) != wire.CodeNoRows {
			t.Fatal(err)
		}
		return &out
	}
	in := (&wire.GenQueryInp{MaxRows: 3, Options: wire.ReturnTotal}).Select(wire.ColDataName)
	var got []string
	for {
		out := ask(in)
		if out.Rows > 0 {
			got = append(got, out.Results[0].Values...)
		}
		if in.Continue = out.Continue; in.Continue == 0 {
			break
		}
		if out.Total != 7 {
			t.Errorf("total %d", out.Total)
		}
	}
	if strings.Join(got, "") != "f0f1f2f3f4f5f6" {
		t.Error(got)
	}
	in.PartialStart = 5
	if out := ask(in); out.Rows != 2 || out.Value(wire.ColDataName, 0) != "f5" || out.Continue != 0 {
		t.Errorf("%+v", out)
	}
	in.PartialStart = 0
	page := ask(in)
	if out := ask(&wire.GenQueryInp{Continue: page.Continue}); out.Rows != 0 || out.Continue != 0 {
		t.Errorf("%+v", out)
	}
	c.do(wire.APIGenQuery, &wire.GenQueryInp{Continue: page.Continue, MaxRows: 5}, wire.CodeInvalidArgument)
	in = &wire.GenQueryInp{MaxRows: 2, Selects: []wire.Select{{Column: wire.ColDataSize, Option: wire.OrderByDesc | 1}}}
	if out := ask(in); out.Value(wire.ColDataSize, 0) != "6" {
		t.Errorf("%+v", out)
	}
	for f, want := range map[int]string{wire.SelectSum: "21", wire.SelectMax: "6", wire.SelectMin: "0", wire.SelectAvg: "3", wire.SelectCount: "7"} {
		in = &wire.GenQueryInp{MaxRows: 2, Selects: []wire.Select{{Column: wire.ColDataSize, Option: f}}}
		if out := ask(in); out.Rows != 1 || out.Value(wire.ColDataSize, 0) != want {
			t.Errorf("function %d: %+v", f, out)
		}
	}
}

// TestGenQuery2 asks in the second language.
func TestGenQuery2(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	for i, name := range []string{"a'b", "b\"<&", "c"} {
		c.put(z.Home("rods")+"/"+name, strings.Repeat("x", i))
	}
	for query, want := range map[string]string{
		"select DATA_NAME where DATA_NAME = 'a''b'":                                               "[[a'b]]",
		"select DATA_NAME, DATA_SIZE where DATA_SIZE > '0' order by DATA_SIZE":                    "[[b\"<& 1] [c 2]]",
		"select DATA_NAME order by DATA_NAME desc limit 2":                                        "[[c] [b\"<&]]",
		"select DATA_NAME order by DATA_NAME offset 1 limit 1":                                    "[[b\"<&]]",
		"select DATA_NAME where DATA_NAME like 'a%' or (DATA_NAME = 'c' and not DATA_SIZE = '1')": "[[a'b] [c]]",
		"select DATA_NAME where DATA_NAME in ('c', 'd')":                                          "[[c]]",
		"select DATA_NAME where DATA_SIZE between '1' and '2'":                                    "[[b\"<&] [c]]",
		"select DATA_NAME where DATA_NAME not like 'a%'":                                          "[[b\"<&] [c]]",
		"select COLL_NAME where COLL_NAME = '/nowhere'":                                           "[]",
	} {
		var out wire.STR
		c.call(&wire.Call{API: wire.APIGenQuery2, In: &wire.Genquery2Inp{Query: query, Zone: z.Name()}, Out: &out}, 0)
		var rows [][]string
		if err := out.JSON(&rows); err != nil || fmt.Sprint(rows) != want {
			t.Errorf("%s: %v, %v", query, rows, err)
		}
	}
	c.do(wire.APIGenQuery2, &wire.Genquery2Inp{Query: "select DATA_NAME"}, wire.CodeInvalidZone)
	for _, query := range []string{"", "DATA_NAME", "select", "select X", "select DATA_NAME where", "select DATA_NAME where DATA_NAME", "select DATA_NAME where (DATA_NAME = 'a'", "select DATA_NAME limit x", "select DATA_NAME group 1"} {
		c.do(wire.APIGenQuery2, &wire.Genquery2Inp{Query: query, Zone: z.Name()}, wire.CodeInvalidArgument)
	}
}

// TestZoneTables asks for resources, users, groups and the zone.
func TestZoneTables(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "alice", "apass")
	if got := fmt.Sprint(c.query([]int{wire.ColRescName, wire.ColRescType, wire.ColRescStatus}), c.query([]int{wire.ColZoneName}),
		c.query([]int{wire.ColUserName, wire.ColUserType}, wire.Where{Column: wire.ColUserName, Cond: wire.Equal("alice")}),
		c.query([]int{wire.ColUserName}, wire.Where{Column: wire.ColUserGroupName, Cond: wire.Equal("lab")}),
	); got != "[[demoResc unixfilesystem up] [resc2 unixfilesystem up]] [[tempZone]] [[alice rodsuser]] [[alice] [lab]]" {
		t.Error(got)
	}
	var info wire.MiscSvrInfo
	c.call(&wire.Call{API: wire.APIGetMiscSvrInfo, Out: &info}, 0)
	if info.Zone != "tempZone" || info.ReleaseVersion != "rods5.0.2" {
		t.Errorf("%+v", info)
	}
	c.do(4711, &wire.STR{}, wire.CodeUnknownAPI)
	c.do(wire.APIObjStat, &wire.STR{}, wire.CodePacking)
}

// TestTickets reads and writes by ticket.
func TestTickets(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	d := z.Home("rods") + "/d"
	c.mkdir(d, 0)
	c.put(d+"/f", "by ticket")
	admin := func(c *client, want int, args ...string) {
		t.Helper()
		in := &wire.TicketAdminInp{}
		copy(in.Args[:], args)
		c.do(wire.APITicketAdmin, in, want)
	}
	admin(c, 0, "create", "reading", "read", d)
	admin(c, wire.CodeExists, "create", "reading", "read", d)
	admin(c, 0, "create", "writing", "write", d+"/f")
	alice := dial(t, z, "alice", "apass")
	alice.openFails(d+"/f", wire.OpenReadOnly, openNone)
	admin(alice, wire.CodeTicketInvalid, "session", "guess")
	admin(alice, 0, "session", "reading")
	if got := alice.get(d + "/f"); got != "by ticket" || alice.stat(d).Type != wire.TypeCollection {
		t.Error(got)
	}
	if rows := alice.query([]int{wire.ColDataName}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(d)}); len(rows) != 1 {
		t.Error(rows)
	}
	var out wire.STR
	alice.call(&wire.Call{API: wire.APIGenQuery2, In: &wire.Genquery2Inp{Query: "select DATA_NAME", Zone: z.Name()}, Out: &out}, 0)
	if out.Text != "[]" {
		t.Errorf("the second language honours tickets: %s", out.Text)
	}
	alice.openFails(d+"/f", wire.OpenWriteOnly, wire.CodeNoAccess)
	admin(alice, 0, "session", "writing")
	alice.close(alice.open(d+"/f", wire.OpenWriteOnly))
	admin(alice, wire.CodeNoAccess, "delete", "writing")
	admin(alice, wire.CodeNoAccess, "create", "mine", "read", d)
	admin(c, 0, "mod", "reading", "expire", "1000")
	admin(alice, 0, "session", "reading")
	alice.openFails(d+"/f", wire.OpenReadOnly, openNone)
	admin(c, 0, "delete", "writing")
	if rows := c.query([]int{wire.ColTicketString, wire.ColTicketType}); fmt.Sprint(rows) != "[[reading read]]" {
		t.Error(rows)
	}
}
