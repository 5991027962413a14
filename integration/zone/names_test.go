package zone

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// TestNames makes, lists, renames and removes objects and collections with random
// names: those that a database with UTF-8 takes survive byte for byte, the others are
// refused.
func TestNames(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	alphabet := rapid.OneOf(rapid.SampledFrom([]byte("\r\n\t\x01\x1f\x7f'\"&<>\\%_`;|= ")), rapid.ByteRange(1, 255))
	rapid.Check(t, func(rt *rapid.T) {
		name := string(rapid.SliceOfN(alphabet, 1, 20).Draw(rt, "name"))
		text := rapid.StringN(1, 20, 60).Draw(rt, "text")
		for _, name := range []string{name, text} {
			if !strings.ContainsAny(name, "/\x00") && name != "." && name != ".." {
				useName(c, home, name)
			}
		}
	})
}

func useName(c *client, home, name string) {
	c.t.Helper()
	path := home + "/" + name
	if !utf8.ValidString(name) {
		c.openFails(path, createFlags, wire.CodeCatalogSQL)
		c.mkdir(path, wire.CodeCatalogSQL)
		return
	}
	force := wire.KeyValPair{{Key: wire.KwForce}, {Key: wire.KwRecursive}}
	c.put(path, name)
	rows := c.query([]int{wire.ColDataName}, wire.Where{Column: wire.ColCollName, Cond: wire.Equal(home)})
	if len(rows) != 1 || rows[0][0] != name {
		c.t.Fatalf("%q is listed as %q", name, rows)
	}
	if rows := c.query([]int{wire.ColDataSize}, wire.Where{Column: wire.ColDataName, Cond: wire.Equal(name)}); len(rows) != 1 {
		c.t.Fatalf("%q is not found", name)
	}
	c.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: path}, Dst: wire.DataObjInp{Path: path + "~"}}, 0)
	if got := c.get(path + "~"); got != name {
		c.t.Fatalf("%q holds %q", name, got)
	}
	c.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: path + "~", Cond: force}, 0)
	c.mkdir(path, 0)
	rows = c.query([]int{wire.ColCollName}, wire.Where{Column: wire.ColCollParentName, Cond: wire.Equal(home)})
	if len(rows) != 1 || rows[0][0] != path {
		c.t.Fatalf("%q is listed as %q", path, rows)
	}
	c.call(&wire.Call{API: wire.APIRmColl, In: &wire.CollInp{Name: path, Cond: force}, Out: &wire.CollOprStat{}}, 0)
}
