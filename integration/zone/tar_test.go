package zone

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// archive makes an archive of the headers, whose files hold their own names.
func archive(t *testing.T, headers ...*tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 1000
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, strings.Repeat("0123456789", 100)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name string) *tar.Header { return &tar.Header{Name: name, Typeflag: tar.TypeReg} }

func (c *client) extract(archive, coll string, want int, cond ...wire.Pair) {
	c.t.Helper()
	cond = append(cond, wire.Pair{Key: wire.KwDataType, Value: "tar file"})
	c.do(wire.APIStructFileExtAndReg, &wire.StructFileExtAndRegInp{Path: archive, Collection: coll, Cond: cond}, want)
}

// tree lists objects below a collection with sizes and modes.
func (c *client) tree(top string) string {
	c.t.Helper()
	var all []string
	for _, r := range c.query([]int{wire.ColCollName, wire.ColDataName, wire.ColDataSize, wire.ColDataMode, wire.ColDataChecksum},
		wire.Where{Column: wire.ColCollName, Cond: wire.Like(top + "%")}) {
		all = append(all, strings.TrimPrefix(r[0], top)+"/"+strings.Join(r[1:], " "))
	}
	return strings.Join(all, ", ")
}

// TestExtract unpacks a good archive, plain and compressed.
func TestExtract(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	good := archive(t, &tar.Header{Name: "empty/", Typeflag: tar.TypeDir}, file("d/ä b"), file("d/sub/g"), file("../../up"), file("/abs/x"))
	c.put(home+"/t.tar", string(good))
	c.extract(home+"/t.tar", home+"/out", 0, wire.Pair{Key: wire.KwBulk})
	want := "/abs/x 1000 493 , /d/ä b 1000 493 , /d/sub/g 1000 493 "
	if got := c.tree(home + "/out"); got != want {
		t.Errorf("got %s", got)
	}
	if got := c.stat(home + "/out/empty"); got.Type != wire.TypeCollection {
		t.Errorf("%+v", got)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(good)
	_ = w.Close()
	c.put(home+"/t.tgz", b.String())
	c.extract(home+"/t.tgz", home+"/zip", 0)
	if got := c.tree(home + "/zip"); got != want {
		t.Errorf("got %s", got)
	}
	if got := c.get(home + "/zip/d/sub/g"); len(got) != 1000 {
		t.Errorf("%d bytes", len(got))
	}
	c.extract(home+"/none", home+"/x", openNone)
}

// TestExtractFailures checks the ways in which extraction fails, or should and does not.
func TestExtractFailures(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	three := archive(t, file("a"), file("b"), file("c"))
	c.put(home+"/cut.tar", string(three[:2*1536+512+100])) // in the middle of c's bytes
	c.extract(home+"/cut.tar", home+"/cut", 0)
	if got := c.tree(home + "/cut"); got != "/a 1000 493 , /b 1000 493 , /c 1000 493 " {
		t.Errorf("truncated: %s", got)
	}
	if got := c.get(home + "/cut/c"); strings.Count(got, "\x00") != 900 {
		t.Errorf("the last member of a truncated archive is whole")
	}
	c.put(home+"/three.tar", string(three))
	c.mkdir(home+"/here", 0)
	c.put(home+"/here/b", "mine")
	c.extract(home+"/three.tar", home+"/here", wire.CodeCopyInResource)
	if got := c.tree(home + "/here"); got != "/a 1000 493 , /b 4 420 , /c 1000 493 " {
		t.Errorf("conflict: %s", got)
	}
	c.extract(home+"/three.tar", home+"/here", 0, wire.Pair{Key: wire.KwForce})
	if got := c.get(home + "/here/b"); len(got) != 1000 {
		t.Errorf("forced: %q", got)
	}
	c.put(home+"/link.tar", string(archive(t, file("a"), &tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a"})))
	c.extract(home+"/link.tar", home+"/link", wire.CodeNullInput)
	if got := c.tree(home + "/link"); got != "" {
		t.Errorf("registered before the link: %s", got)
	}
	if n := orphans(t, z); n != 1 {
		t.Errorf("%d orphans", n)
	}
	alice := dial(t, z, "alice", "apass")
	alice.extract(home+"/three.tar", z.Home("alice")+"/x", openNone)
	c.grant("read", "alice", home, 0)
	c.grant("read", "alice", home+"/three.tar", 0)
	alice.extract(home+"/three.tar", home+"/x", wire.CodeNoAccess)
}

// TestExtractGroups checks what one member that cannot be registered does to the others,
// permission bits, and what happens without room and after the death of the agent.
func TestExtractGroups(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	var all []*tar.Header
	for i := range 60 {
		h := file(fmt.Sprintf("f%02d", i))
		h.Mode = 0o7777
		all = append(all, h)
	}
	c.put(home+"/t.tar", string(archive(t, all...)))
	c.mkdir(home+"/a", 0)
	c.mkdir(home+"/a/f07", 0)
	c.extract(home+"/t.tar", home+"/a", wire.CodeExistsAsCollection, wire.Pair{Key: wire.KwBulk})
	if got := strings.Count(c.tree(home+"/a"), " 1000 493"); got != 10 {
		t.Errorf("%d of 60 with the bulk option, one in the first fifty a collection", got)
	}
	c.mkdir(home+"/b", 0)
	c.mkdir(home+"/b/f07", 0)
	c.extract(home+"/t.tar", home+"/b", wire.CodeExistsAsCollection)
	if got := strings.Count(c.tree(home+"/b"), " 1000 493"); got != 59 {
		t.Errorf("%d of 60 one by one", got)
	}
	c.mkdir(home+"/c", 0)
	fd := c.open(home+"/c/f07", wire.OpenReadWrite|wire.OpenCreate, wire.Pair{Key: wire.KwDestRescName, Value: "resc2"})
	c.write(fd, "mine")
	c.close(fd)
	c.extract(home+"/t.tar", home+"/c", wire.CodeExists, wire.Pair{Key: wire.KwBulk})
	if got := c.tree(home + "/c"); strings.Count(got, " 1000 493") != 10 || !strings.Contains(got, "/f07 4 ") {
		t.Errorf("with one on another storage: %s", got)
	}
	z.SetFaults(func(call Call) *Fault {
		if call.API != wire.APIStructFileExtAndReg {
			return nil
		}
		return &Fault{Extraction: Extraction{Room: 2500}}
	})
	c.extract(home+"/t.tar", home+"/full", 0)
	if got := c.get(home + "/full/f02"); strings.Count(got, "\x00") != 500 {
		t.Errorf("%d zeros at the end of the room", strings.Count(got, "\x00"))
	}
	z.SetFaults(func(Call) *Fault { return &Fault{Extraction: Extraction{Members: 20}} })
	in := &wire.StructFileExtAndRegInp{Path: home + "/t.tar", Collection: home + "/dead"}
	if _, err := c.Call(t.Context(), &wire.Call{API: wire.APIStructFileExtAndReg, In: in}); err == nil {
		t.Error("a dead agent has answered")
	}
	z.SetFaults(nil)
	if got := strings.Count(dial(t, z, "rods", "rods").tree(home+"/dead"), " 1000 493"); got != 20 {
		t.Errorf("%d were registered before the agent died", got)
	}
}

// orphans counts directories in the vault.
func orphans(t *testing.T, z *Zone) int {
	t.Helper()
	entries, err := os.ReadDir(z.opts.Dir + "/vault/demoResc")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if e.IsDir() {
			n++
		}
	}
	return n
}

// TestBundle makes an archive on the server and unpacks it again.
func TestBundle(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	c.mkdir(home+"/d", 0)
	c.mkdir(home+"/d/sub", 0)
	for i := range 3 {
		c.put(fmt.Sprintf("%s/d/sub/f%d", home, i), strings.Repeat("x", i))
	}
	in := &wire.StructFileExtAndRegInp{Path: home + "/b.tar", Collection: home + "/d"}
	c.do(wire.APIStructFileBundle, in, 0)
	c.do(wire.APIStructFileBundle, in, wire.CodeOverwriteNoForce)
	c.extract(home+"/b.tar", home+"/again", 0)
	if got := c.tree(home + "/again"); got != "/sub/f0 0 420 , /sub/f1 1 420 , /sub/f2 2 420 " {
		t.Error(got)
	}
	in.Collection = home + "/none"
	c.do(wire.APIStructFileBundle, in, wire.CodeUnknownCollection)
}
