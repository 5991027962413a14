package zone

import (
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// TestCollectionTimes sees which calls set the modify time of the collection, as the real
// server (by its source, 5.0.2).
func TestCollectionTimes(t *testing.T) {
	when := &clock{}
	when.set(1_700_000_000)
	z := start(t, func(o *Options) { o.Now = when.Now })
	c := dial(t, z, "alice", "apass")
	home := z.Home("alice")
	c.mkdir(home+"/d", 0)
	at := func() int64 {
		rows := c.query([]int{wire.ColCollModifyTime}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(home + "/d")})
		return number(rows[0][0])
	}
	grant := func(level string) *wire.Call {
		return &wire.Call{API: wire.APIModAccessControl, In: &wire.ModAccessControlInp{Level: level, Path: home + "/d", User: "rods"}}
	}
	put := func(force bool) *wire.Call {
		in := &wire.DataObjInp{Path: home + "/d/f"}
		in.Cond.Set(wire.KwDataIncluded, "")
		if force {
			in.Cond.Set(wire.KwForce, "")
		}
		return &wire.Call{API: wire.APIDataObjPut, In: in, Data: []byte("x"), Out: &wire.PortalOprOut{}}
	}
	mark := func() *wire.Call {
		return &wire.Call{API: wire.APIModAVUMetadata, In: &wire.ModAVUMetadataInp{Args: [10]string{"set", "-d", home + "/d/f", "a", "v", ""}}}
	}
	for _, step := range []struct {
		name string
		call *wire.Call
		sets bool
	}{
		{"a put", put(false), true},
		{"a put over it", put(true), true},
		{"metadata", mark(), false},
		{"a permission", grant("read_object"), false},
		{"inheritance", grant("inherit"), true},
	} {
		before := at()
		when.now.Add(10)
		c.call(step.call, 0)
		if got := at(); (got == when.now.Load()) != step.sets || !step.sets && got != before {
			t.Errorf("after %s the time is %d, before it was %d, it is %d", step.name, got, before, when.now.Load())
		}
	}
}

// TestSharedMetadata sees that entries with the same metadata share its identifier and
// time, until one of them gets other metadata.
func TestSharedMetadata(t *testing.T) {
	when := &clock{}
	when.set(1_700_000_000)
	z := start(t, func(o *Options) { o.Now = when.Now })
	c := dial(t, z, "alice", "apass")
	home := z.Home("alice")
	set := func(name, value string) {
		when.now.Add(10)
		c.call(&wire.Call{API: wire.APIModAVUMetadata, In: &wire.ModAVUMetadataInp{Args: [10]string{"set", "-C", home + "/" + name, "a", value, ""}}}, 0)
	}
	look := func(name string) string {
		rows := c.query([]int{wire.ColMetaCollID, wire.ColMetaCollModifyTime}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(home + "/" + name)})
		return strings.Join(rows[0], "|")
	}
	for _, name := range []string{"x", "y"} {
		c.mkdir(home+"/"+name, 0)
	}
	set("x", "v")
	first := look("x")
	set("y", "v")
	if got := look("y"); got != first {
		t.Errorf("the same metadata is %q and %q", first, got)
	}
	set("y", "w")
	if got := look("x"); got != first {
		t.Errorf("what is shared has become %q from %q", got, first)
	}
	if got := look("y"); got == first {
		t.Errorf("other metadata is still %q", got)
	}
	alone := look("y")
	set("y", "u")
	id := func(s string) string { first, _, _ := strings.Cut(s, "|"); return first }
	if got := look("y"); got == alone || id(got) != id(alone) {
		t.Errorf("metadata that nothing else has becomes %q from %q, want another time only", got, alone)
	}
}
