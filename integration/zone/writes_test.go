package zone

import (
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// clock is a zone's clock that a test sets.
type clock struct{ now atomic.Int64 }

func (c *clock) set(seconds int64) { c.now.Store(seconds) }
func (c *clock) Now() time.Time    { return time.Unix(c.now.Load(), 0) }

// sha2 is the checksum of the catalog.
func sha2(data string) string {
	sum := sha256.Sum256([]byte(data))
	return "sha2:" + base64.StdEncoding.EncodeToString(sum[:])
}

// shape returns status, size, modify time, and S if there is a checksum, of each replica.
func (c *client) shape(name string) string {
	c.t.Helper()
	var all []string
	for _, r := range c.query([]int{wire.ColReplNum, wire.ColReplStatus, wire.ColDataSize, wire.ColDataModifyTime, wire.ColDataChecksum},
		wire.Where{Column: wire.ColDataName, Cond: wire.Equal(name)}) {
		text := r[1] + " " + r[2] + " " + strings.TrimLeft(r[3], "0")
		if r[4] != "" {
			text += " S"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// twoReplicas makes an object at time 100 with checksums and replicas on both resources.
// With stale the second one is good and the first one stale.
func (c *client) twoReplicas(path string, firstIsStale bool) {
	c.t.Helper()
	fd := c.open(path, createFlags, wire.Pair{Key: wire.KwRegChecksum})
	c.write(fd, "hello")
	c.close(fd)
	c.do(wire.APIDataObjRepl, &wire.DataObjInp{Path: path, Cond: wire.KeyValPair{{Key: wire.KwDestRescName, Value: "resc2"}}}, 0)
	if firstIsStale {
		fd = c.open(path, wire.OpenWriteOnly, wire.Pair{Key: wire.KwRescName, Value: "resc2"}, wire.Pair{Key: wire.KwRegChecksum})
		c.write(fd, "world")
		c.close(fd)
	}
}

// TestCloseWithoutBytes opens for writing and writes nothing.
func TestCloseWithoutBytes(t *testing.T) {
	when := &clock{}
	z := start(t, func(o *Options) { o.Now = when.Now })
	c := dial(t, z, "rods", "rods")
	first := wire.Pair{Key: wire.KwRescName, Value: "demoResc"}
	for i, x := range []struct {
		stale  bool
		flags  int
		cond   []wire.Pair
		during string // after the open
		after  string
	}{
		{false, wire.OpenWriteOnly, nil, "2 5 100 S, 4 5 100 S", "1 5 100 S, 1 5 100 S"},
		{false, wire.OpenReadWrite, nil, "2 5 100 S, 4 5 100 S", "1 5 100 S, 1 5 100 S"},
		{true, wire.OpenWriteOnly, []wire.Pair{first}, "2 5 100 S, 4 5 100 S", "0 5 100 S, 1 5 100 S"},
		{false, wire.OpenWriteOnly | wire.OpenTruncate, nil, "2 0 200, 4 5 100 S", "1 0 200, 1 5 100 S"},
		{true, wire.OpenWriteOnly | wire.OpenTruncate, []wire.Pair{first}, "2 0 200, 4 5 100 S", "0 0 200, 1 5 100 S"},
		{false, wire.OpenWriteOnly | wire.OpenTruncate, []wire.Pair{{Key: wire.KwRegChecksum}}, "2 0 200, 4 5 100 S", "1 0 200 S, 1 5 100 S"},
	} {
		name := fmt.Sprintf("f%d", i)
		when.set(100)
		c.twoReplicas(z.Home("rods")+"/"+name, x.stale)
		when.set(200)
		fd := c.open(z.Home("rods")+"/"+name, x.flags, x.cond...)
		when.set(300)
		if got := c.shape(name); got != x.during {
			t.Errorf("case %d: while open %s, want %s", i, got, x.during)
		}
		c.close(fd)
		if got := c.shape(name); got != x.after {
			t.Errorf("case %d: %s, want %s", i, got, x.after)
		}
	}
	path := z.Home("rods") + "/new"
	c.close(c.open(path, createFlags, wire.Pair{Key: wire.KwRegChecksum}))
	if got := c.stat(path); got.Checksum != sha2("") || c.shape("new") != "1 0 300 S" {
		t.Errorf("an empty new object: %+v, %s", got, c.shape("new"))
	}
}

// TestCloseWithBytes writes, by one or by two descriptors, of which each closes in
// several ways.
func TestCloseWithBytes(t *testing.T) {
	when := &clock{}
	z := start(t, func(o *Options) { o.Now = when.Now })
	c, other := dial(t, z, "rods", "rods"), dial(t, z, "rods", "rods")
	no := map[string]any{"update_size": false, "update_status": false}
	for i, x := range []struct {
		bytes, byOther string // written by the first and the second descriptor
		close          map[string]any
		after          string
	}{
		{"HE", "", nil, "1 5 300, 0 5 100 S"},
		{"longer", "", nil, "1 6 300, 0 5 100 S"},
		{"HE", "longer", nil, "1 6 300, 0 5 100 S"},
		{"", "longer", nil, "1 6 100 S, 1 5 100 S"}, // the first one did nothing: only the size is seen
		{"HE", "", map[string]any{}, "1 5 300, 0 5 100 S"},
		{"", "", map[string]any{}, "1 5 100 S, 0 5 100 S"}, // the others are stale nevertheless
		{"", "longer", map[string]any{}, "1 6 300, 0 5 100 S"},
		{"HE", "", map[string]any{"compute_checksum": true}, "1 5 300 S, 0 5 100 S"},
		{"longer", "", map[string]any{"update_size": false}, "1 5 100 S, 0 5 100 S"},
		{"longer", "", map[string]any{"update_status": false}, "2 6 300, 0 5 100 S"},
		{"longer", "", no, "2 5 100 S, 4 5 100 S"},
	} {
		name := fmt.Sprintf("f%d", i)
		path := z.Home("rods") + "/" + name
		when.set(100)
		c.twoReplicas(path, false)
		when.set(300)
		fd := c.open(path, wire.OpenWriteOnly)
		if x.bytes != "" {
			c.write(fd, x.bytes)
		}
		if x.byOther != "" {
			token, hier := c.token(fd)
			fd := other.open(path, wire.OpenWriteOnly, wire.Pair{Key: wire.KwReplicaToken, Value: token}, wire.Pair{Key: wire.KwRescHier, Value: hier})
			other.write(fd, x.byOther)
			other.json(wire.APIReplicaClose, merge(no, "fd", fd), 0)
		}
		if x.close == nil {
			c.close(fd)
		} else {
			c.json(wire.APIReplicaClose, merge(x.close, "fd", fd), 0)
		}
		if got := c.shape(name); got != x.after {
			t.Errorf("case %d: %s, want %s", i, got, x.after)
		}
	}
	c.json(wire.APIReplicaClose, map[string]any{"fd": 77}, int(descClosed))
	fd := c.open(z.Home("rods")+"/f0", wire.OpenWriteOnly)
	c.json(wire.APIReplicaClose, map[string]any{"fd": fd, "update_status": false, "compute_checksum": true}, -402000)
}

func merge(m map[string]any, key string, value any) map[string]any {
	m = maps.Clone(m)
	m[key] = value
	return m
}

// TestDescriptorInfo compares the fields of call 20000 with those of the recording.
func TestDescriptorInfo(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	fd := c.open(z.Home("rods")+"/f", createFlags)
	in, err := wire.NewJSON(map[string]int{"fd": fd})
	if err != nil {
		t.Fatal(err)
	}
	var got, want wire.BinBytesBuf
	c.call(&wire.Call{API: wire.APIGetFileDescInfo, In: in, Out: &got}, 0)
	for _, r := range readRecording(t, "fd-info-and-replica-close") {
		if m, ok := unpackOrNil(r.msg).(*wire.BinBytesBuf); ok && len(m.Data) > len(want.Data) {
			want = *m
		}
	}
	if g, w := fieldNames(t, &got), fieldNames(t, &want); g != w {
		t.Errorf("fields\n%s, recorded\n%s", g, w)
	}
	c.json(wire.APIGetFileDescInfo, map[string]any{"fd": 77}, wire.CodeInvalidInput)
}

func unpackOrNil(text string) wire.Message {
	m := &wire.BinBytesBuf{}
	if wire.Unpack([]byte(text), m) != nil {
		return nil
	}
	return m
}

// fieldNames lists the names in an object, of objects in it too.
func fieldNames(t *testing.T, m *wire.BinBytesBuf) string {
	t.Helper()
	var v map[string]any
	if err := m.JSON(&v); err != nil {
		t.Fatal(err)
	}
	var names func(v map[string]any) string
	names = func(v map[string]any) string {
		text := ""
		for _, name := range slices.Sorted(maps.Keys(v)) {
			text += " " + name
			if sub, ok := v[name].(map[string]any); ok {
				text += "{" + names(sub) + " }"
			}
		}
		return text
	}
	return names(v)
}

// TestPut puts in all kinds of ways.
func TestPut(t *testing.T) {
	when := &clock{}
	z := start(t, func(o *Options) { o.Now = when.Now })
	c := dial(t, z, "rods", "rods")
	sum := md5.Sum([]byte("data"))
	md5Hex := hex.EncodeToString(sum[:])
	force := wire.Pair{Key: wire.KwForce}
	for i, x := range []struct {
		old  bool // over two replicas, the second of them stale
		data string
		size int64
		cond []wire.Pair
		want int
		then string // shape
		sum  string
	}{
		{false, "data", 4, nil, 0, "1 4 300", ""},
		{false, "", 0, nil, 0, "1 0 300", ""},
		{false, "", 0, []wire.Pair{{Key: wire.KwRegChecksum}}, 0, "1 0 300 S", sha2("")},
		{false, "data", -1, []wire.Pair{{Key: wire.KwRegChecksum}}, 0, "1 4 300 S", sha2("data")},
		{false, "data", 4, []wire.Pair{{Key: wire.KwVerifyChecksum, Value: sha2("data")}}, 0, "1 4 300 S", sha2("data")},
		{false, "data", 4, []wire.Pair{{Key: wire.KwVerifyChecksum, Value: md5Hex}}, 0, "1 4 300 S", md5Hex},
		{false, "data", 4, []wire.Pair{{Key: wire.KwVerifyChecksum, Value: sha2("else")}}, wire.CodeChecksum, "0 4 300 S", sha2("data")},
		{false, "data", 5, nil, int(copyLength), "0 0 300", ""},
		{true, "data", 4, nil, wire.CodeOverwriteNoForce, "0 5 100 S, 1 5 100 S", ""},
		{true, "data", 4, []wire.Pair{force}, 0, "0 5 100 S, 1 4 300", ""},
		{true, "", 0, []wire.Pair{force}, 0, "0 5 100 S, 1 0 300", ""},
		{true, "data", 4, []wire.Pair{force, {Key: wire.KwDestRescName, Value: "demoResc"}}, 0, "1 4 300, 0 5 100 S", ""},
		{true, "data", 4, []wire.Pair{force, {Key: wire.KwVerifyChecksum, Value: sha2("else")}}, wire.CodeChecksum, "0 5 100 S, 0 4 300 S", ""},
	} {
		name := fmt.Sprintf("f%d", i)
		path := z.Home("rods") + "/" + name
		if x.old {
			when.set(100)
			c.twoReplicas(path, true)
		}
		when.set(300)
		in := &wire.DataObjInp{Path: path, CreateMode: 0o644, DataSize: x.size, OprType: wire.OprPut, Cond: append(x.cond, wire.Pair{Key: wire.KwDataIncluded})}
		c.call(&wire.Call{API: wire.APIDataObjPut, In: in, Data: []byte(x.data)}, x.want)
		if got := c.shape(name); got != x.then || (x.sum != "" && c.stat(path).Checksum != x.sum) {
			t.Errorf("case %d: %s, %s, want %s", i, got, c.stat(path).Checksum, x.then)
		}
	}
}

// TestPutIsWhole cuts puts and writes: what did not come whole is not carried out.
func TestPutIsWhole(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	path := z.Home("rods") + "/f"
	c.put(path, "old")
	for _, api := range []int{wire.APIDataObjPut, wire.APIDataObjWrite} {
		victim := cutAfter(t, z)
		in := wire.Message(&wire.DataObjInp{Path: path, DataSize: 1 << 20, Cond: wire.KeyValPair{{Key: wire.KwDataIncluded}, {Key: wire.KwForce}}})
		if api == wire.APIDataObjWrite {
			in = &wire.OpenedDataObjInp{Desc: victim.open(path, wire.OpenReadWrite), Len: 1 << 20}
		}
		victim.left.Store(1 << 19)
		if _, err := victim.Call(t.Context(), &wire.Call{API: api, In: in, Data: make([]byte, 1<<20)}); err == nil {
			t.Fatal("a cut call succeeds")
		}
		waitFor(t, func() bool { return z.Agents() == 1 })
		if got := c.get(path); got != "old" {
			t.Errorf("%s: content %d bytes", wire.APIName(api), len(got))
		}
	}
}

// cutClient is a client whose network takes so many bytes and then closes.
type cutClient struct {
	*client
	left *atomic.Int64
}

func cutAfter(t *testing.T, z *Zone) cutClient {
	t.Helper()
	left := &atomic.Int64{}
	left.Store(1 << 40)
	c, err := wire.Dial(t.Context(), wire.Config{
		Address: z.Addr(), User: "rods", Zone: z.Name(), Policy: wire.PolicyNone,
		Password: func(context.Context) (string, error) { return "rods", nil },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
			return cutConn{nc, left}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return cutClient{&client{t, c}, left}
}

type cutConn struct {
	net.Conn
	left *atomic.Int64
}

func (c cutConn) Write(p []byte) (int, error) {
	if rest := c.left.Add(-int64(len(p))); rest < 0 {
		n, _ := c.Conn.Write(p[:max(0, len(p)+int(rest))])
		return n, c.Conn.Close()
	}
	return c.Conn.Write(p)
}
