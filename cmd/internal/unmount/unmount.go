// Package unmount takes a mount away and waits for the process behind it.
package unmount

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/fusecheck"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs/control"
)

// Options say how.
type Options struct {
	Lazy    bool          // detach at once, whoever uses it
	Timeout time.Duration // for the process to end; 0 is for ever
	// Tell, if not nil, is called now and then with how much is not on its server yet.
	Tell func(control.Progress)
	// Left, if not nil, is called once with what is left, which may be nothing.
	Left func(pending.Left) error
}

// Unmount takes the mount at point away and returns when its process has ended and
// all that was written is on the servers. If the mount is gone already but its
// process is still at work, it waits for that. The error is an *exit.Error: of the
// unmount, or what the process left as its ending.
func Unmount(ctx context.Context, point string, opts Options) error {
	real, err := state.RealPoint(point)
	if err != nil {
		return exit.New(exit.NotMounted, "", "%s: %w", point, err)
	}
	m, mounted, err := state.FindMount(real)
	if err != nil {
		return exit.New(exit.Failed, "", "cannot read the mount table: %w", err)
	}
	mounted = mounted && m.Type == state.FSType
	holder, known := find(ctx, real, mounted)
	if !mounted && !known {
		return exit.New(exit.NotMounted, "see: mount -t "+state.FSType, "no meshmount mount on %s", real)
	}
	var process int
	if known {
		if process, known = open(holder); known {
			defer func() { _ = unix.Close(process) }()
		}
	}
	if mounted {
		if err := detach(real, opts.Lazy); err != nil {
			return err
		}
	}
	if !known {
		return opts.left(pending.Left{Mountpoint: real, Changes: []control.Item{}})
	}
	err = wait(ctx, process, holder, opts)
	if err == nil {
		err = ended(holder)
	}
	if opts.Left == nil {
		return err
	}
	list, listErr := leftOf(ctx, holder)
	if listErr != nil {
		return cmp.Or(err, error(exit.New(exit.Failed, "", "what is left is not known: %w", listErr)))
	}
	return cmp.Or(err, opts.left(list))
}

func (o *Options) left(list pending.Left) error {
	if o.Left == nil {
		return nil
	}
	return o.Left(list)
}

// leftOf returns what a process has not stored: it tells so itself, or has left a list.
func leftOf(ctx context.Context, h state.Holder) (pending.Left, error) {
	switch {
	case h.CacheDir == "":
		return pending.Left{}, errors.New("its cache directory is not known")
	case !h.Alive():
		l, err := pending.ReadLeft(h.CacheDir)
		l.Mountpoint = h.Point
		return l, err
	}
	l := pending.Left{Mountpoint: h.Point, CacheDir: h.CacheDir, Changes: []control.Item{}}
	err := control.NewClient(h.Control).Items(context.WithoutCancel(ctx), func(i control.Item) error {
		l.Add(i)
		return nil
	})
	return l, err
}

// ended returns what the process left as its ending. A mount that was dead before
// leaves no ending of its own, and needs none.
func ended(h state.Holder) error {
	if h.CacheDir == "" {
		return nil
	}
	return state.ReadEnding(h)
}

// find returns the process that serves the mount: from the register or, for mounts
// that another user or environment has made, from the mount itself.
func find(ctx context.Context, point string, mounted bool) (state.Holder, bool) {
	if h, err := state.Registered(point); err == nil && h.Alive() {
		return h, true
	}
	if !mounted {
		return state.Holder{}, false
	}
	pid, err := state.Ask(ctx, point)
	if err != nil {
		return state.Holder{}, false
	}
	h, err := state.HolderOf(pid)
	if err != nil {
		return state.Holder{}, false
	}
	h.Point = point
	return h, true
}

// open returns a descriptor for the process, if it still is the one.
func open(h state.Holder) (int, bool) {
	fd, err := unix.PidfdOpen(h.PID, 0)
	if err != nil {
		return -1, false
	}
	if !h.Alive() {
		_ = unix.Close(fd)
		return -1, false
	}
	return fd, true
}

// How often and how long a busy mount is tried again: the kernel lets go of files
// that were closed a moment ago.
const (
	busyTries = 6
	busyPause = 20 * time.Millisecond
)

// detach removes the mount from the tree.
func detach(point string, lazy bool) error {
	var err error
	for try := range busyTries {
		time.Sleep(time.Duration(try) * busyPause)
		if err = umount(point, lazy); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	switch _, still, lookErr := state.FindMount(point); {
	case err == nil, lookErr == nil && !still: // somebody else was faster
		return nil
	case errors.Is(err, unix.EBUSY):
		return exit.New(exit.UnmountBusy, "end these programs, or use --lazy", "%s is in use%s", point, users(point))
	}
	return exit.New(exit.UnmountFailed, "as its owner or root, run: umount "+point, "cannot unmount %s: %w", point, err)
}

// umount tries umount2(2), and the helper where that is not allowed.
func umount(point string, lazy bool) error {
	flags, args := unix.UMOUNT_NOFOLLOW, []string{"-u"}
	if lazy {
		flags, args = flags|unix.MNT_DETACH, append(args, "-z")
	}
	err := unix.Unmount(point, flags)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	facts := fusecheck.Look()
	if facts.HelperPath == "" {
		return fmt.Errorf("%w, and %s is not installed", err, fusecheck.Helper)
	}
	cmd := exec.Command(facts.HelperPath, append(args, "--", point)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	switch text := bytes.TrimSpace(out); {
	case err == nil:
		return nil
	case bytes.Contains(text, []byte("Device or resource busy")):
		return unix.EBUSY
	case len(text) > 0:
		return errors.New(string(text))
	}
	return fmt.Errorf("%s: %w", fusecheck.Helper, err)
}

// most is how many users of a busy mount are named.
const most = 5

// users names programs that use the mount, as far as /proc shows them.
func users(point string) string {
	var list []string
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range processes {
		if len(list) > most {
			break
		}
		if how := uses(dir, point); how != "" {
			name, _ := os.ReadFile(dir + "/comm")
			list = append(list, fmt.Sprintf("%s (%s, %s)", filepath.Base(dir), strings.TrimSpace(string(name)), how))
		}
	}
	switch {
	case len(list) == 0:
		return ""
	case len(list) > most:
		list[most] = "and others"
	}
	return " by " + strings.Join(list, ", ")
}

// uses tells how a process uses the mount. It reads links only, and touches nothing
// in the mount.
func uses(dir, point string) string {
	inside := func(link string) bool {
		target, err := os.Readlink(link)
		return err == nil && (target == point || strings.HasPrefix(target, point+"/"))
	}
	if inside(dir+"/cwd") || inside(dir+"/root") {
		return "working directory"
	}
	files, _ := filepath.Glob(dir + "/fd/*")
	for _, file := range files {
		if inside(file) {
			target, _ := os.Readlink(file)
			return "open " + target
		}
	}
	return ""
}

// askTime is how long the process may take to tell how it goes.
const askTime = 2 * time.Second

// wait returns when the process has ended.
func wait(ctx context.Context, process int, h state.Holder, opts Options) error {
	deadline := time.Now().Add(opts.Timeout)
	left := 100 * time.Millisecond // before the first word
	for {
		if opts.Timeout > 0 {
			left = min(left, max(time.Until(deadline), 0))
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(left.Milliseconds()))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return exit.New(exit.Failed, "", "cannot wait for process %d: %w", h.PID, err)
		case ctx.Err() != nil:
			return exit.New(exit.Interrupted, "run meshmount unmount again to wait", "process %d is still at work for %s", h.PID, h.Point)
		case opts.Timeout > 0 && !time.Now().Before(deadline):
			return exit.New(exit.UnmountTimeout, "run meshmount unmount again to wait, or see its log", "%s is unmounted, but process %d is still at work", h.Point, h.PID)
		}
		opts.tell(ctx, h)
		left = time.Second // to look at ctx now and then
	}
}

// tell passes on how the process gets on, if it says so.
func (o *Options) tell(ctx context.Context, h state.Holder) {
	if o.Tell == nil || h.Control == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if p, err := control.NewClient(h.Control).Progress(ctx); err == nil {
		o.Tell(p)
	}
}
