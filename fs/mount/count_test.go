package mount

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// counter stands between the kernel and raw and counts what the kernel asks for. If
// gate is set it is called at each lookup, listing and read.
type counter struct {
	*raw
	lookups, getattrs, opens, reads, listings, plain, xattrs atomic.Int64
	largest                                                  atomic.Int64 // read, in bytes
	gate                                                     func(what string)
}

func (c *counter) pass(what string) {
	if c.gate != nil {
		c.gate(what)
	}
}

func (c *counter) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.lookups.Add(1)
	c.pass("lookup " + name)
	return c.raw.Lookup(cancel, in, name, out)
}

func (c *counter) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.getattrs.Add(1)
	return c.raw.GetAttr(cancel, in, out)
}

func (c *counter) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.opens.Add(1)
	return c.raw.Open(cancel, in, out)
}

func (c *counter) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.reads.Add(1)
	for n := int64(len(buf)); ; {
		if old := c.largest.Load(); n <= old || c.largest.CompareAndSwap(old, n) {
			break
		}
	}
	c.pass("read")
	return c.raw.Read(cancel, in, buf)
}

func (c *counter) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.listings.Add(1)
	c.pass("list")
	return c.raw.ReadDirPlus(cancel, in, out)
}

func (c *counter) GetXAttr(cancel <-chan struct{}, in *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	c.xattrs.Add(1)
	return c.raw.GetXAttr(cancel, in, attr, dest)
}

func (c *counter) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.plain.Add(1)
	return c.raw.ReadDir(cancel, in, out)
}

// counted is a mount whose requests are counted.
type counted struct {
	*counter
	dir  string
	back *memory.Backend
	log  *logBuffer
}

// mountCounted mounts a fresh tree in memory. Prepare, which may be nil, may change
// the counter before the first request.
func mountCounted(t *testing.T, ttl time.Duration, opts Options, prepare func(*counter)) *counted {
	t.Helper()
	c := &counted{back: memory.New(memory.Options{}), dir: t.TempDir(), log: &logBuffer{}}
	opts.DirectMount, opts.Logger = true, c.log.logger()
	opts = opts.withDefaults()
	if err := opts.Validate(); err != nil {
		t.Fatal(err)
	}
	r := newRaw(t.Context(), newCore(t, c.back, ttl), opts.Logger)
	r.direct = newDirectRule(opts.DirectIO)
	c.counter = &counter{raw: r}
	if prepare != nil {
		prepare(c.counter)
	}
	s, err := r.mount(c.counter, c.dir, &opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount: %v", err)
			if err := s.Detach(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

// put stores a file behind the mount's back.
func (c *counted) put(t *testing.T, path, text string) {
	t.Helper()
	if _, err := c.back.Put(t.Context(), path, source(text), remote.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// until waits until is true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// elsewhereVar tells the process that elsewhere starts which directory to use.
const elsewhereVar = "MESHMOUNT_TEST_DIR"

// elsewhere runs the present test in a process of its own, which may map files of a
// mount that this process serves.
func elsewhere(t *testing.T, dir string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), elsewhereVar+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in the other process: %v\n%s", err, out)
	}
}

// pattern is n bytes of which no two places look alike.
func pattern(n int) string {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.BigEndian.AppendUint64(b, uint64(len(b)))
	}
	return string(b[:n])
}
