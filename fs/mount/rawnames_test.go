package mount

import (
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// A name that has passed to another file must not be opened as the old one.
func TestRawReplaced(t *testing.T) {
	b := newBench(t, time.Minute)
	x := b.create(1, "x", rw)
	b.close(x.Fh)
	y := b.create(1, "y", rw)
	b.close(y.Fh)
	b.ok(b.Rename(nil, &fuse.RenameIn{InHeader: at(1), Newdir: 1}, "y", "x"))
	_, st := b.open(x.NodeId, rw)
	b.want("open of the replaced", st, syscall.ESTALE)
	out, st := b.open(y.NodeId, rw)
	b.ok(st)
	b.close(out.Fh)
	if now := b.lookup(1, "x"); now.NodeId != y.NodeId {
		t.Errorf("x is node %d, want %d", now.NodeId, y.NodeId)
	}
	b.want("exchange", b.Rename(nil, &fuse.RenameIn{InHeader: at(1), Newdir: 1, Flags: 2}, "x", "z"), syscall.EINVAL)
	b.mkdir(1, "d")
	b.want("no replace", b.Rename(nil, &fuse.RenameIn{InHeader: at(1), Newdir: 1, Flags: fs.NoReplace}, "x", "d"), syscall.EEXIST)
}

// The same if somebody replaces the file on the server while we have it open: the
// name gets a new node, and the kernel is told.
func TestRawReplacedElsewhere(t *testing.T) {
	b := newBench(t, 0)
	b.put("/f", "old")
	old := b.lookup(1, "f")
	h, st := b.open(old.NodeId, syscall.O_RDONLY)
	b.ok(st)
	b.put("/f", "new and longer")
	_, st = b.open(old.NodeId, syscall.O_RDONLY)
	b.want("open of the old node", st, syscall.ESTALE)
	now := b.lookup(1, "f")
	if now.NodeId == old.NodeId || now.Ino == old.Ino || now.Size != 14 {
		t.Errorf("before %+v, now %+v", old, now)
	}
	again, st := b.open(now.NodeId, syscall.O_RDONLY)
	b.ok(st)
	if got := b.read(again.Fh, 100); got != "new and longer" {
		t.Errorf("read %q", got)
	}
	var attr fuse.AttrOut
	b.ok(b.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(old.NodeId)}, &attr))
	if attr.Size != 3 {
		t.Errorf("size of the open old file: %d", attr.Size)
	}
	_, st = b.Read(nil, &fuse.ReadIn{Fh: h.Fh}, make([]byte, 10))
	b.want("read of what is no more", st, syscall.ESTALE)
	entry := "entry 1 f"
	for deadline := time.Now().Add(4 * time.Minute); !slices.Contains(b.kernel.heard(), entry); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the kernel was told %q", b.kernel.heard())
		}
	}
	b.close(h.Fh)
	b.close(again.Fh)
}

// A lookup that is under way when a rename comes must not give the object its old
// name back.
func TestRawLookupCrossesRename(t *testing.T) {
	b := newBench(t, 0)
	x := b.create(1, "x", rw)
	b.close(x.Fh)
	resume := b.faults.Stall()
	var all sync.WaitGroup
	all.Go(func() {
		in := at(1)
		var out fuse.EntryOut
		if st := b.Lookup(nil, &in, "x", &out); st != fuse.OK || out.NodeId != x.NodeId {
			t.Errorf("lookup: %v, %+v", st, out)
		}
	})
	for b.held() == 0 {
		time.Sleep(time.Millisecond)
	}
	all.Go(func() {
		if st := b.Rename(nil, &fuse.RenameIn{InHeader: at(1), Newdir: 1}, "x", "y"); st != fuse.OK {
			t.Errorf("rename: %v", st)
		}
	})
	untilWaiting(t, b.tree, 1)
	resume()
	all.Wait()
	wantPath(t, b.tree, b.tree.node(x.NodeId), "/y")
	in := at(1)
	b.want("the old name", b.Lookup(nil, &in, "x", &fuse.EntryOut{}), syscall.ENOENT)
	if out := b.lookup(1, "y"); out.NodeId != x.NodeId {
		t.Errorf("y is node %d, want %d", out.NodeId, x.NodeId)
	}
}

// held counts the shared holds.
func (b *bench) held() int {
	b.tree.mu.Lock()
	defer b.tree.mu.Unlock()
	return len(b.tree.holds.shared)
}

func TestRawSymlink(t *testing.T) {
	b := newBench(t, time.Minute)
	in := at(1)
	var out fuse.EntryOut
	b.ok(b.Symlink(nil, &in, "../some where", "l", &out))
	if out.Mode != syscall.S_IFLNK|0o777 || out.Size != 13 {
		t.Errorf("%+v", out)
	}
	l := at(out.NodeId)
	if target, st := b.Readlink(nil, &l); st != fuse.OK || string(target) != "../some where" {
		t.Errorf("%q, %v", target, st)
	}
	f := b.create(1, "f", rw)
	b.close(f.Fh)
	l = at(f.NodeId)
	_, st := b.Readlink(nil, &l)
	b.want("readlink of a file", st, syscall.EINVAL)
	b.faults.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
		{Ops: []remote.Op{remote.OpSymlink}, Fault: remotetest.FaultError, Kind: remote.Unsupported}}})
	b.want("symlink on a server without", b.Symlink(nil, &in, "x", "m", &out), syscall.EPERM)
}

// A directory that was removed still has attributes for those who are in it.
func TestRawRemovedDirectory(t *testing.T) {
	b := newBench(t, time.Minute)
	d := b.mkdir(1, "d")
	in := at(1)
	b.ok(b.Rmdir(nil, &in, "d"))
	var attr fuse.AttrOut
	b.ok(b.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(d.NodeId)}, &attr))
	if attr.Mode != syscall.S_IFDIR|0o755 || attr.Nlink != 0 || attr.Ino != d.Ino {
		t.Errorf("%+v", attr)
	}
	inD := at(d.NodeId)
	var out fuse.EntryOut
	b.want("lookup in it", b.Lookup(nil, &inD, "x", &out), syscall.ESTALE)
}

func TestRawRefused(t *testing.T) {
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw)
	b.close(f.Fh)
	var entry fuse.EntryOut
	b.want("link", b.Link(nil, &fuse.LinkIn{InHeader: at(1), Oldnodeid: f.NodeId}, "l", &entry), syscall.EPERM)
	for _, kind := range []uint32{syscall.S_IFIFO, syscall.S_IFSOCK, syscall.S_IFCHR, syscall.S_IFBLK} {
		b.want("mknod", b.Mknod(nil, &fuse.MknodIn{InHeader: at(1), Mode: kind | 0o644}, "n", &entry), syscall.EPERM)
	}
	b.ok(b.Mknod(nil, &fuse.MknodIn{InHeader: at(1), Mode: syscall.S_IFREG | 0o600}, "n", &entry))
	if b.stored("/n") != "" || entry.Mode != syscall.S_IFREG|0o600 {
		t.Errorf("mknod of a file: %+v", entry)
	}
	b.want("access", b.Access(nil, &fuse.AccessIn{}), syscall.ENOSYS)
	b.want("tmpfile", b.Tmpfile(nil, &fuse.CreateIn{}, &fuse.CreateOut{}), syscall.ENOSYS)
	b.want("ioctl", b.Ioctl(nil, &fuse.IoctlIn{}, nil, nil, nil), syscall.ENOTTY)
	b.want("setxattr", b.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: at(f.NodeId)}, "user.x", nil), syscall.EOPNOTSUPP)
}
