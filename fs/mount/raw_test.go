package mount

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// bench is a raw file system without a kernel.
type bench struct {
	*raw
	t      *testing.T
	back   *memory.Backend
	faults *remotetest.FaultyBackend // before back
	kernel *fakeKernel
	log    *logBuffer
}

func newBench(t *testing.T, ttl time.Duration) *bench {
	t.Helper()
	b := &bench{t: t, back: memory.New(memory.Options{}), kernel: &fakeKernel{}, log: &logBuffer{}}
	b.faults = remotetest.Faulty(b.back, remotetest.Plan{})
	core := newCore(t, b.faults, ttl)
	b.raw = newRaw(t.Context(), core, b.log.logger())
	core.OnInvalidate(b.tell.note)
	b.tell.start(b.kernel)
	t.Cleanup(b.OnUnmount)
	return b
}

func at(id uint64) fuse.InHeader { return fuse.InHeader{NodeId: id} }

// ok fails the test if st is an error.
func (b *bench) ok(st fuse.Status) {
	b.t.Helper()
	if st != fuse.OK {
		b.t.Fatalf("%v\n%s", st, b.log)
	}
}

// want fails the test if st is not errno.
func (b *bench) want(what string, st fuse.Status, errno syscall.Errno) {
	b.t.Helper()
	if st != fuse.Status(errno) {
		b.t.Errorf("%s: %v, want %v", what, st, errno)
	}
}

// put stores a file behind the mount's back.
func (b *bench) put(path, text string) {
	b.t.Helper()
	if _, err := b.back.Put(b.t.Context(), path, source(text), remote.PutOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

type source string

func (s source) Size() int64                  { return int64(len(s)) }
func (s source) Open() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(s))), nil }

// stored returns what the server has.
func (b *bench) stored(path string) string {
	b.t.Helper()
	e, err := b.back.Stat(b.t.Context(), path)
	if err != nil {
		b.t.Fatal(err)
	}
	p := make([]byte, e.Size)
	if _, err := b.back.ReadAt(b.t.Context(), remote.Ref{Path: path, Size: e.Size}, p, 0); err != nil {
		b.t.Fatal(err)
	}
	return string(p)
}

func (b *bench) lookup(parent uint64, name string) fuse.EntryOut {
	b.t.Helper()
	var out fuse.EntryOut
	in := at(parent)
	b.ok(b.Lookup(nil, &in, name, &out))
	return out
}

func (b *bench) create(parent uint64, name string, flags uint32) fuse.CreateOut {
	b.t.Helper()
	var out fuse.CreateOut
	b.ok(b.Create(nil, &fuse.CreateIn{InHeader: at(parent), Flags: flags, Mode: syscall.S_IFREG | 0o644}, name, &out))
	return out
}

func (b *bench) mkdir(parent uint64, name string) fuse.EntryOut {
	b.t.Helper()
	var out fuse.EntryOut
	b.ok(b.Mkdir(nil, &fuse.MkdirIn{InHeader: at(parent), Mode: syscall.S_IFDIR | 0o755}, name, &out))
	return out
}

func (b *bench) open(id uint64, flags uint32) (fuse.OpenOut, fuse.Status) {
	var out fuse.OpenOut
	st := b.Open(nil, &fuse.OpenIn{InHeader: at(id), Flags: flags}, &out)
	return out, st
}

func (b *bench) write(fh uint64, off uint64, text string, flags uint32) {
	b.t.Helper()
	n, st := b.Write(nil, &fuse.WriteIn{Fh: fh, Offset: off, WriteFlags: flags}, []byte(text))
	if b.ok(st); int(n) != len(text) {
		b.t.Fatalf("wrote %d of %d", n, len(text))
	}
}

func (b *bench) read(fh uint64, size int) string {
	b.t.Helper()
	res, st := b.Read(nil, &fuse.ReadIn{Fh: fh}, make([]byte, size))
	b.ok(st)
	p, _ := res.Bytes(nil)
	return string(p)
}

func (b *bench) close(fh uint64) {
	b.t.Helper()
	b.ok(b.Flush(nil, &fuse.FlushIn{Fh: fh}))
	b.Release(nil, &fuse.ReleaseIn{Fh: fh})
}

const rw = syscall.O_RDWR

func TestRawLookup(t *testing.T) {
	b := newBench(t, time.Minute)
	b.put("/f", "hello")
	out := b.lookup(1, "f")
	if out.NodeId < 2 || out.Attr.Size != 5 || out.Attr.Mode != syscall.S_IFREG|0o644 || out.Attr.Nlink != 1 {
		t.Errorf("%+v", out)
	}
	if ttl := out.EntryTimeout(); ttl < 50*time.Second || ttl > time.Minute || out.AttrTimeout() != ttl {
		t.Errorf("time-outs %v and %v", ttl, out.AttrTimeout())
	}
	if again := b.lookup(1, "f"); again.NodeId != out.NodeId || again.Attr.Ino != out.Attr.Ino {
		t.Error("another node for the same file")
	}
	if none := b.lookup(1, "none"); none.NodeId != 0 || none.EntryTimeout() < 50*time.Second {
		t.Errorf("absent: %+v", none)
	}
	in := at(4711)
	b.want("lookup in no directory", b.Lookup(nil, &in, "f", &out), syscall.ESTALE)
	in = at(1)
	b.want("a name with a slash", b.Lookup(nil, &in, "a//b", &out), syscall.EINVAL)
	b.want("dot", b.Lookup(nil, &in, ".", &out), syscall.EINVAL)

	strict := newBench(t, 0)
	strict.want("absent, not to be remembered", strict.Lookup(nil, &in, "none", &out), syscall.ENOENT)
}

func TestRawFile(t *testing.T) {
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw|syscall.O_EXCL)
	b.write(f.Fh, 0, "hello", 0)
	b.write(f.Fh, 5, " world", 0)
	if got := b.read(f.Fh, 100); got != "hello world" {
		t.Errorf("read %q", got)
	}
	b.ok(b.Fsync(nil, &fuse.FsyncIn{Fh: f.Fh}))
	if got := b.stored("/f"); got != "hello world" {
		t.Errorf("after fsync the server has %q", got)
	}
	b.ok(b.Fallocate(nil, &fuse.FallocateIn{Fh: f.Fh, Offset: 0, Length: 13}))
	b.close(f.Fh)
	if got := b.stored("/f"); got != "hello world\x00\x00" {
		t.Errorf("after close the server has %q", got)
	}
	for what, st := range map[string]fuse.Status{
		"flush":   b.Flush(nil, &fuse.FlushIn{Fh: f.Fh}),
		"fsync":   b.Fsync(nil, &fuse.FsyncIn{Fh: f.Fh}),
		"readdir": b.ReadDir(nil, &fuse.ReadIn{Fh: f.Fh}, fuse.NewDirEntryList(nil, 0)),
	} {
		b.want(what+" after close", st, syscall.EBADF)
	}
}

// What the kernel may cache: nothing at first, then what it has, while the version
// stands; and when it does not, size and times must be asked for again.
func TestRawKeepCache(t *testing.T) {
	b := newBench(t, 0)
	b.put("/f", "one")
	id := b.lookup(1, "f").NodeId
	stale := fmt.Sprintf("inode %d -1 0", id)
	flags := func() uint32 {
		t.Helper()
		out, st := b.open(id, syscall.O_RDONLY)
		b.ok(st)
		b.Release(nil, &fuse.ReleaseIn{Fh: out.Fh})
		return out.OpenFlags
	}
	if got := flags(); got != fuse.FOPEN_NOFLUSH || !slices.Contains(b.kernel.heard(), stale) {
		t.Errorf("first open: flags %#x, told %q", got, b.kernel.heard())
	}
	told := len(b.kernel.heard())
	if got := flags(); got != fuse.FOPEN_NOFLUSH|fuse.FOPEN_KEEP_CACHE || len(b.kernel.heard()) != told {
		t.Errorf("second open: flags %#x", got)
	}
	b.put("/f", "another")
	if got := flags(); got != fuse.FOPEN_NOFLUSH || len(b.kernel.heard()) != told+1 {
		t.Errorf("open after a change: flags %#x, told %q", got, b.kernel.heard())
	}
}

func TestRawAppend(t *testing.T) {
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw)
	b.write(f.Fh, 0, "0123456789", 0)
	out, st := b.open(f.NodeId, rw|syscall.O_APPEND)
	b.ok(st)
	b.write(out.Fh, 4, "ab", 0) // the kernel believes that the file has 4 bytes
	b.write(out.Fh, 12, "cd", 0)
	b.write(out.Fh, 0, "X", fuse.WRITE_CACHE) // a page of a mapping
	if got := b.read(out.Fh, 100); got != "X123456789abcd" {
		t.Errorf("read %q", got)
	}
	if got := untilHeard(t, b.kernel, 1); !slices.Contains(got, fmt.Sprintf("inode %d 0 0", f.NodeId)) {
		t.Errorf("told %q", got)
	}
	b.close(out.Fh)
	b.close(f.Fh)
}

func TestRawUnlinked(t *testing.T) {
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw)
	b.write(f.Fh, 0, "hello", 0)
	in := at(1)
	b.ok(b.Unlink(nil, &in, "f"))
	var attr fuse.AttrOut
	b.ok(b.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(f.NodeId)}, &attr))
	if attr.Nlink != 0 || attr.Size != 5 {
		t.Errorf("attributes of the unlinked file: %+v", attr)
	}
	set := fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: at(f.NodeId), Valid: fuse.FATTR_SIZE, Size: 2}}
	b.ok(b.SetAttr(nil, &set, &attr))
	if got := b.read(f.Fh, 100); got != "he" || attr.Size != 2 {
		t.Errorf("after truncation %q, size %d", got, attr.Size)
	}
	b.wantNoXattrs("of the unlinked file", f.NodeId)
	b.close(f.Fh)
	b.want("getattr after close", b.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(f.NodeId)}, &attr), syscall.ESTALE)
	b.want("setattr after close", b.SetAttr(nil, &set, &attr), syscall.ESTALE)
	if _, err := b.back.Stat(t.Context(), "/f"); remote.KindOf(err) != remote.NotExist {
		t.Errorf("on the server: %v", err)
	}
}

func TestRawTruncateAtOpen(t *testing.T) {
	for _, mode := range []uint32{syscall.O_RDONLY, syscall.O_WRONLY, syscall.O_RDWR} {
		b := newBench(t, time.Minute)
		b.put("/f", "hello")
		f := b.lookup(1, "f")
		out, st := b.open(f.NodeId, mode|syscall.O_TRUNC)
		b.ok(st)
		var attr fuse.AttrOut
		b.ok(b.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(f.NodeId)}, &attr))
		b.close(out.Fh)
		if attr.Size != 0 || b.stored("/f") != "" {
			t.Errorf("mode %d: size %d, the server has %q", mode, attr.Size, b.stored("/f"))
		}
	}
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw)
	b.ok(b.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{
		InHeader: at(f.NodeId), Valid: fuse.FATTR_MODE, Mode: 0o4755}}, &fuse.AttrOut{}))
	b.close(f.Fh)
	var out fuse.OpenOut
	b.ok(b.Open(nil, &fuse.OpenIn{InHeader: at(f.NodeId), Flags: rw | syscall.O_TRUNC, Mode: fuse.OPEN_KILL_SUIDGID}, &out))
	var attr fuse.AttrOut
	b.ok(b.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(f.NodeId)}, &attr))
	if attr.Mode&0o7777 != 0o755 {
		t.Errorf("mode %o after truncation by another", attr.Mode)
	}
	b.close(out.Fh)
}

func TestRawSetID(t *testing.T) {
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw)
	var attr fuse.AttrOut
	mode := func(m uint32) {
		t.Helper()
		b.ok(b.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{
			InHeader: at(f.NodeId), Valid: fuse.FATTR_MODE, Mode: m}}, &attr))
		if attr.Mode != syscall.S_IFREG|m {
			t.Fatalf("mode %o, want %o", attr.Mode, m)
		}
	}
	after := func(what string, want uint32) {
		t.Helper()
		b.ok(b.GetAttr(nil, &fuse.GetAttrIn{InHeader: at(f.NodeId)}, &attr))
		if attr.Mode&0o7777 != want {
			t.Errorf("after %s the mode is %o, want %o", what, attr.Mode&0o7777, want)
		}
	}
	mode(0o6755)
	b.write(f.Fh, 0, "x", 0)
	after("a write by root", 0o6755)
	b.write(f.Fh, 0, "x", fuse.WRITE_KILL_SUIDGID)
	after("a write by another", 0o755)
	mode(0o2644)
	b.write(f.Fh, 0, "x", fuse.WRITE_KILL_SUIDGID)
	after("a write with mandatory locking", 0o2644)
	mode(0o4755)
	b.ok(b.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: at(f.NodeId),
		Valid: fuse.FATTR_SIZE | fuse.FATTR_KILL_SUIDGID, Size: 3}}, &attr))
	after("a truncation", 0o755)
	b.close(f.Fh)
	b.want("chown to another", b.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: at(f.NodeId),
		Valid: fuse.FATTR_UID, Owner: fuse.Owner{Uid: 4711}}}, &attr), syscall.EPERM)
	mode(0o4755)
	b.ok(b.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: at(f.NodeId),
		Valid: fuse.FATTR_UID}}, &attr))
	after("chown to oneself", 0o755)
}

// wantNoXattrs wants the attributes of a node to be out of reach.
func (b *bench) wantNoXattrs(what string, id uint64) {
	b.t.Helper()
	in := at(id)
	const name = memory.XattrPrefix + "x"
	_, st := b.GetXAttr(nil, &in, name, nil)
	b.want("getxattr "+what, st, syscall.ESTALE)
	_, st = b.ListXAttr(nil, &in, nil)
	b.want("listxattr "+what, st, syscall.ESTALE)
	b.want("setxattr "+what, b.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: in}, name, nil), syscall.ESTALE)
	b.want("removexattr "+what, b.RemoveXAttr(nil, &in, name), syscall.ESTALE)
}

// A name that has passed to another file on the server gives nothing of that to who
// has the old one open.
func TestRawXattrReplaced(t *testing.T) {
	b := newBench(t, 0)
	b.put("/f", "old")
	f := b.lookup(1, "f")
	out, st := b.open(f.NodeId, syscall.O_RDONLY)
	b.ok(st)
	b.put("/f", "another")
	now := b.lookup(1, "f")
	if now.NodeId == f.NodeId {
		t.Fatal("both are one node")
	}
	b.wantNoXattrs("of the old file", f.NodeId)
	b.ok(b.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: at(now.NodeId)}, memory.XattrPrefix+"x", []byte("1")))
	b.close(out.Fh)
}

func TestRawXattr(t *testing.T) {
	b := newBench(t, time.Minute)
	in := at(1)
	size, st := b.ListXAttr(nil, &in, nil)
	b.ok(st)
	list := make([]byte, size)
	if size, st = b.ListXAttr(nil, &in, list); st != fuse.OK || int(size) != len(list) || !bytes.HasSuffix(list, []byte{0}) {
		t.Errorf("list: %d, %v, %q", size, st, list)
	}
	const name = "user.meshmount.state"
	if !bytes.Contains(list, []byte(name+"\x00")) {
		t.Errorf("no %s in %q", name, list)
	}
	size, st = b.GetXAttr(nil, &in, name, nil)
	b.ok(st)
	value := make([]byte, size)
	if _, st = b.GetXAttr(nil, &in, name, value); st != fuse.OK || len(value) < 2 {
		t.Errorf("%s: %v, %q", name, st, value)
	}
	if n, st := b.GetXAttr(nil, &in, name, value[:1]); st != fuse.ERANGE || n != size {
		t.Errorf("short buffer: %d, %v", n, st)
	}
	_, st = b.GetXAttr(nil, &in, "user.none", nil)
	b.want("no such attribute", st, syscall.ENODATA)
}

// What is still open when the connection breaks is closed for the core, and what was
// written reaches the server.
func TestRawAbort(t *testing.T) {
	b := newBench(t, time.Minute)
	f := b.create(1, "f", rw)
	b.write(f.Fh, 0, "hello", 0)
	var out fuse.OpenOut
	b.ok(b.OpenDir(nil, &fuse.OpenIn{InHeader: at(1)}, &out))
	b.OnUnmount()
	if len(b.files.open) != 0 || b.stored("/f") != "hello" {
		t.Errorf("%d handles are left, the server has %q", len(b.files.open), b.stored("/f"))
	}
	if _, open := b.fs.StatOpen(f.Attr.Ino); open {
		t.Error("the file is still open")
	}
}

// A write is carried through although its caller was interrupted.
func TestRawChangesAreNotInterrupted(t *testing.T) {
	b := newBench(t, time.Minute)
	ended, end := context.WithCancel(t.Context())
	end()
	r := newRaw(ended, b.fs, b.raw.log)
	cancel := make(chan struct{})
	close(cancel)
	var out fuse.EntryOut
	b.ok(r.Mkdir(cancel, &fuse.MkdirIn{InHeader: at(1), Mode: 0o755}, "d", &out))
}
