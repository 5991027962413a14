package secret

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/harness"
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

// terminal starts the helper on a pseudo terminal.
func terminal(t *testing.T) (*os.File, *harness.Screen, *exec.Cmd) {
	t.Helper()
	master, slave := harness.Terminal(t, 0)
	cmd := exec.Command(os.Args[0], "-test.run=^TestPromptHelper$")
	cmd.Env = append(os.Environ(), "TEST_PROMPT=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close() // the helper has it
	shown, wait := harness.Shown(master)
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		wait()
	})
	return master, shown, cmd
}

func TestTerminal(t *testing.T) {
	master, shown, _ := terminal(t)
	shown.Await(t, "Password? ")
	if _, err := master.WriteString("hunter2\n"); err != nil {
		t.Fatal(err)
	}
	shown.Await(t, "got <HUNTER2> <nil>")
	if strings.Contains(shown.String(), "hunter2") {
		t.Errorf("the password was shown: %q", shown.String())
	}
}

func TestInterruptAtThePrompt(t *testing.T) {
	master, shown, _ := terminal(t)
	shown.Await(t, "Password? ")
	if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	shown.Await(t, "got <> interrupted")
	state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		t.Errorf("echo was not restored: %v", err)
	}
}
