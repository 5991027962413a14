package integration_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// stall is a share whose answers with content stop after some bytes, until they may go on.
type stall struct {
	*shelf
	files map[string][]byte
	begun atomic.Int64  // requests for content
	over  chan struct{} // closed when the answers may go on
	once  sync.Once
}

// stalledShelf starts a share that has stalled.
func stalledShelf(t *testing.T) *stall {
	t.Helper()
	s := &stall{shelf: startShelf(t, efss.Nextcloud), over: make(chan struct{})}
	s.files = map[string][]byte{"large1": book(1, faultySize), "large2": book(2, faultySize), "small1": book(3, 50_000), "small2": book(4, 50_000)}
	s.plant(t, s.files)
	contentOnly(s.shelf, func(*http.Request) *efss.Fault {
		s.begun.Add(1)
		return &efss.Fault{Stall: true, ReplyAt: 1000, Resume: s.over}
	})
	t.Cleanup(s.resume)
	return s
}

// resume lets all answers go on.
func (s *stall) resume() { s.once.Do(func() { close(s.over) }) }

// waiting starts a program that reads a file, and returns when its request has come.
func (s *stall) waiting(t *testing.T, m *harness.Mount, name string) (cmd *exec.Cmd, ended <-chan error) {
	t.Helper()
	before := s.begun.Load()
	cmd, ended = startCat(t, filepath.Join(m.Dir, "a", name))
	await(t, "the request", func() bool { return s.begun.Load() > before })
	return cmd, ended
}

// Bounds of how long requests to the stalled server live: for ever, as far as a test can
// tell, and shorter than a program may wait.
var (
	endless  = []string{"--io-timeout=1h", "--retry-time=1h", "--attr-ttl=1h", "--dir-ttl=1h"}
	impeding = []string{"--io-timeout=2s", "--retry-time=1h", "--attr-ttl=1h", "--dir-ttl=1h"}
)

// startCat starts a program that reads a file, and returns what waits for its end.
func startCat(t *testing.T, path string) (cmd *exec.Cmd, ended <-chan error) {
	t.Helper()
	cmd = exec.Command("cat", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, over
}

// ends waits for the end of a process.
func ends(t *testing.T, what string, ended <-chan error) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(longest):
		t.Fatalf("%s has not ended", what)
	}
}

// TestReadInterrupt sends signals to programs that wait for a server that has stalled:
// they end, while their requests go on. All is well when the server is.
func TestReadInterrupt(t *testing.T) {
	t.Parallel()
	s := stalledShelf(t)
	m := s.mount(t, harness.Program(t), "", endless...)
	root := filepath.Join(m.Dir, "a")
	if _, err := os.ReadDir(root); err != nil {
		t.Fatal(err)
	}
	s.forget()
	for i, name := range nameList(s.files) {
		cat, ended := s.waiting(t, m, name)
		if err := cat.Process.Signal([]syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[i%2]); err != nil {
			t.Fatal(err)
		}
		ends(t, "cat of "+name, ended)
	}
	// An answer ends when it may go on, when its client has given up, and with the mount.
	if all := s.fetches(); len(all) > 0 {
		t.Errorf("the requests have ended before the programs:%s", story(all))
	}
	s.resume()
	await(t, "the end of the requests", func() bool { return int64(len(s.fetches())) == s.begun.Load() })
	if err := readTree(root, s.files); err != nil {
		t.Error(err)
	}
	m.MustUnmount(t)
}

// TestReadInterruptOne has two programs wait for one block: the signal ends only the one
// that gets it, and the other reads on. The request, for which nobody has asked again, has
// ended by itself.
func TestReadInterruptOne(t *testing.T) {
	t.Parallel()
	s := stalledShelf(t)
	m := s.mount(t, harness.Program(t), "", impeding...)
	first, ended := s.waiting(t, m, "small1")
	got := make(chan error, 1)
	go func() { got <- readWhole(filepath.Join(m.Dir, "a", "small1"), s.files["small1"]) }()
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ends(t, "the interrupted cat", ended)
	begun := s.begun.Load()
	await(t, "the next try", func() bool { return s.begun.Load() > begun })
	s.resume() // the next try gets the answer
	if err := <-got; err != nil {
		t.Error(err)
	}
	m.MustUnmount(t)
}

// TestReadUnmountWaiting unmounts while programs wait for a server that has stalled: by
// force, the programs end. Without any, the process ends, while the server still waits.
func TestReadUnmountWaiting(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(*testing.T, *harness.Mount){
		"lazily": func(t *testing.T, m *harness.Mount) {
			if err := syscall.Unmount(m.Dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		},
		"forced": func(t *testing.T, m *harness.Mount) {
			if err := syscall.Unmount(m.Dir, syscall.MNT_FORCE|syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		},
		"signals": func(t *testing.T, m *harness.Mount) {
			for range 2 {
				if err := m.Signal(syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				time.Sleep(300 * time.Millisecond) // two signals at once are one
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := stalledShelf(t)
			m := s.mount(t, harness.Program(t), "", endless...)
			var cats []*exec.Cmd
			var over []<-chan error
			for name := range s.files {
				cat, ended := s.waiting(t, m, name)
				cats, over = append(cats, cat), append(over, ended)
			}
			end(t, m)
			if what != "forced" { // the mount lives as long as its users
				for _, cat := range cats {
					_ = cat.Process.Kill()
				}
			}
			for _, ended := range over {
				ends(t, "cat", ended)
			}
			gone := make(chan error, 1)
			go func() { gone <- m.Wait(t.Context()) }()
			ends(t, "meshmount", gone)
		})
	}
}
