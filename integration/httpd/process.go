package httpd

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// stopTime is how long a server may take to end before it is killed.
const stopTime = 4 * time.Minute

// process is a running server program.
type process struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed when the program has ended
	err  error         // how it ended; set before done is closed
}

// launch starts a program. The thread that starts it stays for as long as the program
// lives, because the kernel's signal at our death is bound to that thread.
func launch(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	return p, <-started
}

// stop ends the program and waits for it. A program that ends by our signal has
// ended well.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		<-p.done
		return fmt.Errorf("%s had ended: %w: %s", p.cmd.Path, errors.Join(p.err, err), p.out)
	}
	select {
	case <-p.done:
	case <-time.After(stopTime):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end: %s", p.cmd.Path, p.out)
	}
	return nil
}

// ended returns the error of a program that is no longer there, else nil.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %w: %s", p.cmd.Path, p.err, p.out)
	default:
		return nil
	}
}

// tail keeps the last output of a program.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 64 << 10

// Write keeps what it can.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailSize {
		t.buf = bytes.Clone(t.buf[len(t.buf)-tailSize:])
	}
	return len(p), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
