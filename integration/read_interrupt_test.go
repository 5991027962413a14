package integration_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// stalledShelf is a share whose answers with content stop after some bytes for as long
// as stalled is set. It counts the requests for content that have begun.
func stalledShelf(t *testing.T) (s *shelf, begun *atomic.Int64, stalled *atomic.Bool, files map[string][]byte) {
	t.Helper()
	s, begun, stalled = startShelf(t, efss.Nextcloud), &atomic.Int64{}, &atomic.Bool{}
	files = map[string][]byte{"large1": book(1, faultySize), "large2": book(2, faultySize), "small1": book(3, 50_000), "small2": book(4, 50_000)}
	s.plant(t, files)
	stalled.Store(true)
	contentOnly(s, func(*http.Request) *efss.Fault {
		begun.Add(1)
		if !stalled.Load() {
			return nil
		}
		return &efss.Fault{Stall: true, ReplyAt: 1000}
	})
	return s, begun, stalled, files
}

// stallTime bounds how long requests to the stalled server live.
var stallTime = []string{"--io-timeout=4s", "--retry-time=1s", "--attr-ttl=1h", "--dir-ttl=1h"}

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

// endsSoon waits for the end of a process; that it ends at all is what is tested.
func endsSoon(t *testing.T, what string, ended <-chan error) {
	t.Helper()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s has not ended", what)
	}
}

// TestReadInterrupt sends signals to programs that wait for a server that has stalled:
// they end, long before their requests. Those end, too. All is well when the server is.
func TestReadInterrupt(t *testing.T) {
	t.Parallel()
	s, begun, stalled, files := stalledShelf(t)
	m := s.mount(t, harness.Program(t), "", "--io-timeout=10s", "--retry-time=1s", "--attr-ttl=1h", "--dir-ttl=1h")
	root := filepath.Join(m.Dir, "a")
	if _, err := os.ReadDir(root); err != nil {
		t.Fatal(err)
	}
	s.forget()
	for i, name := range nameList(files) {
		before := begun.Load()
		cat, ended := startCat(t, filepath.Join(root, name))
		await(t, "the request", func() bool { return begun.Load() > before })
		if err := cat.Process.Signal([]syscall.Signal{syscall.SIGINT, syscall.SIGKILL}[i%2]); err != nil {
			t.Fatal(err)
		}
		endsSoon(t, "cat of "+name, ended)
	}
	if all := s.fetches(); len(all) > 0 {
		t.Errorf("the requests have ended before the programs:%s", story(all))
	}
	await(t, "the end of the requests", func() bool { return int64(len(s.fetches())) == begun.Load() })
	stalled.Store(false)
	waitFor(t, 30*time.Second, func() error { return readTree(root, files) })
	m.MustUnmount(t)
}

// TestReadInterruptOne has two programs wait for one block: the signal ends only the one
// that gets it, and the other reads on.
func TestReadInterruptOne(t *testing.T) {
	t.Parallel()
	s, begun, stalled, files := stalledShelf(t)
	m := s.mount(t, harness.Program(t), "", "--io-timeout=4s", "--retry-time=1h", "--attr-ttl=1h")
	path := filepath.Join(m.Dir, "a", "small1")
	first, ended := startCat(t, path)
	await(t, "the request", func() bool { return begun.Load() > 0 })
	got := make(chan error, 1)
	go func() { got <- readWhole(path, files["small1"]) }()
	if err := first.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	endsSoon(t, "the interrupted cat", ended)
	stalled.Store(false) // the next try gets the answer
	if err := <-got; err != nil {
		t.Error(err)
	}
	m.MustUnmount(t)
}

// TestReadUnmountWaiting unmounts while programs wait for a server that has stalled: by
// force, the process ends soon, and so do the programs.
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
			s, begun, _, files := stalledShelf(t)
			m := s.mount(t, harness.Program(t), "", stallTime...)
			var cats []*exec.Cmd
			var over []<-chan error
			for name := range files {
				before := begun.Load()
				cat, ended := startCat(t, filepath.Join(m.Dir, "a", name))
				await(t, "the request", func() bool { return begun.Load() > before })
				cats, over = append(cats, cat), append(over, ended)
			}
			end(t, m)
			if what == "lazily" { // the mount lives as long as its users
				for _, cat := range cats {
					_ = cat.Process.Kill()
				}
			}
			for _, ended := range over {
				endsSoon(t, "cat", ended)
			}
			gone := make(chan error, 1)
			go func() { gone <- m.Wait(t.Context()) }()
			endsSoon(t, "meshmount", gone)
		})
	}
}
