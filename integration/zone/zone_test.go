package zone

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// start runs a zone with an administrator and a user until the test ends.
func start(t *testing.T, change func(*Options)) *Zone {
	t.Helper()
	opts := Options{Dir: t.TempDir(), Accounts: []Account{
		{Name: "rods", Password: "rods", Admin: true}, {Name: "alice", Password: "apass", Groups: []string{"lab"}},
	}}
	if change != nil {
		change(&opts)
	}
	z, err := Start(opts)
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

// client is a connection of a test.
type client struct {
	t *testing.T
	*wire.Conn
}

func dial(t *testing.T, z *Zone, user, password string) *client {
	t.Helper()
	c, err := wire.Dial(t.Context(), wire.Config{
		Address: z.Addr(), User: user, Zone: z.Name(), Policy: wire.PolicyNone,
		Password: func(context.Context) (string, error) { return password, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &client{t, c}
}

// call makes a call that must end with the given status, or any that is not negative
// if that is 0.
func (c *client) call(call *wire.Call, want int) wire.Reply {
	c.t.Helper()
	reply, err := c.Call(c.t.Context(), call)
	if got := wire.CodeOf(err); got != min(want, 0) || (err != nil && got == 0) || (want > 0 && reply.Status != want) {
		c.t.Fatalf("%s: status %d, %v; want %d", wire.APIName(call.API), reply.Status, err, want)
	}
	return reply
}

// do makes a call without anything but a message.
func (c *client) do(api int, in wire.Message, want int) {
	c.t.Helper()
	c.call(&wire.Call{API: api, In: in}, want)
}

func (c *client) open(path string, flags int, cond ...wire.Pair) int {
	c.t.Helper()
	in := &wire.DataObjInp{Path: path, CreateMode: 0o644, OpenFlags: flags, DataSize: -1, Cond: cond}
	return c.call(&wire.Call{API: wire.APIDataObjOpen, In: in}, 0).Status
}

func (c *client) openFails(path string, flags, want int, cond ...wire.Pair) {
	c.t.Helper()
	c.do(wire.APIDataObjOpen, &wire.DataObjInp{Path: path, CreateMode: 0o644, OpenFlags: flags, DataSize: -1, Cond: cond}, want)
}

func (c *client) write(fd int, data string) {
	c.t.Helper()
	in := &wire.OpenedDataObjInp{Desc: fd, Len: len(data)}
	c.call(&wire.Call{API: wire.APIDataObjWrite, In: in, Data: []byte(data)}, 0)
}

func (c *client) read(fd int) string {
	c.t.Helper()
	into := make([]byte, 1<<16)
	in := &wire.OpenedDataObjInp{Desc: fd, Len: len(into)}
	return string(into[:c.call(&wire.Call{API: wire.APIDataObjRead, In: in, Into: into}, 0).N])
}

func (c *client) close(fd int) {
	c.t.Helper()
	c.do(wire.APIDataObjClose, &wire.OpenedDataObjInp{Desc: fd}, 0)
}

// put makes an object by create, write and close.
func (c *client) put(path, data string) {
	c.t.Helper()
	fd := c.open(path, wire.OpenReadWrite|wire.OpenCreate|wire.OpenTruncate)
	c.write(fd, data)
	c.close(fd)
}

func (c *client) get(path string) string {
	c.t.Helper()
	fd := c.open(path, wire.OpenReadOnly)
	defer c.close(fd)
	return c.read(fd)
}

func (c *client) mkdir(path string, want int) {
	c.t.Helper()
	c.do(wire.APICollCreate, &wire.CollInp{Name: path}, want)
}

func (c *client) stat(path string) wire.RodsObjStat {
	c.t.Helper()
	var out wire.RodsObjStat
	c.call(&wire.Call{API: wire.APIObjStat, In: &wire.DataObjInp{Path: path}, Out: &out}, 0)
	return out
}

// query returns rows of columns.
func (c *client) query(columns []int, wheres ...wire.Where) [][]string {
	c.t.Helper()
	in := (&wire.GenQueryInp{MaxRows: 1000}).Select(columns...)
	in.Wheres = wheres
	var out wire.GenQueryOut
	_, err := c.Call(c.t.Context(), &wire.Call{API: wire.APIGenQuery, In: in, Out: &out})
	if err != nil && wire.CodeOf(err) != wire.CodeNoRows {
		c.t.Fatal(err)
	}
	rows := make([][]string, out.Rows)
	for i := range rows {
		for _, col := range columns {
			rows[i] = append(rows[i], out.Value(col, i))
		}
	}
	return rows
}

// TestRestart checks that everything survives a restart.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	z := start(t, func(o *Options) { o.Dir = dir })
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	c.mkdir(home+"/d", 0)
	c.put(home+"/d/f\r\x01'&", "content")
	c.do(wire.APIModAVUMetadata, &wire.ModAVUMetadataInp{Args: [10]string{"add", "-C", home + "/d", "a", "v", "u"}}, 0)
	c.do(wire.APIModAccessControl, &wire.ModAccessControlInp{Level: "read", User: "alice", Zone: z.Name(), Path: home + "/d"}, 0)
	before := c.stat(home + "/d/f\r\x01'&")
	open := dial(t, z, "rods", "rods")
	open.write(open.open(home+"/torn", wire.OpenReadWrite|wire.OpenCreate), "half")
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	z = start(t, func(o *Options) { o.Dir = dir })
	c = dial(t, z, "rods", "rods")
	if got := c.get(home + "/d/f\r\x01'&"); got != "content" {
		t.Errorf("content %q", got)
	}
	if after := c.stat(home + "/d/f\r\x01'&"); after != before {
		t.Errorf("stat %+v, before %+v", after, before)
	}
	rows := c.query([]int{wire.ColMetaCollName, wire.ColMetaCollValue, wire.ColCollAccessUserName},
		wire.Where{Column: wire.ColCollName, Cond: wire.Equal(home + "/d")})
	if len(rows) != 2 || rows[0][0] != "a" || rows[0][2] != "alice" {
		t.Errorf("rows %v", rows)
	}
	status := c.query([]int{wire.ColReplStatus, wire.ColDataSize}, wire.Where{Column: wire.ColDataName, Cond: wire.Equal("torn")})
	if len(status) != 1 || status[0][0] != "0" || status[0][1] != "4" {
		t.Errorf("torn object: %v", status)
	}
}

// TestFaults orders faults of calls.
func TestFaults(t *testing.T) {
	z := start(t, func(o *Options) { o.MaxAgents = 1 })
	c := dial(t, z, "rods", "rods")
	_, err := wire.Dial(t.Context(), wire.Config{Address: z.Addr(), User: "rods", Zone: z.Name(), Policy: wire.PolicyNone})
	if wire.CodeOf(err) != wire.CodeLibrary {
		t.Errorf("one connection too many: %v", err)
	}
	z.SetFaults(func(call Call) *Fault {
		if call.API == wire.APIObjStat && call.User == "rods" {
			return &Fault{Code: wire.CodeLibrary, Delay: time.Millisecond}
		}
		return nil
	})
	c.do(wire.APIObjStat, &wire.DataObjInp{Path: z.Home("rods")}, wire.CodeLibrary)
	z.SetFaults(func(Call) *Fault { return &Fault{LoseReply: true} })
	if _, err := c.Call(t.Context(), &wire.Call{API: wire.APICollCreate, In: &wire.CollInp{Name: z.Home("rods") + "/lost"}}); err == nil {
		t.Error("a lost reply came")
	}
	z.SetFaults(nil)
	waitFor(t, func() bool { return z.Agents() == 0 })
	c = dial(t, z, "rods", "rods")
	if got := c.stat(z.Home("rods") + "/lost"); got.Type != wire.TypeCollection {
		t.Errorf("stat %+v", got)
	}
	if n := z.KillAgents(); n != 1 {
		t.Errorf("%d agents", n)
	}
	if _, err := c.Call(t.Context(), &wire.Call{API: wire.APIGetMiscSvrInfo}); err == nil {
		t.Error("a killed agent answers")
	}
	if z.Calls()[wire.APIObjStat] != 2 || z.Logins() != 2 {
		t.Errorf("calls %v, %d logins", z.Calls(), z.Logins())
	}
	waitFor(t, func() bool { return z.Agents() == 0 })
	z.SetFaults(func(Call) *Fault { return &Fault{Raw: bytes.Repeat([]byte("garbage "), 200)} })
	c = dial(t, z, "rods", "rods")
	if _, err := c.Call(t.Context(), &wire.Call{API: wire.APIGetMiscSvrInfo}); err == nil {
		t.Error("garbage is an answer")
	}
}

// waitFor waits for something that another goroutine does.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for range 100_000 {
		if done() {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatal("waited in vain")
}

func TestOptions(t *testing.T) {
	for name, opts := range map[string]Options{
		"nothing":       {},
		"no account":    {Dir: t.TempDir()},
		"bad account":   {Dir: t.TempDir(), Accounts: []Account{{Name: "a#b"}}},
		"long password": {Dir: t.TempDir(), Accounts: []Account{{Name: "a", Password: string(make([]byte, 51))}}},
		"bad zone":      {Dir: t.TempDir(), Name: "a/b", Accounts: []Account{{Name: "a"}}},
		"bad resource":  {Dir: t.TempDir(), Resources: []string{".."}, Accounts: []Account{{Name: "a"}}},
	} {
		if z, err := Start(opts); err == nil {
			t.Errorf("%s: no error", name)
			_ = z.Close()
		}
	}
}
