package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// TestMain makes the test binary a client or a server when it is told a socket: those of
// another process, perhaps of another user.
func TestMain(m *testing.M) {
	if name := os.Getenv("TEST_CONTROL_SOCKET"); name != "" {
		role := beClient
		if os.Getenv("TEST_CONTROL_SERVE") != "" {
			role = beServer
		}
		if err := role(name); err != nil {
			_, _ = io.WriteString(os.Stdout, err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func beClient(name string) error { return NewClient(name).Refresh(context.Background(), "/x") }

// beServer serves until its input ends, and says when it is there.
func beServer(name string) error {
	s, err := Listen(name, &target{}, nil)
	if err != nil {
		return err
	}
	_, _ = io.WriteString(os.Stdout, "ready\n")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, s.Close())
}

// target notes what it is asked for.
type target struct {
	*changes
	mu    sync.Mutex
	paths []string
	err   error
	stats Stats
	block chan struct{} // if not nil, Refresh waits for it or the context
}

func (t *target) Refresh(ctx context.Context, path string) error {
	t.mu.Lock()
	t.paths = append(t.paths, path)
	err, block := t.err, t.block
	t.mu.Unlock()
	if block != nil {
		block <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (t *target) Stats(context.Context) (Stats, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats, t.err
}

func (t *target) asked() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.paths...)
}

// listen starts a server and has it closed.
func listen(t *testing.T, name string, on Target) *Server {
	t.Helper()
	s, err := Listen(name, on, nil)
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

func TestCalls(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	on := &target{stats: Stats{
		PID: 7, Mountpoint: "/mnt", Version: "1", Started: time.Unix(1000, 0).UTC(), Memory: Memory{1, 2, 3},
		Cache: &Cache{State: "ready", Hits: 5}, Ahead: &Ahead{Limit: 9},
		Branches: []Branch{{Name: "a", URL: "davs://h", Ops: map[string]Op{"read": {Calls: 2, Errors: map[string]int64{"locked": 1}}}}},
	}}
	listen(t, name, on)
	c := NewClient(name)
	got, err := c.Stats(t.Context())
	if err != nil || !reflect.DeepEqual(got, on.stats) {
		t.Errorf("%+v, %v", got, err)
	}
	odd := "/ä b/%2f\"\\\n"
	if err := errors.Join(c.Refresh(t.Context(), "/"), c.Refresh(t.Context(), odd)); err != nil {
		t.Error(err)
	}
	if got := on.asked(); !reflect.DeepEqual(got, []string{"/", odd}) {
		t.Errorf("asked for %q", got)
	}
	if st, err := os.Lstat(name); err != nil || st.Mode() != os.ModeSocket|0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestErrorsArrive(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	on := &target{}
	listen(t, name, on)
	c := NewClient(name)
	for _, kind := range remote.Kinds() {
		on.mu.Lock()
		on.err = &remote.Error{Op: "refresh", Path: "/p", Kind: kind, Err: errors.New("why")}
		on.mu.Unlock()
		err := c.Refresh(t.Context(), "/p")
		if remote.KindOf(err) != kind || !strings.HasSuffix(err.Error(), "why") || !strings.HasPrefix(err.Error(), "refresh /p: ") {
			t.Errorf("%v: %v", kind, err)
		}
	}
	on.mu.Lock()
	on.err = errors.New("plain")
	on.mu.Unlock()
	if _, err := c.Stats(t.Context()); remote.KindOf(err) != remote.Other || err.Error() != "stats: plain" {
		t.Errorf("%v", err)
	}
}

func TestBadRequests(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	on := &target{}
	listen(t, name, on)
	c := NewClient(name)
	for _, path := range []string{"", "relative", "/a/../b", "/a\x00b", "/" + strings.Repeat("x", 5000), "/\xff"} {
		if err := c.Refresh(t.Context(), path); !errors.Is(err, remote.Invalid) && !errors.Is(err, remote.NameTooLong) {
			t.Errorf("%.20q: %v", path, err)
		}
	}
	for _, r := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/v1/refresh", "{", http.StatusBadRequest},
		{"POST", "/v1/refresh", `{"path":"/","more":1}`, http.StatusBadRequest},
		{"POST", "/v1/refresh", `{"path":"` + strings.Repeat("x", maxBody) + `"}`, http.StatusBadRequest},
		{"GET", "/v1/refresh", "", http.StatusMethodNotAllowed},
		{"POST", "/v1/stats", "", http.StatusMethodNotAllowed},
		{"GET", "/v2/stats", "", http.StatusNotFound},
	} {
		request, err := http.NewRequestWithContext(t.Context(), r.method, "http://x"+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		response, err := c.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != r.status {
			t.Errorf("%s %s %.30s: %s", r.method, r.path, r.body, response.Status)
		}
		_ = response.Body.Close()
	}
	if got := on.asked(); len(got) > 0 {
		t.Errorf("the target was asked for %q", got)
	}
}

func TestLongNames(t *testing.T) {
	dir := t.TempDir()
	for len(dir) < 300 {
		dir = filepath.Join(dir, strings.Repeat("d", 50))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "control.sock")
	on := &target{}
	s := listen(t, name, on)
	if err := NewClient(name).Refresh(t.Context(), "/x"); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := Listen(filepath.Join(dir, strings.Repeat("n", 200)), on, nil); !errors.Is(err, syscall.ENAMETOOLONG) {
		t.Errorf("a name that does not fit: %v", err)
	}
	if _, err := Listen(filepath.Join(dir, "none", "control"), on, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestNobodyThere(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "control")
	if _, err := NewClient(name).Stats(t.Context()); !errors.Is(err, remote.NotExist) || !strings.Contains(err.Error(), name) {
		t.Errorf("no socket: %v", err)
	}
	// What a process leaves that was killed.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(name).Stats(t.Context()); !errors.Is(err, remote.NotExist) {
		t.Errorf("dead socket: %v", err)
	}
	on := &target{}
	listen(t, name, on)
	if err := NewClient(name).Refresh(t.Context(), "/"); err != nil {
		t.Errorf("after a new start: %v", err)
	}
}

func TestSilentServer(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := NewClient(name).Stats(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestAnswerOfSomethingElse(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	l, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "teapot", http.StatusTeapot) })}
	serving.Go(func() { _ = server.Serve(l) })
	defer serving.Wait()
	defer func() { _ = server.Close() }()
	if _, err := NewClient(name).Stats(t.Context()); !errors.Is(err, remote.Unavailable) || !strings.Contains(err.Error(), "418") {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsWhatIsAnswered(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	on := &target{block: make(chan struct{})}
	s, err := Listen(name, on, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() { answer <- NewClient(name).Refresh(context.Background(), "/") }()
	<-on.block
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-answer; err == nil {
		t.Error("a request that was cut off has succeeded")
	}
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestCloseLeavesTheSocketOfAnother(t *testing.T) {
	name := filepath.Join(t.TempDir(), "control")
	first, second := &target{}, &target{}
	old, err := Listen(name, first, nil)
	if err != nil {
		t.Fatal(err)
	}
	listen(t, name, second)
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	if err := NewClient(name).Refresh(t.Context(), "/"); err != nil || len(second.asked()) != 1 {
		t.Errorf("%v, %q", err, second.asked())
	}
}

// stranger prepares a run of the test binary as another user, in a directory that this
// user can reach. Only root can do that.
func stranger(t *testing.T, uid uint32, env ...string) (cmd *exec.Cmd, socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	program := filepath.Join(dir, "program")
	if err := errors.Join(err, os.WriteFile(program, self, 0o755), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "control")
	cmd = exec.Command(program)
	cmd.Env, cmd.Dir = append(env, "TEST_CONTROL_SOCKET="+socket), dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd, socket
}

const nobody = 65534

// TestClientsOfOtherUsers tries a socket of mode 0600, and one that is open to all.
func TestClientsOfOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	for mode, want := range map[os.FileMode]string{0o600: "permission denied", 0o666: "another user"} {
		cmd, socket := stranger(t, nobody)
		on := &target{}
		listen(t, socket, on)
		if err := os.Chmod(socket, mode); err != nil {
			t.Fatal(err)
		}
		if out, err := cmd.Output(); err == nil || !strings.Contains(string(out), want) {
			t.Errorf("mode %o: %s, %v", mode, out, err)
		}
		if got := on.asked(); len(got) > 0 {
			t.Errorf("mode %o: the target was asked for %q", mode, got)
		}
	}
}

// TestServersOfOtherUsers lets root in, and keeps others from talking to a stranger.
func TestServersOfOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	cmd, socket := stranger(t, nobody, "TEST_CONTROL_SERVE=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Errorf("%q, %v", line, err)
	}
	c := NewClient(socket)
	if err := c.Refresh(t.Context(), "/"); err != nil {
		t.Errorf("root: %v", err)
	}
	c.own = nobody - 1
	if err := c.Refresh(t.Context(), "/"); !errors.Is(err, remote.Permission) || !strings.Contains(err.Error(), "another user") {
		t.Errorf("a client of a third user: %v", err)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
}
