package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// stopTime is how long a child may take to end in order.
const stopTime = 20 * time.Second

// child is a process that this program has started and ends by its id. It is in a
// process group of its own, so that Ctrl-C reaches only us, and dies with us.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how; set before done is closed
}

// launch starts a program whose output is appended to the file log.
func launch(cmd *exec.Cmd, log string) (*child, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	if cmd.Stdout == nil {
		cmd.Stdout = out
	}
	cmd.Stderr = out
	// The runtime keeps its threads, so the starting thread dies with this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{cmd: cmd, done: make(chan struct{})}
	go func() { // ends with the process, which stop and kill see to
		c.err = cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop asks the process to end and kills it if it does not.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // fails if it has ended
	select {
	case <-c.done:
		return nil
	case <-time.After(stopTime):
		c.kill()
		return fmt.Errorf("%s did not end and was killed", c.cmd.Path)
	}
}

// kill ends the process at once.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // fails if it has ended
	<-c.done
}

// tailOf returns the end of a log, for messages.
func tailOf(log string) string {
	const most = 600
	file, err := os.Open(log)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-most), most))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// until polls until ok, an error, or the end of ctx or of the process.
func (c *child) until(ctx context.Context, ok func() (bool, error)) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if yes, err := ok(); yes || err != nil {
			return err
		}
		select {
		case <-c.done:
			return errors.Join(errors.New("the process has ended"), c.err)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
