package posix_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/fs/mount"
	"github.com/meshmount/meshmount/integration/harness"
)

// served is a mount that this process serves.
type served struct {
	dir    string
	core   *fs.FS
	server *mount.Server
	log    *lockedBuffer
}

// serve mounts branches in this process and takes the mount away when the test ends,
// by force if it is still in use, which is an error.
//
// Ordinary calls on the mount may come from this process. A page fault may not: it
// would hold up a thread of the runtime that is to answer it. See child.
func serve(t *testing.T, branches ...fs.Branch) *served {
	t.Helper()
	m := &served{dir: t.TempDir(), log: &lockedBuffer{}}
	guard(t, m.dir)
	logger := slog.New(slog.NewTextHandler(m.log, nil))
	var err error
	m.core, err = fs.New(fs.Options{StageDir: t.TempDir(), ParkDir: t.TempDir(), Umask: 0o022, Hostname: "here",
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Logger: logger}, branches)
	if err != nil {
		t.Fatal(err)
	}
	m.server, err = mount.Mount(t.Context(), m.core, m.dir, mount.Options{DirectMount: true, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(t) })
	return m
}

// guard takes the mount at dir away should this process die before it does it itself.
func guard(t *testing.T, dir string) {
	t.Helper()
	// The shell's input ends with this process.
	cmd := exec.Command("/bin/sh", "-c", `read x; umount -l "$1" 2>/dev/null; true`, "sh", dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the unmount: cleanups run last in, first out
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
}

// end unmounts and closes the core.
func (m *served) end(t *testing.T) {
	if err := m.server.Unmount(); err != nil {
		t.Errorf("unmount %s: %v", m.dir, err)
		if err := harness.Detach(m.dir); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := m.core.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if t.Failed() {
		t.Logf("log of %s:\n%s", m.dir, m.log)
	}
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Environment of a child; see child.
const (
	childVar = "MESHMOUNT_TEST_CHILD"
	childDir = "MESHMOUNT_TEST_CHILD_DIR"
)

// child runs body in a process of its own, which may map files of the mount that
// this process serves: the test calls itself. In the parent it returns when the
// child has ended, after failing the test if the child failed. body gets dir.
func child(t *testing.T, dir string, env []string, body func(t *testing.T, dir string)) {
	t.Helper()
	if os.Getenv(childVar) == t.Name() {
		body(t, os.Getenv(childDir))
		return
	}
	out, err := startChild(t, dir, env).wait()
	if err != nil {
		t.Errorf("child: %v\n%s", err, out)
	} else if testing.Verbose() {
		t.Logf("child:\n%s", out)
	}
}

// isChild tells whether this process was started by child: then the test must not
// mount.
func isChild(t *testing.T) bool { return os.Getenv(childVar) == t.Name() }

// process is a child under way.
type process struct {
	cmd *exec.Cmd
	out lockedBuffer
}

// startChild starts the present test in a process of its own, with files as its
// descriptors from 3 on. It is killed when the test ends.
func startChild(t *testing.T, dir string, env []string, files ...*os.File) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for part := range strings.SplitSeq(t.Name(), "/") {
		names = append(names, "^"+part+"$")
	}
	p := &process{cmd: exec.CommandContext(t.Context(), exe, "-test.run="+strings.Join(names, "/"), "-test.v", "-test.count=1")}
	p.cmd.Env = append(os.Environ(), childVar+"="+t.Name(), childDir+"="+dir, "GORACE=atexit_sleep_ms=0")
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = &p.out, &p.out, files
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) wait() (string, error) {
	err := p.cmd.Wait()
	return p.out.String(), err
}
