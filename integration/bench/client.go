package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/meshmount/meshmount/integration/harness"
)

// Names of the clients, in the order of their columns.
const (
	ours    = "ours"
	rclone  = "rclone"
	davfs   = "davfs2"
	irodsfs = "irodsfs"
	python  = "python" // python3-irodsclient, which mounts nothing
)

var clientNames = []string{ours, rclone, davfs, irodsfs, python}

func isClient(name string) bool { return slices.Contains(clientNames, name) }

// client is a program that mounts a server's tree. One mount of it at a time.
type client struct {
	name  string
	cache string // its cache directory
	at    string // mount point; each mount has one of its own
	log   string
	// start runs the program; it need not have mounted when start returns.
	start func(ctx context.Context) (*child, error)
	// put uploads a directory's files to a place of the server, in place of a mount. It is
	// nil for who mounts.
	put func(ctx context.Context, dir, name string) error
	// daemon finds the process that serves the mount, if it is not the one started.
	daemon func() (int, error)
	// prepare makes what the cache directory must be like. May be nil.
	prepare func() error

	process *child
	pid     int
	mounts  int
}

// mountTime is how long a mount may take.
const mountTime = 30 * time.Second

// mount starts the client, with what its cache holds or with an empty one.
func (c *client) mount(ctx context.Context, cold bool) error {
	if cold {
		if err := putAway(c.cache); err != nil {
			return err
		}
	}
	c.mounts++
	c.at = filepath.Join(filepath.Dir(c.cache), fmt.Sprint("mnt", c.mounts))
	c.log = c.at + ".log"
	if err := errors.Join(os.MkdirAll(c.cache, 0o700), os.MkdirAll(c.at, 0o755)); err != nil {
		return err
	}
	if c.prepare != nil {
		if err := c.prepare(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, mountTime)
	defer cancel()
	process, err := c.start(ctx)
	if err != nil {
		return err
	}
	c.process, c.pid = process, process.pid()
	if c.daemon == nil {
		err = process.until(ctx, func() (bool, error) { return harness.Mounted(c.at) })
	} else {
		err = c.waitDaemon(ctx)
	}
	if err != nil {
		c.destroy()
		return fmt.Errorf("%w: %s", err, tailOf(c.log))
	}
	return nil
}

// waitDaemon is for a program that goes into the background when it has mounted.
func (c *client) waitDaemon(ctx context.Context) error {
	select {
	case <-c.process.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	ok, err := harness.Mounted(c.at)
	if err == nil && !ok {
		err = errors.Join(errors.New("nothing is mounted"), c.process.err)
	}
	if err == nil {
		c.pid, err = c.daemon()
	}
	return err
}

// unmount ends the client in order, or else by force.
func (c *client) unmount() error {
	if c.process == nil {
		return nil
	}
	defer c.destroy()
	if c.daemon == nil {
		return c.process.stop()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "umount", c.at).CombinedOutput(); err != nil {
		return fmt.Errorf("umount: %w: %s", err, out)
	}
	return nil
}

// destroy leaves neither process nor mount.
func (c *client) destroy() {
	if c.process == nil {
		return
	}
	if c.daemon != nil && c.pid != 0 && c.pid != c.process.pid() {
		_ = syscall.Kill(c.pid, syscall.SIGKILL) // fails if it has ended
	}
	c.process.kill()
	c.endHelpers()
	_ = harness.Detach(c.at)
	c.process, c.pid = nil, 0
}

// endHelpers waits for processes that the client has left behind and kills them if they
// stay: irodsfs has one that unmounts when the client is gone, at any time later.
func (c *client) endHelpers() {
	for end := time.Now().Add(helperTime); ; time.Sleep(20 * time.Millisecond) {
		pids, err := harness.Processes(c.at) // ours: nobody else knows the place
		if err != nil || len(pids) == 0 {
			return
		}
		if time.Now().After(end) {
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL) // fails if it has ended
			}
			return
		}
	}
}

// helperTime is how long helpers may take to end.
const helperTime = 3 * time.Second

// command is a program with the surroundings that all clients get.
func (c *client) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = harness.Environ(filepath.Dir(c.cache))
	return cmd
}
