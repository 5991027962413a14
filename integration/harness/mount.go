package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Spec says how to run "meshmount mount" in the foreground.
type Spec struct {
	Binary string
	// Dir is the mount point. It must exist.
	Dir string
	// Args are flags and branches, which come after the mount point.
	Args []string
	// Env is added to the environment, "MESHMOUNT_PASSWORD_A=..." for example.
	Env []string
	// Log is the file that takes the program's output.
	Log string
	// Patience is how long the mount may live before it is killed, so that a
	// program that hangs on it gets an error. Zero means a quarter of an hour.
	Patience time.Duration
}

// Mount is a running meshmount and its mount point.
type Mount struct {
	Dir string

	binary string
	log    string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended and err is set
	err    error
	timer  *time.Timer
	gone   sync.Once
}

// A machine may stand still for a minute, and what is too slow then is no fault.
const (
	startTime   = 4 * time.Minute
	unmountTime = 4 * time.Minute
)

// Start runs the program and returns when the mount is there. The error holds the
// program's output.
func Start(ctx context.Context, spec Spec) (*Mount, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(spec.Binary, append([]string{"mount", "-f", spec.Dir}, spec.Args...)...)
	cmd.Env = append(Environ(os.TempDir()), spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// The runtime keeps its threads, so the starting thread dies with the process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	m := &Mount{Dir: spec.Dir, binary: spec.Binary, log: spec.Log, cmd: cmd, ended: make(chan struct{})}
	go func() {
		m.err = cmd.Wait()
		close(m.ended)
	}()
	patience := spec.Patience
	if patience == 0 {
		patience = 15 * time.Minute
	}
	m.timer = time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	if err := m.waitMounted(ctx); err != nil {
		m.Destroy()
		return nil, fmt.Errorf("%w\n%s", err, excerpt(m.Output()))
	}
	return m, nil
}

// waitMounted returns when the mount answers.
func (m *Mount) waitMounted(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := Mounted(m.Dir)
		if err != nil {
			return err
		}
		if ok {
			_, err := os.Stat(m.Dir)
			return err
		}
		select {
		case <-m.ended:
			return fmt.Errorf("meshmount ended before it mounted: %w", exitError(m.err))
		case <-ctx.Done():
			return fmt.Errorf("no mount at %s: %w", m.Dir, ctx.Err())
		case <-tick.C:
		}
	}
}

func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// PID returns the process that serves the mount.
func (m *Mount) PID() int { return m.cmd.Process.Pid }

// Output returns what the program has written so far.
func (m *Mount) Output() string {
	text, err := os.ReadFile(m.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Unmount runs "meshmount unmount", waits for the process and checks that it ended
// with success and left no mount.
func (m *Mount) Unmount() error {
	defer m.Destroy()
	ctx, cancel := context.WithTimeout(context.Background(), unmountTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.binary, "unmount", m.Dir)
	cmd.Env = Environ(os.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("meshmount unmount %s: %w\n%s\nlog:\n%s", m.Dir, err, out, excerpt(m.Output()))
	}
	return m.Wait(ctx)
}

// Wait returns when the process has ended: nil if with exit code 0 and the mount
// is gone.
func (m *Mount) Wait(ctx context.Context) error {
	select {
	case <-m.ended:
	case <-ctx.Done():
		return fmt.Errorf("meshmount on %s did not end: %w\n%s", m.Dir, ctx.Err(), excerpt(m.Output()))
	}
	if m.err != nil {
		return fmt.Errorf("meshmount on %s: %w\n%s", m.Dir, m.err, excerpt(m.Output()))
	}
	if ok, err := Mounted(m.Dir); err != nil || ok {
		return fmt.Errorf("%s is still mounted (%w)", m.Dir, err)
	}
	return nil
}

// Signal sends a signal to the process.
func (m *Mount) Signal(sig os.Signal) error { return m.cmd.Process.Signal(sig) }

// Kill ends the process with SIGKILL, waits for it and takes the dead mount away.
func (m *Mount) Kill() { m.Destroy() }

// Destroy makes sure that neither process nor mount is left, by force if need be.
// It may be called several times.
func (m *Mount) Destroy() {
	m.gone.Do(func() {
		m.timer.Stop()
		_ = m.cmd.Process.Kill() // fails if it has ended
		<-m.ended
		_ = Detach(m.Dir)
	})
}
