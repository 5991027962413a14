package fusecheck

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

func TestFault(t *testing.T) {
	const helper = "/usr/bin/fusermount3"
	cases := []struct {
		name string
		f    Facts
		want string // "" means usable
	}{
		{"user with helper", Facts{HelperPath: helper, HelperSetuid: true}, ""},
		{"device private", Facts{DeviceErr: unix.EACCES, HelperPath: helper, HelperSetuid: true}, "as root: chmod 666 /dev/fuse"},
		{"user without helper", Facts{}, "fusermount3 is not installed; as root: apt install fuse3"},
		{"user, no device", Facts{DeviceErr: unix.ENOENT, HelperPath: helper, HelperSetuid: true}, "modprobe fuse"},
		{"module missing", Facts{Admin: true, DeviceErr: unix.ENODEV}, "modprobe fuse"},
		{"container without the device allowed", Facts{Admin: true, Namespace: true, DeviceErr: unix.EPERM}, "make it accessible"},
		{"namespace", Facts{Admin: true, Namespace: true}, ""},
		{"namespace, helper useless", Facts{Namespace: true, HelperPath: helper}, "is not set-uid root; as root: chmod u+s " + helper},
		{"namespace, device private", Facts{Admin: true, Namespace: true, DeviceErr: unix.EACCES, HelperPath: helper}, "chmod 666 /dev/fuse"},
		{"root", Facts{Admin: true}, ""},
		{"root, device forbidden", Facts{Admin: true, DeviceErr: unix.EPERM, HelperPath: helper, HelperSetuid: true}, "make it accessible"},
	}
	for _, c := range cases {
		err := c.f.Fault()
		switch {
		case c.want == "" && err != nil, c.want != "" && (exit.CodeOf(err) != exit.NoFUSE || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestLook(t *testing.T) {
	f := Look()
	if os.Geteuid() == 0 && !f.Namespace && !f.Admin && f.HelperPath == "" {
		t.Errorf("%+v", f)
	}
	if err := tryDevice("/nonexistent"); err != unix.ENOENT {
		t.Errorf("missing device: %v", err)
	}
	if err := tryDevice("/dev/null"); err != nil {
		t.Errorf("device that is there: %v", err)
	}
}
