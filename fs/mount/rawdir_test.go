package mount

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// readDir reads one answer of the open directory fh.
func (b *bench) readDir(fh, off uint64, room int) []fuse.DirEntry {
	b.t.Helper()
	out := fuse.NewDirEntryList(make([]byte, room), off)
	b.ok(b.ReadDir(nil, &fuse.ReadIn{Fh: fh, Offset: off}, out))
	entries, err := fuse.ParseDirEntries(out.Bytes())
	if err != nil {
		b.t.Fatal(err)
	}
	return entries
}

// readDirPlus is the same with attributes.
func (b *bench) readDirPlus(fh, off uint64, room int) ([]fuse.DirEntry, []fuse.EntryOut) {
	b.t.Helper()
	out := fuse.NewDirEntryList(make([]byte, room), off)
	b.ok(b.ReadDirPlus(nil, &fuse.ReadIn{Fh: fh, Offset: off}, out))
	entries, attrs, err := fuse.ParseDirLookupEntries(out.Bytes())
	if err != nil {
		b.t.Fatal(err)
	}
	return entries, attrs
}

func (b *bench) opendir(id uint64) uint64 {
	b.t.Helper()
	var out fuse.OpenOut
	b.ok(b.OpenDir(nil, &fuse.OpenIn{InHeader: at(id)}, &out))
	return out.Fh
}

// fill makes n files behind the mount's back.
func (b *bench) fill(dir string, n int) {
	b.t.Helper()
	for i := range n {
		b.put(fmt.Sprintf("%s/%d", dir, i), "text")
	}
}

func TestRawReadDir(t *testing.T) {
	b := newBench(t, time.Minute)
	d := b.mkdir(1, "d")
	b.fill("/d", 100)
	b.raw = newRaw(t.Context(), newCore(t, b.back, time.Minute), b.log.logger()) // that knows nothing yet
	d = b.lookup(1, "d")
	fh := b.opendir(d.NodeId)
	seen := map[string]uint64{}
	var off uint64
	for {
		got := b.readDir(fh, off, 1000)
		if len(got) == 0 {
			break
		}
		for _, e := range got {
			if _, twice := seen[e.Name]; twice {
				t.Errorf("%s came twice", e.Name)
			}
			seen[e.Name] = e.Ino
			off = e.Off
		}
	}
	if len(seen) != 102 || seen["."] != d.Ino || seen[".."] != 1 {
		t.Errorf("%d entries, . is %d, .. is %d", len(seen), seen["."], seen[".."])
	}
	if f := b.lookup(d.NodeId, "7"); seen["7"] != f.Ino {
		t.Errorf("inode of 7 is %d in the listing and %d by lookup", seen["7"], f.Ino)
	}
	// telldir and seekdir
	for _, off := range []uint64{50, 3, 101, 1} {
		if got := b.readDir(fh, off, 100); len(got) == 0 || got[0].Off != off+1 {
			t.Errorf("after %d: %v", off, got)
		}
	}
	b.ReleaseDir(&fuse.ReleaseIn{Fh: fh})
}

func TestRawReadDirPlus(t *testing.T) {
	b := newBench(t, time.Minute)
	b.fill("", 20)
	fh := b.opendir(1)
	entries, attrs := b.readDirPlus(fh, 0, 1<<16)
	for i, e := range entries {
		a := attrs[i]
		if e.Name == "." || e.Name == ".." {
			if a.NodeId != 0 {
				t.Errorf("%s counts as a lookup", e.Name)
			}
			continue
		}
		if a.NodeId < 2 || a.Attr.Size != 4 || a.AttrTimeout() < 50*time.Second || a.Ino != e.Ino {
			t.Errorf("%s: %+v", e.Name, a)
		}
		// The kernel holds one reference for it, like for a lookup.
		b.Forget(a.NodeId, 1)
		if b.tree.node(a.NodeId) != nil {
			t.Errorf("%s is known after the forget", e.Name)
		}
	}
	if len(entries) != 22 {
		t.Errorf("%d entries", len(entries))
	}
	// What the kernel asks for again it was told of before.
	if _, again := b.readDirPlus(fh, 10, 1<<16); len(again) != 12 || again[0].NodeId != 0 {
		t.Errorf("again: %d entries, %+v", len(again), again[0])
	}
}

// The attributes of a listing are those of its time. After a change through the
// mount they must not go to the kernel, which would take them for new.
func TestRawReadDirPlusStale(t *testing.T) {
	for name, change := range map[string]func(b *bench, id, fh uint64){
		"unlink": func(b *bench, _, _ uint64) { in := at(1); b.ok(b.Unlink(nil, &in, "3")) },
		"create": func(b *bench, _, _ uint64) { b.close(b.create(1, "new", rw).Fh) },
		"rename": func(b *bench, _, _ uint64) {
			b.ok(b.Rename(nil, &fuse.RenameIn{InHeader: at(1), Newdir: 1}, "3", "4"))
		},
		"write": func(b *bench, _, fh uint64) { b.write(fh, 0, "longer than before", 0); b.close(fh) },
		"chmod": func(b *bench, id, _ uint64) {
			b.ok(b.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{
				InHeader: at(id), Valid: fuse.FATTR_MODE, Mode: 0o600}}, &fuse.AttrOut{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, time.Minute)
			b.fill("", 10)
			b.mkdir(1, "sub")
			id := b.lookup(1, "5").NodeId
			f, st := b.open(id, rw)
			b.ok(st)
			dir := b.opendir(1)
			change(b, id, f.Fh)
			_, attrs := b.readDirPlus(dir, 0, 1<<16)
			for _, a := range attrs {
				if a.NodeId != 0 {
					t.Fatalf("told of %+v", a)
				}
			}
			// From the start it is another listing, and up to date.
			entries, attrs := b.readDirPlus(dir, 0, 1<<16)
			told := map[string]fuse.EntryOut{}
			for i, e := range entries {
				told[e.Name] = attrs[i]
			}
			for name, a := range told {
				if name == "." || name == ".." {
					continue
				}
				if now := b.lookup(1, name); now.NodeId != a.NodeId || now.Size != a.Size || now.Mode != a.Mode {
					t.Errorf("%s: %+v, by lookup %+v", name, a, now)
				}
			}
			if name == "unlink" && slices.Contains(slices.Collect(maps.Keys(told)), "3") {
				t.Error("the unlinked file is still listed")
			}
		})
	}
}

// An open file's size is what was written, not what the listing says.
func TestRawReadDirPlusOpenFile(t *testing.T) {
	b := newBench(t, time.Minute)
	b.put("/f", "text")
	f, st := b.open(b.lookup(1, "f").NodeId, rw)
	b.ok(st)
	dir := b.opendir(1)
	b.write(f.Fh, 0, "longer than before", 0)
	entries, attrs := b.readDirPlus(dir, 0, 1<<16)
	i := slices.IndexFunc(entries, func(e fuse.DirEntry) bool { return e.Name == "f" })
	if i < 0 || attrs[i].NodeId == 0 || attrs[i].Size != 18 {
		t.Errorf("%v %+v", entries, attrs)
	}
	b.close(f.Fh)
}

func TestRawReadDirErrors(t *testing.T) {
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw)
	b.close(f.Fh)
	var out fuse.OpenOut
	b.want("opendir of a file", b.OpenDir(nil, &fuse.OpenIn{InHeader: at(f.NodeId)}, &out), syscall.ENOTDIR)
	d := b.mkdir(1, "d")
	fh := b.opendir(d.NodeId)
	if got := b.readDir(fh, 0, 1000); len(got) != 2 {
		t.Errorf("an empty directory has %v", got)
	}
	in := at(1)
	b.ok(b.Rmdir(nil, &in, "d"))
	list := fuse.NewDirEntryList(make([]byte, 1000), 0)
	b.want("rewind of a removed directory", b.ReadDir(nil, &fuse.ReadIn{Fh: fh}, list), syscall.ESTALE)
	b.ReleaseDir(&fuse.ReleaseIn{Fh: fh})
	b.want("readdir after close", b.ReadDir(nil, &fuse.ReadIn{Fh: fh}, list), syscall.EBADF)
}

// A listing does not make ever more nodes.
func TestRawReadDirPlusLimit(t *testing.T) {
	b := newBench(t, time.Minute)
	b.plusLimit = 50
	b.fill("", 100)
	entries, attrs := b.readDirPlus(b.opendir(1), 0, 1<<16)
	told := 0
	for _, a := range attrs {
		if a.NodeId != 0 {
			told++
		}
	}
	if len(entries) != 102 || told != 49 || b.tree.size() != 50 {
		t.Errorf("%d entries, %d with attributes, %d nodes", len(entries), told, b.tree.size())
	}
	if e := b.lookup(1, "99"); e.NodeId == 0 {
		t.Error("a lookup is refused")
	}
}
