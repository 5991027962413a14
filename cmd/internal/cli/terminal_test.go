package cli

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// screen is what a terminal shows.
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

// terminal returns a pseudo terminal for a program's errors, and what it shows.
func terminal(t *testing.T) (*os.File, *screen) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
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
		_ = slave.Close()
		reader.Wait()
		_ = master.Close()
	})
	return slave, shown
}

// TestProgressOnATerminal is told while an unmount and a flush wait.
func TestProgressOnATerminal(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
	for _, command := range []string{"flush", "unmount"} {
		w.back(s)
		s.answer.Store(http.StatusServiceUnavailable)
		w.store(command, "text")
		slave, shown := terminal(t)
		cmd := w.command("meshmount", command, w.point)
		cmd.Stderr = slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, func() error {
			if text := shown.String(); !strings.Contains(text, "\r1 change (4 B) to upload") {
				return fmt.Errorf("%s shows %q", command, text)
			}
			return nil
		})
		s.answer.Store(0)
		if r := w.run("retry", "--all"); r.code != exit.OK && r.code != exit.NotMounted {
			t.Errorf("%+v", r)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, shown.String())
		}
		await(t, func() error {
			if text := shown.String(); !strings.HasSuffix(text, "\r\x1b[K") || strings.Contains(text, "\n") {
				return fmt.Errorf("%s leaves %q", command, text)
			}
			return nil
		})
		if command == "flush" {
			w.succeeds(w.run("unmount", w.point))
		}
	}
	w.clean()
}

func TestTimeOfAnUnmount(t *testing.T) {
	for _, c := range []struct {
		given string
		lazy  bool
		want  time.Duration
	}{{"", false, 0}, {"", true, 10 * time.Minute}, {"5", true, 5 * time.Second}, {"0", true, 0}} {
		if got, err := unmountTime(c.given, c.lazy); err != nil || got != c.want {
			t.Errorf("%+v: %v, %v", c, got, err)
		}
	}
	w := newWorld(t)
	w.fails(w.run("unmount", "--timeout=soon", w.point), exit.Usage, `command line --timeout: "soon" is not a duration`)
}
