package state

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// PassedFD tells whether point is /dev/fd/N: a container runtime or mount.fuse3 has
// made the mount and hands its channel over as descriptor N.
func PassedFD(point string) bool {
	n, found := strings.CutPrefix(filepath.Clean(point), "/dev/fd/")
	_, err := strconv.Atoi(n)
	return found && err == nil
}

// CheckPoint returns the real name of a mount point that can be used, or an
// *exit.Error: it must be a directory, empty unless that is waived, and neither a
// mount of ours nor a dead one.
func CheckPoint(point string, nonEmpty bool) (string, error) {
	if PassedFD(point) {
		return filepath.Clean(point), nil
	}
	real, err := RealPoint(point)
	if err != nil {
		return "", pointError(point, err)
	}
	m, mounted, err := FindMount(real)
	if err != nil {
		return "", exit.New(exit.Failed, "", "cannot read the mount table: %w", err)
	}
	if mounted && m.Type == FSType {
		if err := Probe(real, probeTime); errors.Is(err, syscall.ENOTCONN) {
			return "", pointError(real, err)
		}
		return "", exit.New(exit.AlreadyMounted, "run: meshmount unmount "+real, "%s is mounted already (%s)", real, m.Source)
	}
	return real, checkDir(real, nonEmpty)
}

// checkDir wants a directory, and an empty one unless nonEmpty.
func checkDir(real string, nonEmpty bool) error {
	dir, err := os.Open(real)
	if err != nil {
		return pointError(real, err)
	}
	defer func() { _ = dir.Close() }()
	if st, err := dir.Stat(); err != nil {
		return pointError(real, err)
	} else if !st.IsDir() {
		return pointError(real, syscall.ENOTDIR)
	}
	if nonEmpty {
		return nil
	}
	switch names, err := dir.Readdirnames(1); {
	case len(names) > 0:
		return exit.New(exit.MountPointNotEmpty, "choose an empty directory, or use --nonempty to hide what is in it",
			"mount point %s is not empty", real)
	case err != nil && !errors.Is(err, io.EOF):
		return pointError(real, err)
	}
	return nil
}

// probeTime is how long an existing mount may take to answer.
const probeTime = 5 * time.Second

// Probe asks a mount for its statistics, which come from its process whatever the
// kernel remembers, and returns the error of that: ENOTCONN for a dead mount, or
// os.ErrDeadlineExceeded if there is no answer in time. A call that hangs in the
// kernel cannot be ended: its goroutine then stays until the mount answers or goes.
func Probe(point string, patience time.Duration) error {
	answer := make(chan error, 1)
	go func() {
		var st unix.Statfs_t
		answer <- unix.Statfs(point, &st)
	}()
	select {
	case err := <-answer:
		if err != nil {
			err = &os.PathError{Op: "statfs", Path: point, Err: err}
		}
		return err
	case <-time.After(patience):
		return &os.PathError{Op: "statfs", Path: point, Err: os.ErrDeadlineExceeded}
	}
}

func pointError(point string, err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return exit.New(exit.MountPointMissing, "run: mkdir -p "+point, "mount point %s does not exist", point)
	case errors.Is(err, syscall.ENOTCONN):
		return exit.New(exit.DeadMount, "run: meshmount unmount "+point, "the process behind the mount on %s has died", point)
	case errors.Is(err, syscall.ENOTDIR):
		return exit.New(exit.MountPointNotDir, "name a directory", "mount point %s is not a directory", point)
	}
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		err = pe.Err
	}
	return exit.New(exit.MountPointNotDir, "choose a directory of your own", "mount point %s: %w", point, err)
}
