package write_test

import (
	"encoding/gob"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/harness"
)

// driverVar makes the test program a driver: a process that works on mounts. The test's own
// process does not, because it starts processes: a new one has all its files open for a
// moment, and when it closes them, the file systems are asked to store what is there; and
// if that takes an answer of a server in the test's process, neither goes on.
const driverVar = "MESHMOUNT_WRITE_DRIVER"

// slots is how many files a driver can have open.
const slots = 3

// op is one system call.
type op struct {
	Verb     string // open, write, ftruncate, fsync, close, truncate, mkdir, rmdir, rename, unlink, symlink, chmod, utimens
	Slot     int
	Path, To string // To is the new name, or the text of a symbolic link
	Flags    int
	Off      int64 // of a write, if the file is not open with O_APPEND; size for ftruncate and truncate
	Len      int
	Seed     uint64
	Mode     uint32
	Time     int64 // seconds
}

// content returns the bytes that a write writes.
func content(seed uint64, n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), byte(seed >> 32)}).Read(p) // it never fails
	return p
}

// request is a program for a driver: operations below root, or the reading of all that is
// there.
type request struct {
	Root string
	Ops  []op
	Tree bool
}

// reply tells that an operation has returned. Done is the last one of a program: all
// files are closed.
type reply struct {
	Errno syscall.Errno
	Done  bool
	Text  string // of an error without an errno
	Tree  tree
}

// driverMain carries out programs until its input ends.
func driverMain() {
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var r request
		if err := in.Decode(&r); err != nil {
			return
		}
		done := reply{Done: true}
		if r.Tree {
			found, err := readTree(r.Root)
			done.Tree = found
			if err != nil {
				done.Text = err.Error()
			}
		} else {
			run(&r, func(errno syscall.Errno) { _ = out.Encode(reply{Errno: errno}) }) // nobody listens any more: the end comes
		}
		if err := out.Encode(done); err != nil {
			return
		}
	}
}

// run carries out operations up to the first that fails, tells the result of each, and
// closes all files.
func run(r *request, tell func(syscall.Errno)) {
	hands := &hands{root: r.Root}
	for i := range hands.fds {
		hands.fds[i] = -1
	}
	for i := range r.Ops {
		err := hands.do(&r.Ops[i])
		errno, _ := errors.AsType[syscall.Errno](err)
		if err != nil && errno == 0 {
			errno = syscall.EIO
		}
		tell(errno)
		if errno != 0 {
			break
		}
	}
	for _, fd := range hands.fds {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// hands carry out operations.
type hands struct {
	root string
	fds  [slots]int // -1: not open
}

func (h *hands) do(o *op) error {
	path, fd := filepath.Join(h.root, o.Path), h.fds[o.Slot]
	switch o.Verb {
	case "open":
		fd, err := unix.Open(path, o.Flags|unix.O_CLOEXEC, 0o644)
		h.fds[o.Slot] = fd
		return err
	case "write":
		return writeAll(fd, content(o.Seed, o.Len), o.Off)
	case "ftruncate":
		return unix.Ftruncate(fd, o.Off)
	case "fsync":
		return unix.Fsync(fd)
	case "close":
		h.fds[o.Slot] = -1
		return unix.Close(fd)
	case "truncate":
		return unix.Truncate(path, o.Off)
	case "mkdir":
		return unix.Mkdir(path, 0o755)
	case "rmdir":
		return unix.Rmdir(path)
	case "rename":
		return unix.Rename(path, filepath.Join(h.root, o.To))
	case "unlink":
		return unix.Unlink(path)
	case "symlink":
		return unix.Symlink(o.To, path)
	case "chmod":
		return unix.Chmod(path, o.Mode)
	case "utimens":
		ts := []unix.Timespec{{Sec: o.Time}, {Sec: o.Time}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
	return syscall.ENOSYS
}

func writeAll(fd int, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// driver is a running driver.
type driver struct {
	in  *gob.Encoder
	out *gob.Decoder
}

// startDriver starts a driver, which ends with the test.
func startDriver(t *testing.T) *driver {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(harness.Environ(t.TempDir()), driverVar+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("driver: %v", err)
		}
	})
	return &driver{in: gob.NewEncoder(in), out: gob.NewDecoder(out)}
}

// run has a program carried out, calls onDone after each operation that has succeeded, and
// returns how many those were and the error of the one after them.
func (d *driver) run(root string, ops []op, onDone func(n int)) (done int, failed error, err error) {
	if err := d.in.Encode(request{Root: root, Ops: ops}); err != nil {
		return 0, nil, err
	}
	for {
		var r reply
		if err := d.out.Decode(&r); err != nil {
			return done, failed, err
		}
		switch {
		case r.Done:
			return done, failed, nil
		case r.Errno != 0:
			failed = r.Errno
		default:
			done++
			onDone(done)
		}
	}
}

// tree reads all that is below root.
func (d *driver) tree(root string) (tree, error) {
	if err := d.in.Encode(request{Root: root, Tree: true}); err != nil {
		return nil, err
	}
	var r reply
	if err := d.out.Decode(&r); err != nil {
		return nil, err
	}
	if r.Text != "" {
		return nil, errors.New(r.Text)
	}
	if r.Tree == nil {
		r.Tree = tree{}
	}
	return r.Tree, nil
}
