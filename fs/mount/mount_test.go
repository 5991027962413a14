package mount

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// logBuffer collects log lines of several goroutines.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newCore returns a core with one branch at the root.
func newCore(t *testing.T, b remote.Backend, ttl time.Duration) *fs.FS {
	t.Helper()
	return newTreeCore(t, fs.Branch{Prefix: "/", Backend: b, AttrTTL: ttl, DirTTL: ttl, NegTTL: ttl})
}

// newTreeCore returns a core with these branches.
func newTreeCore(t *testing.T, branches ...fs.Branch) *fs.FS {
	t.Helper()
	core, err := fs.New(fs.Options{StageDir: t.TempDir(), ParkDir: t.TempDir(), Umask: 0o022, Hostname: "test"}, branches)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := core.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return core
}

// mountAt mounts a fresh tree in memory and returns its mount point.
func mountAt(t *testing.T, opts Options) (*Server, string, *memory.Backend) {
	t.Helper()
	b := memory.New(memory.Options{})
	s, point := mountCore(t, newCore(t, b, time.Minute), opts)
	return s, point, b
}

// mountCore mounts a core and returns its mount point.
func mountCore(t *testing.T, core *fs.FS, opts Options) (*Server, string) {
	t.Helper()
	point := t.TempDir()
	s, err := Mount(t.Context(), core, point, opts)
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
	return s, point
}

func TestMountReadWrite(t *testing.T) {
	for _, tc := range []struct {
		name   string
		direct bool
	}{{"fusermount3", false}, {"mount(2)", true}} {
		t.Run(tc.name, func(t *testing.T) {
			_, dir, b := mountAt(t, Options{DirectMount: tc.direct, FSName: "some,thing"})
			file := filepath.Join(dir, "file")
			if err := os.WriteFile(file, []byte("hello"), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil || string(got) != "hello" {
				t.Fatalf("read %q, %v", got, err)
			}
			if e, err := b.Stat(t.Context(), "/file"); err != nil || e.Size != 5 {
				t.Errorf("on the server: %+v, %v", e, err)
			}
			table, err := os.ReadFile("/proc/self/mounts")
			if err != nil {
				t.Fatal(err)
			}
			if want := dir + " fuse.meshmount "; !strings.Contains(string(table), want) {
				t.Errorf("no %q in the table of mounts", want)
			}
		})
	}
}

func TestUnmountBusy(t *testing.T) {
	s, dir, _ := mountAt(t, Options{DirectMount: true})
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("unmount while a file is open: %v", err)
	}
	if _, err := f.WriteString("still served"); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// Root gets the read-ahead that was asked for, and with it requests of that size.
func TestReadAhead(t *testing.T) {
	for _, tc := range []struct{ kb, want, request int }{
		{0, 128, 128 << 10}, {64, 64, 64 << 10}, {DefaultReadAheadKB, DefaultReadAheadKB, 1 << 20}, {4096, 4096, 1 << 20},
	} {
		c := mountCounted(t, time.Minute, Options{ReadAheadKB: tc.kb}, nil)
		var st unix.Stat_t
		if err := unix.Stat(c.dir, &st); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
		if err != nil || strings.TrimSpace(string(text)) != fmt.Sprint(tc.want) {
			t.Errorf("%d KiB: the kernel has %q, %v", tc.kb, text, err)
		}
		c.put(t, "/f", pattern(4<<20))
		readSmall(t, c.dir+"/f")
		if got := c.largest.Load(); got != int64(tc.request) {
			t.Errorf("%d KiB: the largest request is of %d bytes, want %d", tc.kb, got, tc.request)
		}
	}
}

// readSmall reads a file in pieces of 16 KiB: what the requests are is up to the kernel.
func readSmall(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 16<<10)
	for err == nil {
		_, err = f.Read(buf)
	}
	if err != io.EOF {
		t.Error(err)
	}
}

// That the read-ahead cannot be raised is no error, and one line of the log.
func TestReadAheadRefused(t *testing.T) {
	var log logBuffer
	raiseReadAhead(filepath.Join(t.TempDir(), "nothing"), 1024, log.logger())
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=DEBUG") {
		t.Errorf("log: %q", text)
	}
}

// A branch at the root whose server fails at this moment does not keep the mount
// from being there.
func TestMountFailingServer(t *testing.T) {
	b := remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{Rules: []remotetest.Rule{
		{Fault: remotetest.FaultError, Kind: remote.Unavailable}}})
	dir := t.TempDir()
	s, err := Mount(t.Context(), newCore(t, b, 0), dir, Options{DirectMount: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("stat: %v", err)
	}
	b.SetPlan(remotetest.Plan{})
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o644); err != nil {
		t.Error(err)
	}
	if err := s.Unmount(); err != nil {
		t.Error(err)
	}
	if err := noAnswer(unix.ENOTCONN); err == nil {
		t.Error("a dead connection is an answer")
	}
}
