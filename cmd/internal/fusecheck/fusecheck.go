// Package fusecheck tells whether this process can make a FUSE mount, and by which
// way, before anything is tried.
package fusecheck

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// Device and Helper are what FUSE needs.
const (
	Device = "/dev/fuse"
	Helper = "fusermount3"
)

// Facts are what was found.
type Facts struct {
	// Admin: the process may call mount(2): it is root, or root of its own user
	// namespace.
	Admin bool
	// Namespace: the process runs in a user namespace of its own.
	Namespace bool
	// DeviceErr is why /dev/fuse cannot be used, nil if it can.
	DeviceErr error
	// HelperPath is the program, "" if there is none. HelperSetuid tells whether it
	// runs as root.
	HelperPath   string
	HelperSetuid bool
}

// Look gathers the facts.
func Look() Facts {
	f := Facts{Admin: admin(), Namespace: ownNamespace(), DeviceErr: tryDevice(Device)}
	f.HelperPath, f.HelperSetuid = findHelper()
	return f
}

// admin tells whether CAP_SYS_ADMIN is effective.
func admin() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return os.Geteuid() == 0
	}
	for line := range strings.Lines(string(status)) {
		if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return err == nil && caps&(1<<unix.CAP_SYS_ADMIN) != 0
		}
	}
	return false
}

// ownNamespace tells whether user numbers here are not those of the machine.
func ownNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}

// tryDevice opens and closes the device; that has no effect.
func tryDevice(name string) error {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func findHelper() (path string, setuid bool) {
	path, err := exec.LookPath(Helper)
	if err != nil {
		if path, err = exec.LookPath("/bin/" + Helper); err != nil {
			return "", false
		}
	}
	st, err := os.Stat(path)
	return path, err == nil && st.Mode()&os.ModeSetuid != 0
}

// Fault returns why no mount can be made, an *exit.Error with the code NoFUSE, or
// nil. The helper opens the device with the rights of the user who calls it, so that
// the device must be accessible whichever way is taken.
func (f *Facts) Fault() error {
	switch {
	case errors.Is(f.DeviceErr, unix.ENOENT), errors.Is(f.DeviceErr, unix.ENODEV), errors.Is(f.DeviceErr, unix.ENXIO):
		return f.fault("as root: modprobe fuse; in a container: start it with --device "+Device, "%s: %w", Device, f.DeviceErr)
	case errors.Is(f.DeviceErr, unix.EACCES):
		return f.fault("as root: chmod 666 "+Device, "%s: %w", Device, f.DeviceErr)
	case f.DeviceErr != nil:
		return f.fault("make it accessible; in a container: start it with --device "+Device, "%s: %w", Device, f.DeviceErr)
	case f.Admin || f.HelperSetuid:
		return nil
	case f.HelperPath == "":
		return f.fault("as root: apt install fuse3 (or your system's package of that name)", "%s is not installed", Helper)
	}
	return f.fault("as root: chmod u+s "+f.HelperPath+"; or mount inside: unshare -Urm", "%s is not set-uid root", f.HelperPath)
}

func (f *Facts) fault(remedy, format string, args ...any) error {
	return exit.New(exit.NoFUSE, remedy, "FUSE is not available: "+format, args...)
}

// String sums the facts up for people.
func (f *Facts) String() string {
	way := "by " + f.HelperPath
	if f.Admin {
		way = "by mount(2)"
	}
	return fmt.Sprintf("%s is usable, mounts are made %s", Device, way)
}
