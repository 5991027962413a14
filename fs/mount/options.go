package mount

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Bounds of requests, in bytes.
const (
	minWrite             = 4 << 10
	maxWrite             = 1 << 20
	defaultMaxBackground = 64
)

// Read-ahead of the kernel, in KiB.
const (
	// DefaultReadAheadKB makes requests of 1 MiB. Measured on Linux 6.18 with 2 cores
	// against the kernel's 128 KiB, which make requests of 128 KiB: 1.6 times the bytes
	// a second when a file is read from front to back, at 0.6 times the CPU time of
	// this process. More than that costs a little: what is in flight no longer
	// fits the processor's cache. It has a price where a large file is mapped and
	// touched at random, as the kernel then reads this much around each touch: 2,100
	// faults a second against 10,300.
	DefaultReadAheadKB = 1024

	kernelReadAheadKB = 128 // what the kernel grants every mount
	maxReadAheadKB    = 1 << 20
)

// Options configure a mount. The zero value, after withDefaults, is what an
// unprivileged user wants.
type Options struct {
	// FSName is the "device" that mount and df show.
	FSName string
	// AllowOther lets other users in (fusermount3 asks /etc/fuse.conf for
	// user_allow_other).
	AllowOther bool
	// ReadOnly makes the kernel refuse every change.
	ReadOnly bool
	// NoProbe leaves out the proof that the mount answers. A process that is killed while
	// it waits for its own answer never ends: the kernel waits for the answer that
	// nobody can give any more. Without the probe, nothing in this process may open files
	// of the mount by package os.
	NoProbe bool
	// NoPermissionCheck leaves the check of permission bits to the servers. By
	// default the kernel checks them (the option default_permissions).
	NoPermissionCheck bool
	// MaxWrite is the largest read or write request in bytes, 4 KiB to 1 MiB. Zero
	// means 1 MiB. The kernel may send smaller ones.
	MaxWrite int
	// ReadAheadKB is how far the kernel reads ahead of a program, in KiB; zero leaves
	// the kernel's value, 128. Less takes effect for everybody, more for root only,
	// and not for a mount that was made by somebody else; it is no error if it does
	// not. DefaultReadAheadKB is a good value.
	ReadAheadKB int
	// DirectIO tells which files are read past the page cache. Zero is DirectNever.
	DirectIO DirectIO
	// MaxBackground is how many asynchronous requests (read-ahead, direct I/O) the
	// kernel keeps in flight. Zero means 64.
	MaxBackground int
	// DirectMount tries mount(2) before fusermount3: as root, and in a user
	// namespace, where a set-uid helper is of no use.
	DirectMount bool
	// Options are further mount options as after -o, one in each element.
	Options []string
	// Debug logs every request and answer.
	Debug bool
	// Logger receives one record for each failed operation. Nil discards them.
	Logger *slog.Logger
}

// Validate reports all faults of o.
func (o *Options) Validate() error {
	var errs []error
	if o.MaxWrite != 0 && (o.MaxWrite < minWrite || o.MaxWrite > maxWrite) {
		errs = append(errs, fmt.Errorf("mount: request size %d is not between %d and %d", o.MaxWrite, minWrite, maxWrite))
	}
	if o.ReadAheadKB < 0 || o.ReadAheadKB > maxReadAheadKB {
		errs = append(errs, fmt.Errorf("mount: read-ahead of %d KiB is not between 0 and %d", o.ReadAheadKB, maxReadAheadKB))
	}
	if o.DirectIO < DirectNever || o.DirectIO > DirectAlways {
		errs = append(errs, fmt.Errorf("mount: %d is no way to use direct I/O", int(o.DirectIO)))
	}
	if o.MaxBackground < 0 || o.MaxBackground > 0xffff {
		errs = append(errs, fmt.Errorf("mount: %d background requests are not between 0 and 65535", o.MaxBackground))
	}
	for _, opt := range o.Options {
		switch {
		case opt == "" || strings.ContainsAny(opt, ",\x00"):
			errs = append(errs, fmt.Errorf("mount: %q is not one mount option", opt))
		case opt == "auto_unmount":
			// fusermount3 would have to stay, and take the mount from under a process
			// that is still putting data to its servers.
			errs = append(errs, errors.New("mount: option auto_unmount is not supported"))
		}
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.FSName == "" {
		o.FSName = fsType
	}
	if o.MaxWrite == 0 {
		o.MaxWrite = maxWrite
	}
	if o.MaxBackground == 0 {
		o.MaxBackground = defaultMaxBackground
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// settings are the options that both mount(2) and fusermount3 take.
func (o *Options) settings() []string {
	list := []string{fmt.Sprintf("max_read=%d", o.MaxWrite)}
	if !o.NoPermissionCheck {
		list = append(list, "default_permissions")
	}
	if o.AllowOther {
		list = append(list, "allow_other")
	}
	if o.ReadOnly {
		list = append(list, "ro")
	}
	return append(list, o.Options...)
}

// capabilities are what the kernel is to do besides what go-fuse asks for.
func (o *Options) capabilities() uint64 {
	// Truncation comes with the open, so that no old version is fetched for it; the
	// kernel asks no security label before each write, and says instead when set-uid
	// bits must go; files read past the page cache can be mapped.
	caps := uint64(fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_DIRECT_IO_ALLOW_MMAP)
	if o.ReadOnly && !slices.Contains(o.Options, "rw") {
		// A large read with O_DIRECT comes in several requests at once. So would a large
		// write, also one with O_APPEND, for which the order of the requests is what
		// tells where they belong: not for trees that can be written.
		caps |= fuse.CAP_ASYNC_DIO
	}
	return caps
}
