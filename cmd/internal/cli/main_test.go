package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/integration/efss"
)

// asProgram makes the test binary behave as meshmount, in the processes it starts
// itself, too.
const asProgram = "TEST_AS_MESHMOUNT"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(int(FromOS("test").Main(context.Background())))
	}
	os.Exit(m.Run())
}

// world is where the program runs in a test: its own home and cache, a mount point,
// and no terminal.
type world struct {
	t     *testing.T
	dir   string
	point string
	env   []string
}

func newWorld(t *testing.T, env ...string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, dir: dir, point: filepath.Join(dir, "mnt")}
	if err := os.Mkdir(w.point, 0o755); err != nil {
		t.Fatal(err)
	}
	w.env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + dir,
		"XDG_CACHE_HOME=" + filepath.Join(dir, "cache"), "GORACE=exitcode=66 atexit_sleep_ms=0"}, env...)
	t.Cleanup(w.cleanUp)
	return w
}

// cleanUp takes away what a failed test has left.
func (w *world) cleanUp() {
	for {
		m, mounted, err := state.FindMount(w.point)
		if err != nil || !mounted {
			return
		}
		if !w.t.Failed() {
			w.t.Errorf("left mounted: %+v", m)
		}
		if err := syscall.Unmount(w.point, syscall.MNT_DETACH); err != nil {
			w.t.Errorf("cannot clean up: %v", err)
			return
		}
	}
}

// result is how a run of the program ended.
type result struct {
	code        exit.Code
	out, errors string
}

func (w *world) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = name
	cmd.Env, cmd.Dir = w.env, w.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal
	return cmd
}

// run runs the program and waits for it, and not for those it leaves behind.
func (w *world) run(args ...string) result {
	w.t.Helper()
	return w.finish(w.command("meshmount", args...))
}

func (w *world) finish(cmd *exec.Cmd) result {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	timer := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	err := cmd.Run()
	if !timer.Stop() {
		w.t.Fatalf("%q did not end: %s%s", cmd.Args, out.String(), errs.String())
	}
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		w.t.Fatal(err)
	}
	return result{exit.Code(cmd.ProcessState.ExitCode()), out.String(), errs.String()}
}

// fails checks code and text of a failure, and that it is one line.
func (w *world) fails(r result, code exit.Code, want string) {
	w.t.Helper()
	if r.code != code || !strings.Contains(r.errors, want) {
		w.t.Errorf("code %d: %s\nwant %d: %s", r.code, r.errors, code, want)
	}
	if strings.Count(r.errors, "\n") != 1 || !strings.HasPrefix(r.errors, "meshmount: ") {
		w.t.Errorf("not one line: %q", r.errors)
	}
	if strings.Contains(r.errors+r.out, "hunter2") {
		w.t.Errorf("a secret is shown: %q", r.errors)
	}
}

// succeeds checks that a run went well.
func (w *world) succeeds(r result) {
	w.t.Helper()
	if r.code != exit.OK {
		w.t.Fatalf("code %d: %s\n%s", r.code, r.errors, w.logs())
	}
}

// clean checks that there is neither mount nor process of this world.
func (w *world) clean() {
	w.t.Helper()
	if m, mounted, err := state.FindMount(w.point); err != nil || mounted {
		w.t.Errorf("left mounted: %+v, %v", m, err)
	}
	if pids := w.processes(); len(pids) > 0 {
		w.t.Errorf("left running: %v", pids)
	}
}

// processes returns those that have the mount point as an argument.
func (w *world) processes() []string {
	var pids []string
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte("\x00"+w.point+"\x00")) {
			pids = append(pids, filepath.Base(filepath.Dir(name)))
		}
	}
	return pids
}

// logs returns what background mounts have logged.
func (w *world) logs() string {
	var text strings.Builder
	files, _ := filepath.Glob(filepath.Join(w.dir, "cache/meshmount/*/meshmount.log"))
	for _, name := range files {
		log, _ := os.ReadFile(name)
		text.Write(log)
	}
	return text.String()
}

// write makes a file in the world and returns its name.
func (w *world) write(name string, mode os.FileMode, text string) string {
	w.t.Helper()
	name = filepath.Join(w.dir, name)
	if err := errors.Join(os.WriteFile(name, []byte(text), mode), os.Chmod(name, mode)); err != nil {
		w.t.Fatal(err)
	}
	return name
}

const password = "hunter2"

// site starts a server with the user me, whose password is hunter2.
func site(t *testing.T, start efss.StartOptions) *efss.Running {
	t.Helper()
	s, err := efss.Start(efss.Options{Dir: t.TempDir(), Users: []efss.User{{Name: "me", Password: password, AppPassword: "app-hunter2"}}}, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// address returns a server's URL for the user me in our form.
func address(s *efss.Running) string {
	url := strings.Replace(s.DAVURL("me"), "https://", "davs://me@", 1)
	return strings.Replace(url, "http://", "dav://me@", 1)
}

// answering starts a server that answers everything alike.
func answering(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	s.Start()
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "http://", "dav://me@", 1)
}

// background is a run of the program that the test talks to.
type background struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	text bytes.Buffer
	done chan struct{}
}

// start begins a run that the test ends.
func (w *world) start(args ...string) *background {
	w.t.Helper()
	b := &background{cmd: w.command("meshmount", args...), done: make(chan struct{})}
	b.cmd.Stdout, b.cmd.Stderr = io.Discard, b
	if err := b.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		_ = b.cmd.Wait()
		close(b.done)
	}()
	w.t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		<-b.done
	})
	return b
}

// Write takes what the program logs.
func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *background) log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// says waits until the program has logged text.
func (b *background) says(t *testing.T, text string) {
	t.Helper()
	await(t, func() error {
		if log := b.log(); !strings.Contains(log, text) {
			return fmt.Errorf("it does not say %q but\n%s", text, log)
		}
		return nil
	})
}

func (b *background) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := b.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// ends waits for the end and returns the code.
func (b *background) ends(t *testing.T) exit.Code {
	t.Helper()
	select {
	case <-b.done:
	case <-time.After(4 * time.Minute):
		t.Fatalf("it does not end:\n%s", b.log())
	}
	return exit.Code(b.cmd.ProcessState.ExitCode())
}

// await repeats check until it returns nil.
func await(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for err := check(); err != nil; err = check() {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
