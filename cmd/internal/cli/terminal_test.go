package cli

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/integration/harness"
)

// terminal returns a pseudo terminal for a program's errors, and what it shows.
func terminal(t *testing.T) (*os.File, *harness.Screen) {
	t.Helper()
	master, slave := harness.Terminal(t, 0)
	shown, wait := harness.Shown(master)
	t.Cleanup(func() {
		_ = slave.Close()
		wait()
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
