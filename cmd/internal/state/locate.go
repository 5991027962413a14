package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// maxLinks is how many symbolic links are followed on the way to a mount.
const maxLinks = 40

// Locate finds the mount of ours that an absolute path lies in, and the path within it,
// "/" for its root. Symbolic links on the way to the mount are followed; nothing within
// it is looked at, so that the path need not exist and the mount need not answer. The
// error is an *exit.Error.
func Locate(path string) (m Mount, inside string, err error) {
	table, err := mountTable()
	if err != nil {
		return m, "", exit.New(exit.Failed, "", "cannot read the mount table: %w", err)
	}
	here, rest := "/", strings.Split(filepath.Clean(path), "/")
	for links := 0; ; {
		if m, ok := table[here]; ok && m.Type == FSType {
			inside := filepath.Join(m.Root, strings.Join(nonEmpty(rest), "/"))
			return original(table, m), inside, nil
		}
		if rest = nonEmpty(rest); len(rest) == 0 {
			break
		}
		next := filepath.Join(here, rest[0])
		if _, mounted := table[next]; !mounted {
			target, linked, err := readLink(next)
			if err != nil {
				break
			}
			if linked {
				if links++; links > maxLinks {
					return m, "", exit.New(exit.NotMounted, "", "%s: too many symbolic links", path)
				}
				if !filepath.IsAbs(target) {
					target = filepath.Join(here, target)
				}
				here, rest = "/", append(strings.Split(filepath.Clean(target), "/"), rest[1:]...)
				continue
			}
		}
		here, rest = next, rest[1:]
	}
	return m, "", exit.New(exit.NotMounted, "see: mount -t "+FSType, "%s is not in a meshmount mount", path)
}

// original returns the mount of which m is a bind mount, if it can be seen, or m.
func original(table map[string]Mount, m Mount) Mount {
	if m.Root == "/" {
		return m
	}
	for _, other := range table {
		if other.Device == m.Device && other.Root == "/" {
			return other
		}
	}
	return m
}

func nonEmpty(names []string) []string {
	for len(names) > 0 && names[0] == "" {
		names = names[1:]
	}
	return names
}

// readLink returns where a symbolic link leads. What is no link but there is no error.
func readLink(name string) (target string, linked bool, err error) {
	target, err = os.Readlink(name)
	if errors.Is(err, unix.EINVAL) {
		return "", false, nil
	}
	return target, err == nil, err
}

// mountTable returns the topmost mount at each point.
func mountTable() (map[string]Mount, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	list, err := Mounts(file)
	table := make(map[string]Mount, len(list))
	for _, m := range list {
		table[m.Point] = m
	}
	return table, err
}

// askTime is how long a mount may take to tell its process.
const askTime = 3 * time.Second

// Ask reads the attribute by which a mount's root tells its process, 0 if it tells
// nothing in time. A call that hangs in the kernel cannot be ended: its goroutine then
// stays until the mount answers or goes.
func Ask(ctx context.Context, point string) (pid int, err error) {
	type told struct {
		pid int
		err error
	}
	answer := make(chan told, 1)
	go func() {
		buf := make([]byte, 32)
		n, err := unix.Lgetxattr(point, "user.meshmount.pid", buf)
		pid := 0
		if err == nil {
			pid, err = strconv.Atoi(string(buf[:n]))
		}
		answer <- told{pid, err}
	}()
	select {
	case t := <-answer:
		return t.pid, t.err
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(askTime):
		return 0, os.ErrDeadlineExceeded
	}
}

// HolderOfMount finds the process that serves a mount that is there: from the register
// or, if another environment has made it, from the mount itself. The error is an
// *exit.Error.
func HolderOfMount(ctx context.Context, m Mount) (Holder, error) {
	if h, err := Registered(m.Point); err == nil && h.Alive() {
		return h, nil
	}
	pid, err := Ask(ctx, m.Point)
	if errors.Is(err, unix.ENOTCONN) {
		return Holder{}, pointError(m.Point, unix.ENOTCONN)
	}
	if err == nil {
		h, err := HolderOf(pid)
		if err == nil && h.CacheDir != "" {
			return h, nil
		}
	}
	if m.User >= 0 && m.User != os.Geteuid() {
		return Holder{}, exit.New(exit.NotYours, "run it as that user or as root", "the mount on %s belongs to another user (uid %d)", m.Point, m.User)
	}
	if err == nil {
		err = fmt.Errorf("nothing is known of process %d", pid)
	}
	return Holder{}, exit.New(exit.NoAnswer, "see its log", "the mount on %s does not tell its process: %w", m.Point, err)
}
