package settings

import (
	"slices"
	"strings"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// MountOptions is what a list of mount options (mount -o) asks for.
type MountOptions struct {
	Given []Given
	// Kernel are options for the kernel, such as noexec.
	Kernel []string
}

// ignored are options that other programs act on (mount, systemd, autofs) or that
// change nothing here. Names ending in "*" stand for all that begin like them.
var ignored = []string{
	"defaults", "rw", "auto", "noauto", "user", "nouser", "users", "user=*", "owner", "group", "nofail", "_netdev",
	"x-*", "X-*", "comment=*", "uhelper=*", "helper=*", "async", "silent", "loud", "mand", "nomand",
	"suid", "dev", "exec", "atime", "relatime", "norelatime", "strictatime", "nostrictatime", "diratime",
	"lazytime", "nolazytime", "dirsync", "iversion", "noiversion", "subtype=*", "_rnetdev",
}

// kernel are options that are handed to the kernel.
var kernel = []string{"nosuid", "nodev", "noexec", "noatime", "nodiratime", "sync"}

// aliases are names of our options that other file systems made customary.
// "user" belongs to mount(8), so that our user is "username" here.
var aliases = map[string]string{"ro": "read-only", "username": "user", "fsname": "fs-name"}

// ParseMountOptions reads a comma-separated list as mount(8) hands it over. A comma
// within a value is written "\,". With sloppy, unknown options are left out instead
// of refused. As in fstab, the last of several values wins; rw undoes ro.
func ParseMountOptions(list string, sloppy bool) (MountOptions, error) {
	var m MountOptions
	for _, item := range splitCommas(list) {
		if err := m.add(item, sloppy); err != nil {
			return MountOptions{}, err
		}
	}
	return m, nil
}

func (m *MountOptions) add(item string, sloppy bool) error {
	name, text, hasValue := strings.Cut(item, "=")
	if item == "rw" {
		m.Given = slices.DeleteFunc(m.Given, func(g Given) bool { return g.Where == "-o ro" })
	}
	switch {
	case item == "":
		return nil
	case slices.Contains(kernel, item):
		m.Kernel = append(m.Kernel, item)
		return nil
	case slices.ContainsFunc(ignored, func(p string) bool { return fits(p, item) }):
		return nil
	case item == "remount":
		return exit.New(exit.Usage, "unmount and mount again", "-o remount is not supported")
	}
	if alias, ok := aliases[name]; ok {
		name = alias
	}
	o, ok := Lookup(name)
	switch {
	case ok && o.Closed&NotAsFlag != 0:
		return exit.New(exit.Usage, "use password-file=FILE or the configuration file", "-o %s is refused: everybody could see it", name)
	case !ok && sloppy:
		return nil
	case !ok:
		return exit.New(exit.Usage, didYouMean(name), "unknown mount option %q", OptionName(item))
	case !hasValue && !o.IsSwitch():
		return exit.New(exit.Usage, "write "+name+"="+o.Unit, "mount option %s has no value", name)
	case !hasValue:
		text = "true"
	}
	m.Given = append(m.Given, Given{Option: o, Text: text, Where: "-o " + OptionName(item)})
	return nil
}

// OptionName returns the name of an item of a list of mount options.
func OptionName(item string) string {
	name, _, _ := strings.Cut(item, "=")
	return name
}

func fits(pattern, item string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(item, prefix)
	}
	return pattern == item
}

// splitCommas splits at commas that no backslash precedes.
func splitCommas(list string) []string {
	var items []string
	var item strings.Builder
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list) && (list[i+1] == ',' || list[i+1] == '\\'):
			i++
			item.WriteByte(list[i])
		case list[i] == ',':
			items = append(items, item.String())
			item.Reset()
		default:
			item.WriteByte(list[i])
		}
	}
	return append(items, item.String())
}
