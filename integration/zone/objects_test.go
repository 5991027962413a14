package zone

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

const (
	createFlags = wire.OpenReadWrite | wire.OpenCreate
	openNone    = wire.CodeObjectNotExist
)

// token asks for the replica token of a descriptor.
func (c *client) token(fd int) (token, hier string) {
	c.t.Helper()
	in, err := wire.NewJSON(map[string]int{"fd": fd})
	if err != nil {
		c.t.Fatal(err)
	}
	var out wire.BinBytesBuf
	c.call(&wire.Call{API: wire.APIGetFileDescInfo, In: in, Out: &out}, 0)
	var info struct {
		Token  string `json:"replica_token"`
		Object struct {
			Hier string `json:"resource_hierarchy"`
		} `json:"data_object_info"`
	}
	if err := out.JSON(&info); err != nil {
		c.t.Fatal(err)
	}
	return info.Token, info.Object.Hier
}

func (c *client) json(api int, in any, want int) {
	c.t.Helper()
	m, err := wire.NewJSON(in)
	if err != nil {
		c.t.Fatal(err)
	}
	c.do(api, m, want)
}

func (c *client) seek(fd int, off int64, whence int) int64 {
	c.t.Helper()
	var out wire.FileLseekOut
	c.call(&wire.Call{API: wire.APIDataObjLseek, In: &wire.OpenedDataObjInp{Desc: fd, Offset: off, Whence: whence}, Out: &out}, 0)
	return out.Offset
}

// replicas returns number, status, size and resource of each replica.
func (c *client) replicas(name string) string {
	c.t.Helper()
	var all []string
	for _, r := range c.query([]int{wire.ColReplNum, wire.ColReplStatus, wire.ColDataSize, wire.ColDataRescName},
		wire.Where{Column: wire.ColDataName, Cond: wire.Equal(name)}) {
		all = append(all, strings.Join(r, " "))
	}
	return strings.Join(all, ", ")
}

// TestLock checks who is locked out while an object is written.
func TestLock(t *testing.T) {
	z := start(t, nil)
	a, b := dial(t, z, "rods", "rods"), dial(t, z, "rods", "rods")
	path := z.Home("rods") + "/f"
	a.put(path, "old")
	reader := b.open(path, wire.OpenReadOnly)
	fd := a.open(path, wire.OpenWriteOnly)
	a.write(fd, "new content")
	for _, c := range []*client{a, b} {
		c.openFails(path, wire.OpenReadOnly, wire.CodeHierarchy)
		c.openFails(path, wire.OpenReadWrite, wire.CodeHierarchy)
	}
	b.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: path}, wire.CodeObjectLocked)
	other := wire.DataObjInp{Path: path + "2"}
	b.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: path}, Dst: other}, wire.CodeObjectLocked)
	if got := b.stat(path); got.Size != 3 {
		t.Errorf("size %d while writing", got.Size)
	}
	if got := b.replicas("f"); got != "0 2 3 demoResc" {
		t.Errorf("replicas %s", got)
	}
	b.do(wire.APIDataObjRename, &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: path, OprType: 11}, Dst: other}, 0)
	if _, err := a.Call(t.Context(), &wire.Call{API: wire.APIDataObjRead, In: &wire.OpenedDataObjInp{Desc: fd, Len: 1}, Into: make([]byte, 1)}); wire.CodeOf(err) != -512009 {
		t.Errorf("read of a write-only descriptor: %v", err)
	}
	a.close(fd)
	if got := b.get(path + "2"); got != "new content" {
		t.Errorf("content %q", got)
	}
	if got := b.read(reader); got != "new content" {
		t.Errorf("the old reader reads %q", got)
	}
	a.do(wire.APIDataObjClose, &wire.OpenedDataObjInp{Desc: fd}, int(closedTwice))
	a.do(wire.APIDataObjClose, &wire.OpenedDataObjInp{Desc: 2}, wire.CodeDescriptorRange)
	a.do(wire.APIDataObjWrite, &wire.OpenedDataObjInp{Desc: fd}, int(descClosed))
}

// TestParallelWrite writes with several connections by the token of the first one.
func TestParallelWrite(t *testing.T) {
	z := start(t, nil)
	path := z.Home("rods") + "/big"
	first := dial(t, z, "rods", "rods")
	fd := first.open(path, createFlags, wire.Pair{Key: wire.KwRegChecksum})
	token, hier := first.token(fd)
	second := dial(t, z, "rods", "rods")
	second.openFails(path, wire.OpenReadWrite, wire.CodeHierarchy, wire.Pair{Key: wire.KwReplicaToken, Value: token})
	second.openFails(path, wire.OpenReadWrite, wire.CodeIntermediate, wire.Pair{Key: wire.KwReplicaToken, Value: "wrong"}, wire.Pair{Key: wire.KwRescHier, Value: hier})
	second.openFails(path, wire.OpenReadWrite, wire.CodeNoSuchReplica, wire.Pair{Key: wire.KwReplicaToken, Value: token}, wire.Pair{Key: wire.KwRescHier, Value: "resc2"})
	fd2 := second.open(path, wire.OpenReadWrite, wire.Pair{Key: wire.KwReplicaToken, Value: token}, wire.Pair{Key: wire.KwRescHier, Value: hier})
	if at := second.seek(fd2, 5, 0); at != 5 {
		t.Fatalf("seek to %d", at)
	}
	second.write(fd2, "world")
	second.json(wire.APIReplicaClose, map[string]any{"fd": fd2, "update_size": false, "update_status": false}, 0)
	first.openFails(path, wire.OpenReadOnly, wire.CodeHierarchy)
	first.write(fd, "hello")
	first.close(fd)
	if got := second.get(path); got != "helloworld" {
		t.Errorf("content %q", got)
	}
	sum := sha256.Sum256([]byte("helloworld"))
	if got := second.stat(path); got.Checksum != "sha2:"+base64.StdEncoding.EncodeToString(sum[:]) || got.Size != 10 {
		t.Errorf("stat %+v", got)
	}
}

// TestDeath hangs up in the middle of writing.
func TestDeath(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	c.put(home+"/old", "old content")
	c.put(home+"/two", "same")
	c.do(wire.APIDataObjRepl, &wire.DataObjInp{Path: home + "/two", Cond: wire.KeyValPair{{Key: wire.KwDestRescName, Value: "resc2"}}}, 0)
	victim := dial(t, z, "rods", "rods")
	victim.write(victim.open(home+"/new", createFlags), "half")
	victim.write(victim.open(home+"/old", wire.OpenReadWrite), "X")
	victim.write(victim.open(home+"/two", wire.OpenReadWrite), "X")
	if got := c.replicas("two"); got != "0 2 4 demoResc, 1 4 4 resc2" {
		t.Errorf("while writing: %s", got)
	}
	_ = victim.Close()
	waitFor(t, func() bool { return z.Agents() == 1 })
	for name, want := range map[string]string{
		"new": "0 0 4 demoResc", "old": "0 0 11 demoResc", "two": "0 0 4 demoResc, 1 1 4 resc2",
	} {
		if got := c.replicas(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]string{"new": "half", "old": "Xld content", "two": "same"} {
		if got := c.get(home + "/" + name); got != want {
			t.Errorf("%s reads %q, want %q", name, got, want)
		}
	}
}

// TestSecondWriterDies hangs up a writer that has joined by token: the object is stale and
// no longer locked, though the first writer goes on; that one's close makes it good.
func TestSecondWriterDies(t *testing.T) {
	z := start(t, nil)
	path := z.Home("rods") + "/big"
	first, second, other := dial(t, z, "rods", "rods"), dial(t, z, "rods", "rods"), dial(t, z, "rods", "rods")
	fd := first.open(path, createFlags)
	token, hier := first.token(fd)
	fd2 := second.open(path, wire.OpenReadWrite, wire.Pair{Key: wire.KwReplicaToken, Value: token}, wire.Pair{Key: wire.KwRescHier, Value: hier})
	second.write(fd2, "half")
	_ = second.Close()
	waitFor(t, func() bool { return z.Agents() == 2 })
	if got := other.replicas("big"); !strings.HasPrefix(got, "0 0 ") || other.get(path) != "half" {
		t.Errorf("after the death of the second writer: %s", got)
	}
	first.write(fd, "whole")
	first.close(fd)
	if got := other.replicas("big"); got != "0 1 5 demoResc" || other.get(path) != "whole" {
		t.Errorf("after the close of the first writer: %s", got)
	}
}

// TestReplicas copies to another resource, writes, and removes a replica.
func TestReplicas(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	path := z.Home("rods") + "/f"
	c.put(path, "one")
	on := func(resc string) *wire.DataObjInp {
		return &wire.DataObjInp{Path: path, Cond: wire.KeyValPair{{Key: wire.KwDestRescName, Value: resc}}}
	}
	c.do(wire.APIDataObjRepl, on("nowhere"), int(noResource))
	c.do(wire.APIDataObjRepl, on("resc2"), 0)
	c.do(wire.APIDataObjRepl, on("resc2"), wire.CodeNotAllowed)
	fd := c.open(path, wire.OpenReadWrite, wire.Pair{Key: wire.KwRescName, Value: "resc2"})
	c.write(fd, "two")
	c.close(fd)
	if got := c.replicas("f"); got != "0 0 3 demoResc, 1 1 3 resc2" {
		t.Errorf("replicas %s", got)
	}
	if got := c.get(path); got != "two" {
		t.Errorf("the good replica reads %q", got)
	}
	stale := c.open(path, wire.OpenReadOnly, wire.Pair{Key: wire.KwRescName, Value: "demoResc"})
	if got := c.read(stale); got != "one" {
		t.Errorf("the stale replica reads %q", got)
	}
	fd = c.open(path, wire.OpenReadWrite) // and nothing written
	c.close(fd)
	if got := c.replicas("f"); got != "0 0 3 demoResc, 1 1 3 resc2" {
		t.Errorf("after nothing was written: %s", got)
	}
	trim := &wire.DataObjInp{Path: path, Cond: wire.KeyValPair{{Key: wire.KwReplNum, Value: "1"}}}
	c.do(wire.APIDataObjTrim, trim, wire.CodeNotAllowed)
	c.do(wire.APIDataObjRepl, on("demoResc"), 0)
	c.do(wire.APIDataObjTrim, trim, 1)
	if got := c.replicas("f"); got != "0 1 3 demoResc" {
		t.Errorf("replicas %s", got)
	}
}

// TestOpenErrors checks the codes of what cannot be opened or made.
func TestOpenErrors(t *testing.T) {
	z := start(t, func(o *Options) { o.MaxDescriptors = 4 })
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	c.mkdir(home+"/d", 0)
	c.put(home+"/f", "x")
	long := strings.Repeat("n", 256)
	for _, x := range []struct {
		path        string
		flags, want int
	}{
		{home + "/none", wire.OpenReadOnly, openNone},
		{home + "/none/f", createFlags, wire.CodeUnknownCollection},
		{home + "/d", createFlags, wire.CodeExistsAsCollection},
		{home + "/d", wire.OpenReadOnly, openNone},
		{home + "/f", createFlags | wire.OpenExclusive, -510017},
		{home + "/f", wire.OpenReadOnly | wire.OpenTruncate, wire.CodeOpenFlags},
		{home + "/" + long, createFlags, -511036},
		{home + strings.Repeat("/"+long[:200], 6), createFlags, wire.CodePackInput},
		{home + "/\xff\xfe", createFlags, wire.CodeCatalogSQL},
		{home + "/../x", createFlags, wire.CodeInputPath},
		{home + "//x", createFlags, wire.CodeInputPath},
		{"x", createFlags, wire.CodeInputPath},
	} {
		c.openFails(x.path, x.flags, x.want)
	}
	c.openFails(home+"/g", createFlags, int(noResource), wire.Pair{Key: wire.KwDestRescName, Value: "nowhere"})
	for range 4 {
		c.open(home+"/f", wire.OpenReadOnly)
	}
	c.openFails(home+"/f", wire.OpenReadOnly, -510024)
}

// TestReadWrite checks offsets, holes, append and truncation.
func TestReadWrite(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	path := z.Home("rods") + "/f"
	c.put(path, "0123456789")
	fd := c.open(path, wire.OpenReadOnly)
	if at := c.seek(fd, 1<<30, 0); at != 10 {
		t.Errorf("a reader's seek goes to %d", at)
	}
	if at := c.seek(fd, -3, 2); at != 7 || c.read(fd) != "789" || c.read(fd) != "" {
		t.Errorf("seek to %d", at)
	}
	c.close(fd)
	fd = c.open(path, wire.OpenReadWrite)
	if at := c.seek(fd, 20, 0); at != 20 {
		t.Errorf("a writer's seek goes to %d", at)
	}
	c.write(fd, "end")
	c.close(fd)
	if got := c.get(path); got != "0123456789\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00end" {
		t.Errorf("content %q", got)
	}
	fd = c.open(path, wire.OpenReadWrite|wire.OpenAppend)
	c.write(fd, "+")
	c.close(fd)
	for _, size := range []int64{2, 5} {
		c.do(wire.APIReplicaTruncate, &wire.DataObjInp{Path: path, DataSize: size}, 0)
	}
	if got := c.get(path); got != "01\x00\x00\x00" || c.stat(path).Size != 5 {
		t.Errorf("content %q", got)
	}
	c.do(wire.APIDataObjTruncate, &wire.DataObjInp{Path: path, DataSize: 1}, 0)
	in := &wire.DataObjInp{Path: path, Cond: wire.KeyValPair{{Key: wire.KwForce}}}
	fd = c.call(&wire.Call{API: wire.APIDataObjCreate, In: in}, 0).Status
	c.close(fd)
	if got := c.get(path); got != "" {
		t.Errorf("content %q after a forced create", got)
	}
}

// TestPutChecksum puts with right and wrong checksums.
func TestPutChecksum(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	put := func(path, sum string, want int) {
		in := &wire.DataObjInp{Path: path, OprType: wire.OprPut, Cond: wire.KeyValPair{{Key: wire.KwDataIncluded}, {Key: wire.KwVerifyChecksum, Value: sum}}}
		c.call(&wire.Call{API: wire.APIDataObjPut, In: in, Data: []byte("hello capture")}, want)
	}
	const right = "sha2:W+tfCun0n5QVEUWMvK6sm9DIzr4eoo9uV9NjlO3rlcM="
	put(z.Home("rods")+"/good", right, 0)
	put(z.Home("rods")+"/md5", "9d9f8ab3b5b6dd98c6e5ff4a30b4bb4c", wire.CodeChecksum)
	put(z.Home("rods")+"/bad", "sha2:AAAA", wire.CodeChecksum)
	for _, name := range []string{"good", "bad"} {
		if got := c.stat(z.Home("rods") + "/" + name); got.Checksum != right || got.Size != 13 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	c.put(z.Home("rods")+"/good", "changed")
	if got := c.stat(z.Home("rods") + "/good"); got.Checksum != "" {
		t.Errorf("the old checksum stays: %+v", got)
	}
}

// TestRename checks the two steps of a rename and what is in its way.
func TestRename(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	rename := func(from, to string, opr, want int, cond ...wire.Pair) {
		t.Helper()
		c.do(wire.APIDataObjRename, &wire.DataObjCopyInp{
			Src: wire.DataObjInp{Path: home + from, OprType: opr, Cond: cond}, Dst: wire.DataObjInp{Path: home + to, OprType: opr},
		}, want)
	}
	force := wire.Pair{Key: wire.KwForce}
	for _, d := range []string{"/a", "/b", "/a/sub"} {
		c.mkdir(home+d, 0)
	}
	c.put(home+"/a/x", "x")
	c.put(home+"/a/y", "y in a")
	c.put(home+"/b/z", "z")
	rename("/a/x", "/b/y", 0, wire.CodeExistsAsObject) // y is in the old collection
	rename("/a/x", "/b/z", 0, wire.CodeExistsAsObject)
	rename("/a/x", "/b/z", 11, wire.CodeExistsAsObject, force)
	id := c.stat(home + "/a/x").ID
	rename("/a/x", "/b/z", 0, 0, force)
	if got := c.get(home + "/b/z"); got != "x" || c.stat(home+"/b/z").ID != id {
		t.Errorf("content %q", got)
	}
	rename("/b/z", "/a", 0, wire.CodeExistsAsCollection, force)
	rename("/b/z", "/b/z", 0, wire.CodeSamePaths)
	rename("/b/none", "/b/q", 11, wire.CodeNoRows)
	rename("/b/none", "/b/q", 0, wire.CodeNoRows)
	rename("/b/z", "/none/q", 0, wire.CodeUnknownCollection)
	rename("/a", "/a/sub/deep", 0, int(recursiveMove))
	rename("/a", "/b", 0, wire.CodeExistsAsCollection, force)
	rename("/a", "/b/a2", 12, 0)
	if got := c.get(home + "/b/a2/y"); got != "y in a" {
		t.Errorf("content %q", got)
	}
	c.do(wire.APIObjStat, &wire.DataObjInp{Path: home + "/a"}, wire.CodeNotExist)
}

// TestTrash removes into the trash and out of it.
func TestTrash(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	home, trash := z.Home("rods"), "/tempZone/trash/home/rods"
	for range 2 {
		c.mkdir(home+"/d", 0)
		c.put(home+"/d/f", "x")
		c.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: home + "/d/f"}, 0)
		c.put(home+"/d/g", "x")
		c.do(wire.APIRmColl, &wire.CollInp{Name: home + "/d"}, wire.CodeCollectionNotEmpty)
		c.do(wire.APIRmColl, &wire.CollInp{Name: home + "/d", Cond: wire.KeyValPair{{Key: wire.KwRecursive}}}, 0)
	}
	rows := c.query([]int{wire.ColCollName, wire.ColDataName}, wire.Where{Column: wire.ColCollName, Cond: wire.Like(trash + "%")})
	if len(rows) != 4 {
		t.Errorf("trash holds %v", rows)
	}
	c.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: trash + "/d/f", Cond: wire.KeyValPair{{Key: wire.KwRmTrash}}}, 0)
	c.do(wire.APIObjStat, &wire.DataObjInp{Path: trash + "/d/f"}, wire.CodeNotExist)
	c.mkdir(home+"/empty", 0)
	c.do(wire.APIRmColl, &wire.CollInp{Name: home + "/empty"}, 0)
	c.do(wire.APIObjStat, &wire.DataObjInp{Path: trash + "/empty"}, wire.CodeNotExist) // gone for good
	c.put(home+"/g", "x")
	c.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: home + "/g", Cond: wire.KeyValPair{{Key: wire.KwRmTrash}}}, int(notInTrash))
	c.do(wire.APIRmColl, &wire.CollInp{Name: home, Cond: wire.KeyValPair{{Key: wire.KwRecursive}, {Key: wire.KwForce}}}, int(homeNotEmpty))
}

// TestRemoveTree removes many objects; progress must be answered.
func TestRemoveTree(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	top := z.Home("rods") + "/top"
	c.mkdir(top, 0)
	c.mkdir(top+"/sub", 0)
	for i := range 25 {
		c.put(fmt.Sprintf("%s/sub/f%d", top, i), "x")
	}
	var seen []int
	var out wire.CollOprStat
	in := &wire.CollInp{Name: top, Cond: wire.KeyValPair{{Key: wire.KwRecursive}, {Key: wire.KwForce}}}
	c.call(&wire.Call{API: wire.APIRmColl, In: in, Out: &out, OnProgress: func(s wire.CollOprStat) { seen = append(seen, s.Files) }}, 0)
	if fmt.Sprint(seen) != "[10 10]" || out.Files != 5 { // counts start anew
		t.Errorf("progress %v, %+v", seen, out)
	}
	c.do(wire.APIRmColl, in, wire.CodeUnknownCollection)
}

// TestTouch sets times of objects and collections.
func TestTouch(t *testing.T) {
	z := start(t, func(o *Options) { o.Now = func() time.Time { return time.Unix(2_000_000_000, 0) } })
	c := dial(t, z, "rods", "rods")
	home := z.Home("rods")
	touch := func(path string, options map[string]any, want int) {
		c.json(wire.APITouch, map[string]any{"logical_path": path, "options": options}, want)
	}
	c.mkdir(home+"/d", 0)
	touch(home+"/d", map[string]any{"seconds_since_epoch": 5}, 0)
	touch(home+"/f", map[string]any{"seconds_since_epoch": 1.5}, 0)
	touch(home+"/none", map[string]any{"no_create": true}, 0)
	c.do(wire.APIObjStat, &wire.DataObjInp{Path: home + "/none"}, wire.CodeNotExist)
	if d, f := c.stat(home+"/d").ModifyTime, c.stat(home+"/f").ModifyTime; d != "00000000005" || f != "00000000001" {
		t.Errorf("times %s, %s", d, f)
	}
	c.put(home+"/d/child", "")
	if d := c.stat(home + "/d").ModifyTime; d != "02000000000" {
		t.Errorf("a child does not change the time: %s", d)
	}
}

// TestVaultIsClean checks that removed objects leave no bytes.
func TestVaultIsClean(t *testing.T) {
	z := start(t, nil)
	c := dial(t, z, "rods", "rods")
	c.put(z.Home("rods")+"/f", "x")
	c.do(wire.APIDataObjUnlink, &wire.DataObjInp{Path: z.Home("rods") + "/f", Cond: wire.KeyValPair{{Key: wire.KwForce}}}, 0)
	entries, err := os.ReadDir(z.opts.Dir + "/vault/demoResc")
	if err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	log, err := os.ReadFile(z.cat.path())
	if err != nil || !json.Valid(bytes.SplitN(log, []byte("\n"), 2)[0]) {
		t.Errorf("catalog %.80s, %v", log, err)
	}
}
