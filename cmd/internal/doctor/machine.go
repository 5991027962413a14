package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

func asExit(err error) (*exit.Error, bool) { return errors.AsType[*exit.Error](err) }

// machine examines what does not depend on branches.
func (d *Doctor) machine() []Finding {
	findings := []Finding{kernel(), d.fuse()}
	if f, relevant := d.helper(); relevant {
		findings = append(findings, f)
	}
	findings = append(findings, namespaces("/proc/sys"))
	if d.Config.AllowOther {
		findings = append(findings, d.allowOther("/etc/fuse.conf"))
	}
	return slices.Concat(findings, []Finding{d.memory(), d.cache()}, d.blocks(), d.staging())
}

// kernel tells the kernel's version. FUSE in user namespaces came with 4.18.
func kernel() Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fault("kernel", err)
	}
	f := Finding{Check: "kernel", Status: OK, Detail: "Linux " + unix.ByteSliceToString(u.Release[:])}
	if major, minor := version(unix.ByteSliceToString(u.Release[:])); major < 4 || major == 4 && minor < 18 {
		f.Status, f.Remedy = Warn, "update it: before 4.18 there is no mount inside user namespaces, and this program is not tested"
	}
	return f
}

// version reads the first two numbers of a kernel's release.
func version(release string) (major, minor int) {
	_, _ = fmt.Sscanf(release, "%d.%d", &major, &minor)
	return major, minor
}

func (d *Doctor) fuse() Finding {
	if err := d.Facts.Fault(); err != nil {
		return fault("fuse", err)
	}
	return Finding{Check: "fuse", Status: OK, Detail: d.Facts.String()}
}

// helper examines fusermount3, which users other than root need.
func (d *Doctor) helper() (Finding, bool) {
	f := Finding{Check: "fusermount3", Status: OK, Detail: d.Facts.HelperPath + " is set-uid root"}
	switch {
	case d.Facts.HelperPath == "":
		f.Status, f.Detail, f.Remedy = Warn, "not installed: ordinary users cannot mount", "as root: apt install fuse3"
	case !d.Facts.HelperSetuid:
		f.Status, f.Detail, f.Remedy = Warn, d.Facts.HelperPath+" is not set-uid root: ordinary users cannot mount", "as root: chmod u+s "+d.Facts.HelperPath
	}
	// Without it nothing works for this user: that is told by the check of FUSE.
	return f, f.Status == OK || d.Facts.Admin
}

// namespaces tells whether ordinary users can make user namespaces, in which they
// can mount without fusermount3.
func namespaces(root string) Finding {
	f := Finding{Check: "user namespaces", Status: OK, Detail: "available: unshare -Urm is a way to mount without fusermount3"}
	for knob, bad := range map[string]string{
		"user/max_user_namespaces":                     "0",
		"kernel/unprivileged_userns_clone":             "0",
		"kernel/apparmor_restrict_unprivileged_userns": "1",
	} {
		if text, err := os.ReadFile(filepath.Join(root, knob)); err == nil && strings.TrimSpace(string(text)) == bad {
			f.Detail = fmt.Sprintf("not available to ordinary users (%s = %s); mounts go by fusermount3", knob, bad)
		}
	}
	return f
}

// allowOther wants user_allow_other in the helper's configuration, except for root.
func (d *Doctor) allowOther(file string) Finding {
	f := Finding{Check: "allow-other", Status: OK, Detail: "allowed"}
	if d.Facts.Admin {
		return f
	}
	text, err := os.ReadFile(file)
	if err == nil {
		for line := range strings.Lines(string(text)) {
			if strings.TrimSpace(line) == "user_allow_other" {
				return f
			}
		}
	}
	f.Status, f.Detail = Fail, "not allowed to ordinary users"
	f.Remedy = "as root, add the line user_allow_other to " + file
	return f
}

// Bytes writes a number of bytes for people.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	value, i := float64(n), 0
	for value >= 1024 && i < len(units)-1 {
		value /= 1024
		i++
	}
	if i == 0 {
		return strconv.FormatInt(n, 10) + " B"
	}
	return fmt.Sprintf("%.1f %s", value, units[i])
}
