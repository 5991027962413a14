package irods

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// fragments are what goes wrong in names somewhere on the way: in the packing, in the
// conditions of the catalog's language, in patterns, in JSON.
var fragments = []string{
	"a", "b", " ", "  ", ".", "..", "'", "''", "\"", `\`, `\\`, `\x27`, `\X27`, `\'`, "%", "%%", "_", "*", "?", "#", ";", ",", ":", "=",
	"|", "||", "&&", "&", "&amp;", "&apos;", "<", ">", "<a>", "]]>", "&#39;", "' || = '", "' && = '", "' or '1'='1", "in ('a')", "like",
	"not in", "between", "\n", "\r", "\r\n", "\t", "\x01", "\x1f", "\x7f", "é", "e\u0301", "日本", "😀", "\u200b", "\u202e", "\ufeff",
	"\ufffd", "\u2028", "n<", "begin_of", "--", "/*", "{}", "$(x)", "`x`", "~", "^", "+", "@",
}

// anyName draws names: mostly of fragments, sometimes of any bytes, seldom long.
func anyName() *rapid.Generator[string] {
	of := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(fragments), 1, 6).Draw(t, "fragments"), "")
	})
	runes := rapid.StringN(1, 20, 255)
	bytes := rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.Byte(), 1, 12).Draw(t, "bytes"))
	})
	long := rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(rapid.SampledFrom([]string{"x", "'", `\`, "é"}).Draw(t, "part"), rapid.IntRange(100, 300).Draw(t, "times"))
	})
	return rapid.OneOf(of, of, of, runes, bytes, long)
}

// verdict is what must become of a name: 0 for those that are kept.
func verdict(name string) remote.Kind {
	switch {
	case name == "." || name == ".." || strings.ContainsAny(name, "\x00"), !utf8.ValidString(name):
		return remote.Invalid
	case len(name) > maxName:
		return remote.NameTooLong
	}
	return 0
}

// TestNamesSurvive checks that each name that the server takes comes out of everything as
// it went in, and that all others are refused, and never become another name.
func TestNamesSurvive(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	alice := connect(t, z, "alice")
	rapid.Check(t, func(rt *rapid.T) {
		first := anyName().Filter(func(s string) bool { return !strings.Contains(s, "/") }).Draw(rt, "name")
		second := anyName().Filter(func(s string) bool { return !strings.Contains(s, "/") && s != first }).Draw(rt, "other")
		n := &naming{t: t, rt: rt, b: b, alice: alice}
		for _, path := range n.list("/") { // of a case that failed
			_ = b.Remove(t.Context(), path, remote.RemoveOptions{Type: remote.File})
			_ = b.RemoveTree(t.Context(), path)
		}
		if kind := verdict(first); kind != 0 {
			n.refused(first, kind)
			return
		}
		n.use(first, second)
	})
}

// naming is one case of TestNamesSurvive.
type naming struct {
	t     *testing.T
	rt    *rapid.T
	b     *Backend
	alice *raw
}

func (n *naming) must(err error, what string) {
	if err != nil {
		n.rt.Fatalf("%s: %v", what, err)
	}
}

func (n *naming) refused(name string, want remote.Kind) {
	ctx := n.t.Context()
	path := "/" + name
	_, err := n.b.Put(ctx, path, text("x"), fresh)
	if remote.KindOf(err) != want {
		n.rt.Fatalf("a file: %v, want %v", err, want)
	}
	if _, err = n.b.Mkdir(ctx, path); remote.KindOf(err) != want {
		n.rt.Fatalf("a directory: %v, want %v", err, want)
	}
	if _, err = n.b.Symlink(ctx, path, "target"); remote.KindOf(err) != want {
		n.rt.Fatalf("a link: %v, want %v", err, want)
	}
	n.alone()
}

// use makes, shows, renames and removes a file, a link and a directory of that name, next
// to names that the patterns of questions would fit too.
func (n *naming) use(name, other string) {
	ctx := n.t.Context()
	near := strings.NewReplacer("'", "_", `\`, "_", "%", "_", "_", "x").Replace(name)
	if near == name {
		near = ""
	} else {
		_, err := n.b.Put(ctx, "/"+near, text("near"), remote.PutOptions{})
		n.must(err, "a file with a similar name")
		defer n.remove(near, remote.File)
	}
	_, err := n.b.Put(ctx, "/"+name, text(name), fresh)
	n.must(err, "a file")
	n.shows(name, near, remote.File)
	_, err = n.b.Put(ctx, "/"+name, text("x"), fresh)
	if remote.KindOf(err) != remote.Exist {
		n.rt.Fatalf("a second file of that name: %v", err)
	}
	n.must(n.b.SetXattr(ctx, "/"+name, "user.irods.a", []byte("v"), remote.XattrAny), "an attribute")
	if verdict(other) == 0 && other != near {
		n.must(n.b.Rename(ctx, "/"+name, "/"+other, remote.RenameOptions{}), "rename")
		n.shows(other, near, remote.File)
		if x, err := n.b.Xattrs(ctx, "/"+other); err != nil || len(x) != 1 {
			n.rt.Fatalf("attributes: %v, %v", x, err)
		}
		n.must(n.b.Rename(ctx, "/"+other, "/"+name, remote.RenameOptions{}), "rename back")
	}
	n.remove(name, remote.File)
	_, err = n.b.Symlink(ctx, "/"+name, name)
	n.must(err, "a link")
	n.shows(name, near, remote.Symlink)
	n.remove(name, remote.Symlink)
	_, err = n.b.Mkdir(ctx, "/"+name)
	n.must(err, "a directory")
	_, err = n.b.Put(ctx, "/"+name+"/"+name, text("below"), fresh)
	n.must(err, "a file in it")
	if below := n.list("/" + name); !slices.Equal(below, []string{"/" + name + "/" + name}) {
		n.rt.Fatalf("in it are %q", below)
	}
	n.must(n.b.RemoveTree(ctx, "/"+name), "removal of the directory")
	if near == "" {
		n.alone()
	}
}

// shows checks that the name, and nothing but it and near, is shown by all means.
func (n *naming) shows(name, near string, kind remote.Type) {
	want := []string{"/" + name}
	if near != "" {
		want = slices.Sorted(slices.Values([]string{"/" + name, "/" + near}))
	}
	if got := n.list("/"); !slices.Equal(got, want) {
		n.rt.Fatalf("listed are %q, want %q", got, want)
	}
	e, err := n.b.Stat(n.t.Context(), "/"+name)
	if err != nil || e.Path != "/"+name || e.Type != kind {
		n.rt.Fatalf("stat: %+v, %v", e, err)
	}
	if got := n.alice.rows([]int{wire.ColDataName}, wire.Where{Column: wire.ColDataName, Cond: wire.Like("%")}); !slices.Contains(got, name) {
		n.rt.Fatalf("another client sees %q", got)
	}
}

func (n *naming) list(dir string) []string {
	all := map[string]bool{}
	n.must(n.b.List(n.t.Context(), dir, func(e remote.Entry) error { all[e.Path] = true; return nil }), "list")
	return slices.Sorted(maps.Keys(all))
}

func (n *naming) remove(name string, kind remote.Type) {
	n.must(n.b.Remove(n.t.Context(), "/"+name, remote.RemoveOptions{Type: kind}), "remove")
	if _, err := n.b.Stat(n.t.Context(), "/"+name); remote.KindOf(err) != remote.NotExist {
		n.rt.Fatalf("after its removal: %v", err)
	}
}

// alone checks that there is nothing.
func (n *naming) alone() {
	if got := n.list("/"); len(got) != 0 {
		n.rt.Fatalf("there are %q", got)
	}
}
