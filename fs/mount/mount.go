package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/fs"
)

// Server answers the kernel for one mount.
type Server struct {
	channel channel
	fuse    *fuse.Server
	over    sync.WaitGroup
}

// Mount puts core at mountpoint and returns when the mount answers. On an error
// nothing is mounted. The context's values are kept for the calls of the core; its
// end does not end the mount.
//
// A mountpoint of the form /dev/fd/N means that the mount has been made by somebody
// else and that our descriptor N is its channel.
//
// The error has ErrNoFUSE in its chain if the machine has no FUSE for us.
func Mount(ctx context.Context, core *fs.FS, mountpoint string, opts Options) (*Server, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	r := newRaw(ctx, core, opts.Logger)
	r.direct = newDirectRule(opts.DirectIO)
	return r.mount(r, mountpoint, &opts)
}

// mount makes the mount and lets front, which is r or passes on to it, answer.
func (r *raw) mount(front fuse.RawFileSystem, mountpoint string, opts *Options) (*Server, error) {
	ch, err := open(mountpoint, opts)
	if err != nil {
		return nil, fmt.Errorf("cannot mount %s: %w", mountpoint, err)
	}
	// go-fuse takes over the descriptor; how it came about is our business.
	f, err := fuse.NewServer(front, "/dev/fd/"+strconv.Itoa(ch.fd), r.settings(opts))
	if err != nil {
		if ch.point != "" {
			err = errors.Join(err, ch.unmount(true))
		}
		return nil, fmt.Errorf("cannot serve %s: %w", mountpoint, err)
	}
	r.fs.OnInvalidate(r.tell.note)
	s := &Server{channel: ch, fuse: f}
	s.over.Go(f.Serve)
	if opts.NoProbe {
		// whoever wants to know asks from another process
	} else if err := s.answers(); err != nil {
		err = errors.Join(err, ch.unmount(true))
		s.over.Wait()
		return nil, fmt.Errorf("the mount at %s does not answer: %w", mountpoint, err)
	}
	if opts.ReadAheadKB > kernelReadAheadKB && ch.point != "" {
		raiseReadAhead(ch.point, opts.ReadAheadKB, opts.Logger)
	}
	return s, nil
}

// settings are what the kernel and go-fuse are told.
func (r *raw) settings(o *Options) *fuse.MountOptions {
	level := slog.LevelWarn
	if o.Debug {
		level = slog.LevelDebug
	}
	return &fuse.MountOptions{
		Name: fsType, FsName: o.FSName,
		MaxWrite: o.MaxWrite, MaxReadAhead: o.ReadAheadKB << 10, MaxBackground: o.MaxBackground,
		DisableSplice:     true, // answers are in memory
		ExtraCapabilities: o.capabilities(),
		// Otherwise fewer file systems may be stacked upon this one (containers do).
		DisabledCapabilities: fuse.CAP_PASSTHROUGH,
		Debug:                o.Debug,
		Logger:               slog.NewLogLogger(o.Logger.Handler(), level),
		PanicHandler:         r.panicked,
	}
}

// panicked makes a panic in an operation an EIO of that operation.
func (r *raw) panicked(what any) fuse.Status {
	r.log.Error("panic in a file system operation", "panic", what, "stack", string(debug.Stack()))
	return fuse.EIO
}

// probeName is a name in the root that go-fuse answers for itself. Its POLL is
// answered so that the kernel never asks again: the Go runtime of a program in this
// same process would wait for the answer on the thread that is to give it.
const probeName = ".go-fuse-epoll-hack"

// answers makes sure that a request goes to the mount and comes back.
func (s *Server) answers() error {
	if s.channel.point == "" {
		return nil // mounted elsewhere, perhaps not visible here
	}
	var st unix.Statfs_t
	if err := unix.Statfs(s.channel.point, &st); err != nil {
		return os.NewSyscallError("statfs", err)
	}
	if st.Type != unix.FUSE_SUPER_MAGIC {
		return errors.New("something else is mounted over it")
	}
	fd, err := unix.Open(filepath.Join(s.channel.point, probeName), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", noAnswer(err))
	}
	defer func() { _ = unix.Close(fd) }()
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return os.NewSyscallError("poll", err)
}

// noAnswer returns err if it means that no answer came. Others are one: that the tree
// belongs to another user, say, or that the server of a branch at the root has gone.
func noAnswer(err error) error {
	switch err {
	case unix.ENOTCONN, unix.ECONNABORTED, unix.ENODEV:
		return err
	}
	return nil
}

// raiseReadAhead asks for more than every mount gets, which root may.
func raiseReadAhead(point string, kb int, log *slog.Logger) {
	device, err := deviceAt(point)
	if err == nil {
		err = os.WriteFile("/sys/class/bdi/"+device+"/read_ahead_kb", []byte(strconv.Itoa(kb)), 0)
	}
	if err != nil {
		log.Debug("the kernel's read-ahead stays at its default", "wanted_kib", kb, "error", err)
	}
}

// deviceAt returns "major:minor" of what is mounted at point, from the kernel's table: the
// mount itself is not asked.
func deviceAt(point string) (device string, err error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	escaped := strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(point)
	for line := range strings.Lines(string(table)) {
		// ID parent major:minor root point ..., see proc(5); the last one is on top.
		if words := strings.Fields(line); len(words) > 4 && words[4] == escaped {
			device = words[2]
		}
	}
	if device == "" {
		return "", os.ErrNotExist
	}
	return device, nil
}

// Wait returns when the mount is gone and all requests are answered. What was open
// then is released.
func (s *Server) Wait() { s.over.Wait() }

// Unmount takes the mount away and waits for the end of the requests. If it is in
// use the error has EBUSY in its chain, and nothing has changed.
func (s *Server) Unmount() error {
	if err := s.channel.unmount(false); err != nil {
		return err
	}
	s.over.Wait()
	return nil
}

// Detach takes the mount out of sight at once. It goes on answering whoever uses it;
// Wait returns when nobody does any more.
func (s *Server) Detach() error { return s.channel.unmount(true) }
