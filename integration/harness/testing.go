package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binDir is where the programs under test are built: one place per test process.
func binDir() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("meshmount-bin-%d", os.Getpid()))
}

// Main runs a package's tests, for use in TestMain. It gives them a temporary
// directory of their own, which it removes, and makes the run fail if a mount is
// left in it.
func Main(m *testing.M) {
	base, err := os.MkdirTemp("", "meshmount-test-")
	if err == nil {
		err = errors.Join(os.Chmod(base, 0o755), os.Setenv("TMPDIR", base))
	}
	if err != nil {
		panic(err)
	}
	code := m.Run()
	left, err := Leftovers(base)
	for _, dir := range left {
		err = errors.Join(err, fmt.Errorf("%s was left mounted", dir), Detach(dir))
	}
	if err = errors.Join(err, os.RemoveAll(base)); err != nil && code == 0 {
		panic(err)
	}
}

// Program returns the meshmount program under test, built once with the race
// detector. MESHMOUNT_TEST_BINARY names another one to test instead.
func Program(tb testing.TB) string {
	tb.Helper()
	path, err := program()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

var program = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("MESHMOUNT_TEST_BINARY"); path != "" {
		return path, nil
	}
	return build("meshmount", "./cmd/meshmount", "1", "-race")
})

// StaticProgram returns the program as it is delivered: without cgo, and so without
// the race detector.
func StaticProgram(tb testing.TB) string {
	tb.Helper()
	path, err := staticProgram()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

var staticProgram = sync.OnceValues(func() (string, error) {
	return build(staticName, "./cmd/meshmount", "0")
})

const staticName = "meshmount-static"

// DemoProgram returns the program behind "make demo".
func DemoProgram(tb testing.TB) string {
	tb.Helper()
	path, err := demoProgram()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

var demoProgram = sync.OnceValues(func() (string, error) { return build("meshdemo", "./cmd/meshdemo", "0") })

// build compiles a program of the source tree that holds this package.
func build(name, source, cgo string, flags ...string) (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("the source tree is unknown")
	}
	if err := os.MkdirAll(binDir(), 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(binDir(), name)
	// Without tables for debuggers, which take the linker most of its time.
	cmd := exec.Command("go", append(append([]string{"build", "-ldflags=-s -w"}, flags...), "-o", path, source)...)
	cmd.Dir = filepath.Join(filepath.Dir(file), "..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// Mounting starts the program on a new mount point. The test fails if that fails,
// if the mount cannot be unmounted cleanly at its end, or if the race detector
// found something.
func Mounting(tb testing.TB, env []string, args ...string) *Mount {
	tb.Helper()
	return MountingProgram(tb, Program(tb), env, args...)
}

// MountingProgram is Mounting with another program, StaticProgram for one.
func MountingProgram(tb testing.TB, program string, env []string, args ...string) *Mount {
	tb.Helper()
	dir := tb.TempDir()
	point := filepath.Join(dir, "mnt")
	if err := os.Mkdir(point, 0o755); err != nil {
		tb.Fatal(err)
	}
	m, err := Start(tb.Context(), Spec{
		Binary: program, Dir: point, Args: args, Log: filepath.Join(dir, "log"),
		Env: append(underTest(program), env...),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		m.Destroy()
		switch output := m.Output(); {
		case strings.Contains(output, dataRace):
			tb.Errorf("data race in meshmount on %s:\n%s", m.Dir, excerpt(output))
		case tb.Failed() && shows(tb):
			tb.Logf("log of %s:\n%s", m.Dir, excerpt(output))
		}
	})
	return m
}

// underTest is the environment of a program that may have the race detector. Its memory
// says nothing then, so that its garbage need not be collected as often.
func underTest(program string) []string {
	env := []string{"GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=0"}
	if filepath.Base(program) != staticName {
		env = append(env, "GOGC=400")
	}
	return env
}

// How much of the programs' logs a failed test prints, so that its own words are not
// buried: the end of the logs of the mounts that were started last, and of a crash its
// beginning.
const (
	logsMost   = 2
	logLines   = 15
	crashLines = 80
	lineMost   = 400 // bytes
)

// dataRace is how the race detector begins.
const dataRace = "WARNING: DATA RACE"

// excerpt returns what is worth reading of a program's log.
func excerpt(log string) string {
	for _, crash := range []string{dataRace, "panic: ", "fatal error: "} {
		if _, rest, found := strings.Cut(log, crash); found {
			return firstLines(crash+rest, crashLines)
		}
	}
	return lastLines(log, logLines)
}

// shown counts the logs that tests have printed (testing.TB -> int).
var shown sync.Map

// shows tells whether a test may print one more log. Clean-ups run in the reverse order,
// so that the first to ask is the mount that was started last.
func shows(tb testing.TB) bool {
	before, _ := shown.LoadOrStore(tb, 0)
	n := before.(int)
	shown.Store(tb, n+1)
	return n < logsMost
}

// lastLines returns the last n lines of a text, and says how many it leaves out.
func lastLines(text string, n int) string {
	lines := splitLines(text)
	var b strings.Builder
	if left := len(lines) - n; left > 0 {
		_, _ = fmt.Fprintf(&b, "(lines before: %d)\n", left)
		lines = lines[left:]
	}
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// firstLines returns the first n lines of a text.
func firstLines(text string, n int) string {
	lines := splitLines(text)
	return strings.Join(lines[:min(n, len(lines))], "\n")
}

// splitLines returns the lines of a text, long ones cut.
func splitLines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) > lineMost {
			line = line[:lineMost] + "..."
		}
		lines = append(lines, line)
	}
	return lines
}

// MustUnmount unmounts or fails the test.
func (m *Mount) MustUnmount(tb testing.TB) {
	tb.Helper()
	if err := m.Unmount(); err != nil {
		tb.Fatal(err)
	}
}

// commandTime is the longest that one command of a test may take.
const commandTime = 10 * time.Minute

// Run runs a program in dir and returns what it wrote. The test fails if it fails
// or takes too long; then its whole process group is killed.
func Run(tb testing.TB, dir, name string, args ...string) string {
	tb.Helper()
	out, err := Try(tb.Context(), dir, name, args...)
	if err != nil {
		tb.Fatalf("%s %q: %v\n%s", name, args, err, lastLines(out, 100))
	}
	return out
}

// Shell runs a bash script in dir, stopping at the first error, and returns what
// it wrote.
func Shell(tb testing.TB, dir, script string, args ...string) string {
	tb.Helper()
	return Run(tb, dir, "bash", append([]string{"-euo", "pipefail", "-c", script, "bash"}, args...)...)
}

// Try runs a program in dir and returns what it wrote, and its error. The program
// changes to dir itself, by way of env: while this process forks, all of it may stand
// still, servers in it too, so that nothing on a mount of theirs may be touched then.
func Try(ctx context.Context, dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "env", append([]string{"-C", dir, name}, args...)...)
	cmd.Env = append(Environ(os.TempDir()), "LC_ALL=C.UTF-8", "TZ=UTC", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.org",
		"GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.org")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	return string(out), err
}
