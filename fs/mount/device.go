package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	devFuse = "/dev/fuse"
	helper  = "fusermount3"
	fsType  = "meshmount" // after "fuse." in the kernel's table
)

// ErrNoFUSE is in the chain of the error of Mount if this machine or container has
// no usable /dev/fuse or no fusermount3.
var ErrNoFUSE = errors.New("FUSE is not available")

// channel is the kernel's end of a mount.
type channel struct {
	fd    int
	point string // "" if the mount was made by somebody else
}

// open makes the mount and returns its channel.
func open(point string, o *Options) (channel, error) {
	if fd, ok := inherited(point); ok {
		syscall.CloseOnExec(fd)
		return channel{fd: fd}, nil
	}
	point, err := filepath.Abs(point)
	if err != nil {
		return channel{}, err
	}
	var direct error
	if o.DirectMount {
		fd, err := mountDirect(point, o)
		if err == nil {
			return channel{fd, point}, nil
		}
		direct = err
	}
	fd, err := mountByHelper(point, o)
	if err == nil {
		return channel{fd, point}, nil
	}
	if direct != nil {
		err = fmt.Errorf("%w (mount(2) before that: %w)", err, direct)
	}
	return channel{}, err
}

// inherited returns N for the mount point /dev/fd/N: a container runtime or
// mount.fuse3 has made the mount, and its channel is our descriptor N.
func inherited(point string) (fd int, ok bool) {
	n, found := strings.CutPrefix(filepath.Clean(point), "/dev/fd/")
	fd, err := strconv.Atoi(n)
	return fd, found && err == nil && fd > 0
}

// mountFlags are the options that mount(2) takes as bits.
var mountFlags = map[string]struct {
	bit uintptr
	on  bool
}{
	"ro": {unix.MS_RDONLY, true}, "rw": {unix.MS_RDONLY, false},
	"nosuid": {unix.MS_NOSUID, true}, "suid": {unix.MS_NOSUID, false},
	"nodev": {unix.MS_NODEV, true}, "dev": {unix.MS_NODEV, false},
	"noexec": {unix.MS_NOEXEC, true}, "exec": {unix.MS_NOEXEC, false},
	"sync": {unix.MS_SYNCHRONOUS, true}, "async": {unix.MS_SYNCHRONOUS, false},
	"noatime": {unix.MS_NOATIME, true}, "atime": {unix.MS_NOATIME, false},
	"nodiratime": {unix.MS_NODIRATIME, true}, "relatime": {unix.MS_RELATIME, true},
}

// mountDirect makes the mount by mount(2).
func mountDirect(point string, o *Options) (int, error) {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	var data []string
	for _, opt := range o.settings() {
		switch f, isFlag := mountFlags[opt]; {
		case !isFlag:
			data = append(data, opt)
		case f.on:
			flags |= f.bit
		default:
			flags &^= f.bit
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil {
		return -1, &os.PathError{Op: "stat", Path: point, Err: err}
	}
	fd, err := unix.Open(devFuse, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: %w", ErrNoFUSE, &os.PathError{Op: "open", Path: devFuse, Err: err})
	}
	data = append(data, fmt.Sprintf("fd=%d,rootmode=%o,user_id=%d,group_id=%d",
		fd, st.Mode&unix.S_IFMT, os.Geteuid(), os.Getegid()))
	if err := unix.Mount(o.FSName, point, "fuse."+fsType, flags, strings.Join(data, ",")); err != nil {
		_ = unix.Close(fd)
		return -1, &os.PathError{Op: "mount", Path: point, Err: err}
	}
	return fd, nil
}

// mountByHelper lets fusermount3 make the mount; it hands the channel back over a
// socket (its protocol: environment _FUSE_COMMFD, one byte with SCM_RIGHTS).
func mountByHelper(point string, o *Options) (int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	defer func() { _ = unix.Close(pair[0]) }()
	theirs := os.NewFile(uintptr(pair[1]), "fusermount3's end")

	opts := append(o.settings(), "fsname="+o.FSName, "subtype="+fsType, "nosuid", "nodev")
	for i, opt := range opts {
		opts[i] = strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(opt)
	}
	cmd, err := helperCommand("-o", strings.Join(opts, ","), "--", point)
	if err == nil {
		cmd.ExtraFiles = []*os.File{theirs}
		cmd.Env = append(cmd.Env, "_FUSE_COMMFD=3")
		err = runHelper(cmd)
	}
	_ = theirs.Close() // so that the end comes if nothing was sent
	if err != nil {
		return -1, err
	}
	return receiveFD(pair[0])
}

// helperCommand prepares a call of fusermount3 with messages in English.
func helperCommand(args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(helper)
	if err != nil {
		if path, err = exec.LookPath("/bin/" + helper); err != nil {
			return nil, fmt.Errorf("%w: %s is not installed", ErrNoFUSE, helper)
		}
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd, nil
}

// runHelper runs it and makes what it writes to stderr the error.
func runHelper(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	if err == nil {
		return nil
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	switch {
	case text == "":
		return fmt.Errorf("%s: %w", helper, err)
	case strings.Contains(text, "Device or resource busy"):
		return fmt.Errorf("%s: %w", text, unix.EBUSY)
	case strings.Contains(text, devFuse) && strings.Contains(text, "fuse device not found"):
		return fmt.Errorf("%w: %s", ErrNoFUSE, text)
	}
	return errors.New(text)
}

// receiveFD reads the descriptor that fusermount3 has sent.
func receiveFD(sock int) (int, error) {
	data, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(sock, data, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("%s sent no descriptor", helper)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%s sent %d descriptors", helper, len(fds))
	}
	return fds[0], nil
}

// How often and how long an unmount waits for the kernel to let go of files that
// were closed just before.
const (
	busyTries = 5
	busyPause = 20 * time.Millisecond
)

// unmount takes the mount away; lazily: out of sight at once, for good when nobody
// uses it. The error is EBUSY (in its chain) if it is in use.
func (c channel) unmount(lazy bool) error {
	if c.point == "" {
		return errors.New("the mount was made by another program, which must unmount it")
	}
	var err error
	for try := range busyTries {
		time.Sleep(time.Duration(try) * busyPause)
		if err = detach(c.point, lazy); err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return err
}

// detach tries umount2(2), which root may use, and then fusermount3.
func detach(point string, lazy bool) error {
	flags, args := unix.UMOUNT_NOFOLLOW, []string{"-u", "--", point}
	if lazy {
		flags, args = flags|unix.MNT_DETACH, []string{"-u", "-z", "--", point}
	}
	err := unix.Unmount(point, flags)
	if !errors.Is(err, unix.EPERM) {
		if err != nil {
			err = &os.PathError{Op: "unmount", Path: point, Err: err}
		}
		return err
	}
	cmd, err := helperCommand(args...)
	if err != nil {
		return err
	}
	return runHelper(cmd)
}
