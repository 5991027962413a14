package posix_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// faultyMount is a mount of a backend that misbehaves when told to, with one file
// and one directory, and nothing cached.
func faultyMount(t *testing.T) (*remotetest.FaultyBackend, string) {
	t.Helper()
	back := remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{})
	dir := serve(t, rootBranch(back, 0)).dir
	write(t, dir+"/f", strings.Repeat("text", 10_000))
	if err := os.Mkdir(dir+"/d", 0o755); err != nil {
		t.Fatal(err)
	}
	return back, dir
}

// errnoOfKind is what a program gets when a server fails a call with that kind.
var errnoOfKind = map[remote.Kind]syscall.Errno{
	remote.NotExist: syscall.ENOENT, remote.Exist: syscall.EEXIST, remote.NotDir: syscall.ENOTDIR,
	remote.IsDir: syscall.EISDIR, remote.NotEmpty: syscall.ENOTEMPTY, remote.Permission: syscall.EACCES,
	remote.Auth: syscall.EACCES, remote.Conflict: syscall.ESTALE, remote.Changed: syscall.ESTALE,
	remote.Locked: syscall.EBUSY, remote.NoSpace: syscall.EDQUOT, remote.TooLarge: syscall.EFBIG,
	remote.NameTooLong: syscall.ENAMETOOLONG, remote.Invalid: syscall.EINVAL, remote.Unsupported: syscall.EOPNOTSUPP,
	remote.Unavailable: syscall.ETIMEDOUT, remote.Corrupt: syscall.EIO, remote.ReadOnly: syscall.EROFS,
	remote.CrossDevice: syscall.EXDEV, remote.BadHandle: syscall.EBADF,
	remote.NoXattr: syscall.ENODATA,
}

// A program gets the errno of what the server said, from each call that asks it.
func TestErrnoOfServerErrors(t *testing.T) {
	back, dir := faultyMount(t)
	f, err := os.OpenFile(dir+"/f", os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls := []struct {
		op remote.Op
		do func() error
	}{
		{remote.OpStat, func() error { _, err := os.Lstat(dir + "/f2"); return err }},
		{remote.OpMkdir, func() error { return unix.Mkdir(dir+"/new", 0o755) }},
		{remote.OpRename, func() error { return unix.Rename(dir+"/d", dir+"/e") }},
		{remote.OpRemove, func() error { return unix.Rmdir(dir + "/d") }},
		{remote.OpSymlink, func() error { return unix.Symlink("x", dir+"/l") }},
		{remote.OpRead, func() error { _, err := f.ReadAt(make([]byte, 4096), 0); return err }},
		{remote.OpList, func() error { _, err := os.ReadDir(dir + "/d"); return err }},
	}
	for _, kind := range remote.Kinds() {
		want, ok := errnoOfKind[kind]
		if !ok && kind != remote.Other {
			t.Errorf("no errno is expected of %v", kind)
		}
		for _, call := range calls {
			if kind == remote.Other || special(call.op, kind) {
				continue
			}
			back.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
				{Ops: []remote.Op{call.op}, Fault: remotetest.FaultError, Kind: kind}}})
			err := call.do()
			back.SetPlan(remotetest.Plan{})
			harness.WantErrno(t, fmt.Sprintf("%s, server says %q", call.op, kind), err, want)
		}
	}
}

// special are the cases in which the error means something else to the caller.
func special(op remote.Op, kind remote.Kind) bool {
	switch {
	case op == remote.OpRead && kind == remote.NotExist: // the file is gone, and was open: ESTALE
		return true
	case op == remote.OpSymlink && kind == remote.Unsupported: // EPERM, as symlink(2) says
		return true
	}
	return false
}

func TestErrnoSpecial(t *testing.T) {
	back, dir := faultyMount(t)
	f, err := os.OpenFile(dir+"/f", os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fail := func(op remote.Op, kind remote.Kind) {
		back.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Ops: []remote.Op{op}, Fault: remotetest.FaultError, Kind: kind}}})
	}
	fail(remote.OpRead, remote.NotExist)
	_, err = f.ReadAt(make([]byte, 4096), 0)
	harness.WantErrno(t, "read of a file that is gone", err, syscall.ESTALE)
	fail(remote.OpSymlink, remote.Unsupported)
	harness.WantErrno(t, "symlink on a server without", unix.Symlink("x", dir+"/l"), syscall.EPERM)
	back.SetPlan(remotetest.Plan{})
	harness.WantErrno(t, "chown", os.Chown(dir+"/f", os.Getuid()+1, -1), syscall.EPERM)
	harness.WantErrno(t, "a name of 300 bytes", unix.Mkdir(dir+"/"+strings.Repeat("n", 300), 0o755), syscall.ENAMETOOLONG)
}

// The server's error is the result of close and fsync, and only once.
func TestErrorAtClose(t *testing.T) {
	for kind, want := range map[remote.Kind]syscall.Errno{
		remote.NoSpace: syscall.EDQUOT, remote.TooLarge: syscall.EFBIG, remote.Permission: syscall.EACCES,
		remote.Locked: syscall.EBUSY, remote.Unavailable: syscall.ETIMEDOUT,
	} {
		back, dir := faultyMount(t)
		f, err := os.OpenFile(dir+"/f", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("changed"); err != nil {
			t.Fatal(err)
		}
		back.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
			{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultError, Kind: kind, Count: 1}}})
		harness.WantErrno(t, "fsync", f.Sync(), want)
		if err := f.Sync(); err != nil {
			t.Errorf("fsync after the server has recovered: %v", err)
		}
		if _, err := f.WriteAt([]byte("again"), 0); err != nil {
			t.Error(err)
		}
		back.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{
			{Ops: []remote.Op{remote.OpPut}, Fault: remotetest.FaultError, Kind: kind, Count: 1}}})
		dup, err := unix.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		harness.WantErrno(t, "first close", unix.Close(dup), want)
		if err := f.Close(); err != nil {
			t.Errorf("last close after the server has recovered: %v", err)
		}
		wantFile(t, dir+"/f", "agained"+strings.Repeat("text", 10_000)[7:])
	}
}

// longest is how long tests wait for what must happen, on a machine that may stand still.
const longest = 4 * time.Minute

// When a server hangs, what is known is told at once: space, attributes of what is
// open, and what lies on other branches.
func TestHungServer(t *testing.T) {
	back := remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{})
	hung, well := rootBranch(back, 0), memoryBranch(0)
	hung.Prefix, well.Prefix = "/hung", "/well"
	root := serve(t, hung, well).dir
	dir := root + "/hung"
	write(t, dir+"/f", strings.Repeat("text", 10_000))
	f, err := os.Open(dir + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	resume := back.Stall()
	defer resume()
	var resumed atomic.Bool
	defer time.AfterFunc(longest, func() { // a failed test does not hang
		resumed.Store(true)
		resume()
	}).Stop()
	atOnce := func(what string, do func()) {
		t.Helper()
		if do(); resumed.Load() {
			t.Errorf("%s waits for the server", what)
		}
	}
	atOnce("statfs", func() {
		var st unix.Statfs_t
		if err := unix.Statfs(root, &st); err != nil || st.Namelen == 0 {
			t.Errorf("statfs: %v, %+v", err, st)
		}
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			t.Errorf("fstatfs: %v", err)
		}
	})
	atOnce("fstat", func() {
		if st, err := f.Stat(); err != nil || st.Size() != 40_000 {
			t.Errorf("fstat: %v, %v", st, err)
		}
	})
	atOnce("work on the other branch", func() {
		write(t, root+"/well/f", "text")
		wantFile(t, root+"/well/f", "text")
	})
	atOnce("close", func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Whoever waits for a hung server can be killed at once.
func TestKillWaiting(t *testing.T) {
	back, dir := faultyMount(t)
	resume := back.Stall()
	defer resume()
	for _, command := range []string{
		`exec stat "$1/f"`, `exec cat "$1/f"`, `exec ls "$1/d"`, `exec ls -l "$1"`, `exec dd if="$1/f" iflag=direct of=/dev/null status=none`,
	} {
		for _, sig := range []os.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", command, "sh", dir)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				t.Errorf("%s does not wait: %v", command, err)
				continue
			case <-time.After(150 * time.Millisecond):
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Error(err)
			}
			select {
			case <-ended:
			case <-time.After(longest):
				t.Errorf("%s is still there after %v", command, sig)
				resume()
				<-ended
				resume = back.Stall()
			}
		}
	}
}

// A read that hangs ends with EINTR when the program gets a signal that it handles.
// Signals do not disturb a read that goes on, and not other calls.
func TestInterruptedRead(t *testing.T) {
	if isChild(t) {
		interruptMyself(t, os.Getenv(childDir))
		return
	}
	back, dir := faultyMount(t)
	child := func(rule remotetest.Rule, want string) {
		t.Helper()
		// On a machine that stands still, a read may last too long: one in time will do.
		for left := 4; ; left-- {
			back.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{rule}})
			out, err := startChild(t, dir, nil).wait()
			back.SetPlan(remotetest.Plan{})
			if err == nil && strings.Contains(out, want) {
				return
			}
			if left == 0 {
				t.Fatalf("%v: want %q in\n%s", err, want, out)
			}
		}
	}
	read := []remote.Op{remote.OpRead}
	child(remotetest.Rule{Ops: read, Fault: remotetest.FaultStall}, "read: EINTR")
	child(remotetest.Rule{Ops: read, Latency: 500 * time.Millisecond}, "read: 4096 bytes")
	child(remotetest.Rule{Ops: []remote.Op{remote.OpStat}, Latency: 300 * time.Millisecond}, "read: 4096 bytes")
}

// interruptMyself reads while signals come, ten in a second.
func interruptMyself(t *testing.T, dir string) {
	runtime.LockOSThread() // the signals go to the thread that reads
	defer runtime.UnlockOSThread()
	c := make(chan os.Signal, 1000)
	signal.Notify(c, syscall.SIGUSR1)
	defer signal.Stop(c)
	stop := make(chan struct{})
	defer close(stop)
	tid := unix.Gettid()
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
				_ = unix.Tgkill(os.Getpid(), tid, unix.SIGUSR1)
			}
		}
	}()
	fd, err := unix.Open(filepath.Join(dir, "f"), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	n, err := unix.Read(fd, make([]byte, 4096))
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		t.Logf("read: %s", unix.ErrnoName(errno))
	} else {
		t.Logf("read: %d bytes", n)
	}
	if err := unix.Close(fd); err != nil {
		t.Errorf("close: %v", err)
	}
	if !slices.Contains([]int{0, 4096}, max(n, 0)) {
		t.Errorf("%d bytes", n)
	}
}

// A file that was changed on the server is whole and new as soon as the mount has
// learned of the change, although the kernel still believes in its old size. Here
// the mount learns of it at the open, because the versions are no proof yet.
func TestServerChange(t *testing.T) {
	back := memory.New(memory.Options{WeakVersions: true, Granularity: time.Hour})
	dir := serve(t, rootBranch(back, time.Hour)).dir
	put := func(content string) {
		t.Helper()
		if _, err := back.Put(t.Context(), "/f", text(content), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, content := range []string{"first", "the second is longer", "third"} {
		put(content)
		wantFile(t, dir+"/f", content)
		if st, err := os.Stat(dir + "/f"); err != nil || st.Size() != int64(len(content)) {
			t.Errorf("size of %q: %v, %v", content, st, err)
		}
	}
	// Appending goes to the end that the file has, not to the one that it had.
	put("fourth and longest of all")
	f, err := os.OpenFile(dir+"/f", os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("+"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	wantFile(t, dir+"/f", "fourth and longest of all+")
	if got := stored(t, back, "/f"); got != "fourth and longest of all+" {
		t.Errorf("on the server: %q", got)
	}
}
