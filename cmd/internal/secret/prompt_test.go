package secret

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPromptHelper is no test: TestTerminal runs it on a terminal of its own.
func TestPromptHelper(t *testing.T) {
	if os.Getenv("TEST_PROMPT") == "" {
		return
	}
	prompt := Terminal()
	if prompt == nil {
		t.Fatal("no terminal")
	}
	s, err := prompt(t.Context(), "Password? ")
	fmt.Printf("got <%s> %v\n", strings.ToUpper(s.Reveal()), err)
}

// screen collects what a terminal shows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the screen shows text.
func (s *screen) await(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !strings.Contains(s.String(), text); {
		if time.Now().After(deadline) {
			t.Fatalf("%q did not appear; the screen shows %q", text, s.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// terminal starts the helper on a pseudo terminal.
func terminal(t *testing.T) (*os.File, *screen, *exec.Cmd) {
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
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slave.Close() }()
	cmd := exec.Command(os.Args[0], "-test.run=^TestPromptHelper$")
	cmd.Env = append(os.Environ(), "TEST_PROMPT=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := &screen{}
	var reader sync.WaitGroup
	reader.Go(func() {
		for buf := make([]byte, 4096); ; {
			n, err := master.Read(buf)
			_, _ = shown.Write(buf[:n])
			if err != nil {
				return // EIO when the last user of the terminal is gone
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		reader.Wait()
	})
	return master, shown, cmd
}

func TestTerminal(t *testing.T) {
	master, shown, _ := terminal(t)
	shown.await(t, "Password? ")
	if _, err := master.WriteString("hunter2\n"); err != nil {
		t.Fatal(err)
	}
	shown.await(t, "got <HUNTER2> <nil>")
	if strings.Contains(shown.String(), "hunter2") {
		t.Errorf("the password was shown: %q", shown.String())
	}
}

func TestInterruptAtThePrompt(t *testing.T) {
	master, shown, _ := terminal(t)
	shown.await(t, "Password? ")
	if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	shown.await(t, "got <> interrupted")
	state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		t.Errorf("echo was not restored: %v", err)
	}
}
