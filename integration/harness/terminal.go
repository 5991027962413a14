package harness

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Screen collects what a program writes, or what a terminal shows. It is safe for
// concurrent use.
type Screen struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String returns all that has come so far.
func (s *Screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Await waits until text has come.
func (s *Screen) Await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !strings.Contains(s.String(), text); {
		if time.Now().After(deadline) {
			t.Fatalf("%q did not appear; what has is %q", text, s.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Terminal makes a pseudo terminal of some width: what is written to slave is read from
// master. Both are closed at the end of the test.
func Terminal(t *testing.T, columns uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// Shown collects what a terminal shows. Its reader ends when nobody has the slave open any
// more, and is waited for with wait.
func Shown(master *os.File) (shown *Screen, wait func()) {
	shown = &Screen{}
	var reader sync.WaitGroup
	reader.Go(func() {
		for buf := make([]byte, 4096); ; {
			n, err := master.Read(buf)
			_, _ = shown.Write(buf[:n])
			if err != nil {
				return // EIO
			}
		}
	})
	return shown, reader.Wait
}
