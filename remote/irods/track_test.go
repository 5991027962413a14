package irods

import (
	"archive/tar"
	"bytes"
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// changed calls Changed and sorts the answer.
func changed(t testing.TB, b *Backend, dir, mark string) remote.Changes {
	t.Helper()
	c, err := b.Changed(t.Context(), dir, mark)
	if err != nil {
		t.Fatalf("changes of %s: %v", dir, err)
	}
	slices.Sort(c.Dirs)
	return c
}

// calm returns the mark of a tree in which nothing has changed for long.
func calm(t testing.TB, b *Backend, dir string) string {
	t.Helper()
	c := changed(t, b, dir, "")
	if c.All || len(c.Dirs) > 0 {
		t.Fatalf("the first mark tells %+v", c)
	}
	b.tree = mostColls
	c = changed(t, b, dir, c.Mark) // in a large tree, what is recent is known now
	m, ok := readTrackMark(c.Mark, b.full(dir))
	if !ok {
		t.Fatalf("the mark %q is not readable", c.Mark)
	}
	for key, p := range m.prints {
		p.young = 0
		m.prints[key] = p
	}
	return m.text(b.full(dir))
}

// wantChanged checks that all of want is told, and "/quiet" is not, where nothing has
// changed.
func wantChanged(t testing.TB, b *Backend, mark string, want ...string) {
	t.Helper()
	c := changed(t, b, "/", mark)
	for _, dir := range want {
		if !slices.Contains(c.Dirs, dir) {
			t.Errorf("%q are told, want %s", c.Dirs, dir)
		}
	}
	if c.All || slices.Contains(c.Dirs, "/quiet") {
		t.Errorf("told are %q and all: %v", c.Dirs, c.All)
	}
}

// tarred returns an archive with one member.
func tarred(t testing.TB, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// grove is a tree in which something is changed.
type grove struct {
	t     *testing.T
	z     *zone.Zone
	b     *Backend // another client of our kind
	alice *raw     // another program
}

func (g *grove) full(rel string) string { return g.z.Home("alice") + rel }

func (g *grove) check(err error) {
	if err != nil {
		g.t.Helper()
		g.t.Fatal(err)
	}
}

// overwrite writes without a put and sets the time back, as an upload of a large object.
func (g *grove) overwrite(rel string, large bool) {
	old := time.Unix(1_500_000_000, 0)
	data := []byte("written")
	if large {
		data = content(2*testPiece, 7)
	}
	mustPut(g.t, g.b, rel, data, remote.PutOptions{Attrs: remote.Attrs{MTime: &old}})
}

func (g *grove) attr(rel string, a remote.Attrs) {
	_, err := g.b.SetAttr(g.t.Context(), rel, a)
	g.check(err)
}

func (g *grove) rename(from, to string) {
	g.check(g.b.Rename(g.t.Context(), from, to, remote.RenameOptions{}))
}

func (g *grove) remove(rel string, kind remote.Type) {
	g.check(g.b.Remove(g.t.Context(), rel, remote.RemoveOptions{Type: kind}))
}

// groveChange is something that another client does.
type groveChange struct {
	name string
	do   func(*grove)
	want []string
	deep bool // a large tree does not show it
}

var groveChanges = []groveChange{
	{"new object", func(g *grove) { put(g.t, g.b, "/d/new", "x", fresh) }, []string{"/d"}, false},
	{"overwrite", func(g *grove) { put(g.t, g.b, "/d/f", "other", remote.PutOptions{}) }, []string{"/d"}, false},
	{"overwrite with an old time", func(g *grove) { g.overwrite("/d/f", false) }, []string{"/d"}, false},
	{"large overwrite with an old time", func(g *grove) { g.overwrite("/d/large", true) }, []string{"/d"}, false},
	{"new large object with an old time", func(g *grove) { g.overwrite("/d/larger", true) }, []string{"/d"}, false},
	{"overwrite in place", func(g *grove) {
		desc := g.alice.open(g.full("/d/f"), wire.OpenWriteOnly)
		g.alice.write(desc, "F")
		g.alice.close(desc)
	}, []string{"/d"}, false},
	{"begin of a write", func(g *grove) { g.alice.open(g.full("/d/f"), wire.OpenWriteOnly) }, []string{"/d"}, true},
	{"new directory", func(g *grove) { mkdir(g.t, g.b, "/d/new") }, []string{"/d"}, false},
	{"rename", func(g *grove) { g.rename("/d/f", "/d/g") }, []string{"/d"}, false},
	{"move", func(g *grove) { g.rename("/d/f", "/e/f") }, []string{"/d", "/e"}, false},
	{"move of a directory", func(g *grove) { g.rename("/d/sub", "/e/sub") }, []string{"/d", "/e"}, false},
	{"removal", func(g *grove) { g.remove("/d/f", remote.File) }, []string{"/d"}, false},
	{"removal of a directory", func(g *grove) { g.remove("/d/sub/empty", remote.Dir) }, []string{"/d/sub"}, false},
	{"removal of a tree", func(g *grove) { g.check(g.b.RemoveTree(g.t.Context(), "/d/sub")) }, []string{"/d"}, false},
	{"symbolic link", func(g *grove) {
		_, err := g.b.Symlink(g.t.Context(), "/d/link", "f")
		g.check(err)
	}, []string{"/d"}, false},
	{"time set back", func(g *grove) { g.attr("/d/f", remote.Attrs{MTime: ptr(time.Unix(1_400_000_000, 0))}) }, []string{"/d"}, false},
	{"time of a directory", func(g *grove) { g.attr("/d/sub", remote.Attrs{MTime: ptr(time.Unix(1_400_000_000, 0))}) }, []string{"/d"}, false},
	{"mode", func(g *grove) { g.attr("/d/f", remote.Attrs{Mode: ptr(uint32(0o700))}) }, []string{"/d"}, false},
	{"mode that another entry has", func(g *grove) { g.attr("/d/f", remote.Attrs{Mode: ptr(uint32(0o751))}) }, []string{"/d"}, false},
	{"mode of a directory", func(g *grove) { g.attr("/d/sub", remote.Attrs{Mode: ptr(uint32(0o700))}) }, []string{"/d"}, false},
	{"mode by another program", func(g *grove) {
		g.alice.do(markCall(g.full("/d/f"), false, markMode, "0711"))
	}, []string{"/d"}, false},
	{"mode by another program that another entry has", func(g *grove) {
		g.alice.do(markCall(g.full("/d/f"), false, markMode, "0751"))
	}, []string{"/d"}, true},
	{"permission", func(g *grove) { g.alice.grant("read", "alice", g.full("/d/f")) }, []string{"/d"}, true},
	{"permission on a directory", func(g *grove) { g.alice.grant("modify_object", "alice", g.full("/d/sub")) }, []string{"/d"}, true},
	{"unpacked archive", func(g *grove) {
		g.alice.do(&wire.Call{API: wire.APIStructFileExtAndReg, In: &wire.StructFileExtAndRegInp{Path: g.full("/e/tar"), Collection: g.full("/d"),
			Cond: wire.KeyValPair{{Key: wire.KwDataType, Value: "tar file"}}}})
	}, []string{"/d"}, false},
	{"time set back by another program", func(g *grove) {
		call, err := touchCall(g.full("/d/f"), time.Unix(1_400_000_000, 0), anyReplica)
		g.check(err)
		g.alice.do(call)
	}, []string{"/d"}, true},
	{"removal of a replica", func(g *grove) {
		in := input(g.full("/d/twice"), 0, wire.Pair{Key: wire.KwReplNum, Value: "0"}, wire.Pair{Key: wire.KwCopies, Value: "1"})
		g.alice.do(&wire.Call{API: wire.APIDataObjTrim, In: in})
	}, []string{"/d"}, true},
}

// clockwork is a clock that is set.
type clockwork struct{ at atomic.Int64 }

func anHourAgo() *clockwork {
	c := &clockwork{}
	c.set(time.Now().Add(-time.Hour))
	return c
}

func (c *clockwork) time() time.Time   { return time.Unix(c.at.Load(), 0) }
func (c *clockwork) set(now time.Time) { c.at.Store(now.Unix()) }

func ptr[T any](v T) *T { return &v }

// plant makes a tree and returns its mark.
func plant(t *testing.T, z *zone.Zone, b *Backend) (*grove, string) {
	t.Helper()
	g := &grove{t: t, z: z, b: dialSmall(t, options(z, z.Addr())), alice: connect(t, z, "alice")}
	for _, dir := range []string{"/d", "/d/sub", "/d/sub/empty", "/e", "/quiet"} {
		mkdir(t, g.b, dir)
	}
	for _, name := range []string{"/d/f", "/d/twice", "/d/sub/f", "/quiet/f"} {
		put(t, g.b, name, "content", fresh)
	}
	g.alice.replicate(g.full("/d/twice"), "resc2")
	put(t, g.b, "/e/tar", tarred(t, "member", "unpacked"), fresh)
	mustPut(t, g.b, "/d/large", content(2*testPiece, 3), fresh)
	g.attr("/quiet/f", remote.Attrs{Mode: ptr(uint32(0o751))})
	return g, calm(t, b, "/")
}

// TestChanged makes each change and looks at what is told.
func TestChanged(t *testing.T) {
	for _, c := range groveChanges {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := anHourAgo()
			z := startZone(t, zone.Options{Now: clock.time})
			b := dial(t, options(z, z.Addr()))
			g, mark := plant(t, z, b)
			clock.set(time.Now())
			if now := changed(t, b, "/", mark); now.All || len(now.Dirs) > 0 {
				t.Fatalf("without a change %+v is told", now)
			}
			c.do(g)
			wantChanged(t, b, mark, c.want...)
		})
	}
}

// TestChangedLarge does so in a tree with more collections than fingerprints are kept of.
func TestChangedLarge(t *testing.T) {
	for _, c := range groveChanges {
		if c.deep {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clock := anHourAgo()
			z := startZone(t, zone.Options{Now: clock.time})
			b := dial(t, options(z, z.Addr()))
			b.tree = 3
			g, mark := plant(t, z, b)
			if m, ok := readTrackMark(mark, b.full("/")); !ok || !m.large {
				t.Fatalf("%+v: want the mark of a large tree", m)
			}
			clock.set(time.Now())
			c.do(g)
			wantChanged(t, b, mark, c.want...)
		})
	}
}

// TestChangedRequests counts the calls, each time in one round trip.
func TestChangedRequests(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mark := ""
	call := func() { mark = changed(t, b, "/", mark).Mark }
	wantCalls(t, z, "the first mark", map[string]int{"query": 4}, call)
	wantCalls(t, z, "the next one", map[string]int{"query": 4}, call)
	b.tree = 0
	wantCalls(t, z, "a tree that has become large", map[string]int{"query": 4 + 1 + 3}, func() {
		if c := changed(t, b, "/", mark); !c.All {
			t.Errorf("%+v is told", c)
		} else {
			mark = c.Mark
		}
	})
	b.tree = mostColls
	wantCalls(t, z, "a large tree", map[string]int{"query": 6}, call)
	opts := options(z, z.Addr())
	opts.User, opts.Password = "rods", func(context.Context) (remote.Secret, error) { return remote.NewSecret("rods"), nil }
	admin := dial(t, opts)
	wantCalls(t, z, "an administrator's mark", map[string]int{"query": 6}, func() { changed(t, admin, "/", "") })
}

// TestChangedSettles sees that what has changed is told until nothing can hide behind it,
// and no longer.
func TestChangedSettles(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d")
	mark := changed(t, b, "/", "").Mark
	put(t, b, "/d/f", "content", fresh)
	for range 2 {
		c := changed(t, b, "/", mark)
		if !slices.Contains(c.Dirs, "/d") {
			t.Fatalf("%q are told, want /d", c.Dirs)
		}
		mark = c.Mark
	}
	eventually(t, "the end of what is told", func() bool {
		time.Sleep(settling / 2)
		c := changed(t, b, "/", mark)
		mark = c.Mark
		return len(c.Dirs) == 0
	})
	put(t, b, "/d/f", "CONTENT", remote.PutOptions{})
	if c := changed(t, b, "/", mark); !slices.Contains(c.Dirs, "/d") {
		t.Errorf("%q are told, want /d", c.Dirs)
	}
}

// TestChangedMarks uses marks of other clients, other trees and other makers.
func TestChangedMarks(t *testing.T) {
	z := startZone(t, zone.Options{})
	b := dial(t, options(z, z.Addr()))
	mkdir(t, b, "/d", "/d/sub", "/e")
	mark := calm(t, b, "/d")
	put(t, b, "/d/sub/f", "content", fresh)
	put(t, b, "/e/f", "content", fresh)
	again := dial(t, options(z, z.Addr()))
	if c := changed(t, again, "/d", mark); c.All || !slices.Contains(c.Dirs, "/d/sub") || slices.Contains(c.Dirs, "/e") {
		t.Errorf("after a restart %+v is told", c)
	}
	for what, bad := range map[string]string{"another tree": calm(t, b, "/e"), "nobody": "x", "an older version": "AAAA", "a cut": mark[:len(mark)-3]} {
		if c := changed(t, b, "/d", bad); !c.All || c.Mark == "" {
			t.Errorf("with the mark of %s %+v is told, want all", what, c)
		}
	}
	_, err := b.Changed(t.Context(), "/missing", "")
	wantKind(t, err, remote.NotExist, "a tree that is not there")
	if err := b.RemoveTree(t.Context(), "/d"); err != nil {
		t.Fatal(err)
	}
	_, err = b.Changed(t.Context(), "/d", mark)
	wantKind(t, err, remote.NotExist, "a tree that is gone")
}

// TestChangedNames has names that patterns and conditions trip over.
func TestChangedNames(t *testing.T) {
	for _, name := range []string{"it's", "a%b", "a_b", `a\b`, `\x27`, "a||b", "a && b", "ä"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := anHourAgo()
			z := startZone(t, zone.Options{Now: clock.time})
			b := dial(t, options(z, z.Addr()))
			top, other := "/"+name, "/a-b"
			mkdir(t, b, top, other, top+"/"+name)
			mark := calm(t, b, top)
			clock.set(time.Now())
			put(t, b, other+"/f", "content", fresh)
			if c := changed(t, b, top, mark); c.All || len(c.Dirs) > 0 {
				t.Errorf("%+v is told of another tree", c)
			}
			put(t, b, top+"/"+name+"/f", "content", fresh)
			if c := changed(t, b, top, mark); c.All || !slices.Contains(c.Dirs, top+"/"+name) {
				t.Errorf("%+v is told", c)
			}
		})
	}
}
