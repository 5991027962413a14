// Package state knows what is mounted and by which process: the kernel's mount
// table, the cache directory with its lock, and the register of running mounts
// by which "unmount" finds the process behind a mount.
package state

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// FSType is the type of our mounts in the kernel's table.
const FSType = "fuse.meshmount"

// Mount is a line of the kernel's mount table.
type Mount struct {
	ID     int
	Device string // "major:minor", the same for all mounts of one file system
	Root   string // what of the file system is mounted: "/" unless it is a bind mount
	Point  string
	Type   string
	Source string
	User   int // who has made a FUSE mount; -1 if unknown
}

// Mounts reads a table in the form of /proc/self/mountinfo, see proc(5).
func Mounts(r io.Reader) ([]Mount, error) {
	var list []Mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, err := parseMount(lines.Text())
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, lines.Err()
}

// parseMount reads "ID parent major:minor root point options [tags...] - type source options".
func parseMount(line string) (Mount, error) {
	front, back, found := strings.Cut(line, " - ")
	words, tail := strings.Fields(front), strings.Fields(back)
	if !found || len(words) < 6 || len(tail) < 1 {
		return Mount{}, fmt.Errorf("line %q of the mount table is not understood", line)
	}
	id, err := strconv.Atoi(words[0])
	if err != nil {
		return Mount{}, fmt.Errorf("line %q of the mount table is not understood", line)
	}
	m := Mount{ID: id, Device: words[2], Root: unescape(words[3]), Point: unescape(words[4]), Type: unescape(tail[0]), User: -1}
	if len(tail) > 1 {
		m.Source = unescape(tail[1])
	}
	if len(tail) > 2 {
		m.User = userOf(tail[2])
	}
	return m, nil
}

// userOf returns the value of user_id in the options of a FUSE mount, -1 without.
func userOf(options string) int {
	for o := range strings.SplitSeq(options, ",") {
		if text, ok := strings.CutPrefix(o, "user_id="); ok {
			if n, err := strconv.Atoi(text); err == nil {
				return n
			}
		}
	}
	return -1
}

// unescape undoes the kernel's octal escapes, such as \040 for a space.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// FindMount returns the topmost mount at point, of whatever type. It touches no
// file system, so that a dead or hanging mount does no harm.
func FindMount(point string) (m Mount, found bool, err error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Mount{}, false, err
	}
	defer func() { _ = table.Close() }()
	list, err := Mounts(table)
	for _, candidate := range list {
		if candidate.Point == point {
			m, found = candidate, true
		}
	}
	return m, found, err
}

// RealPoint returns the name of a mount point as the kernel shows it: absolute and
// without symbolic links. The last element is looked at only if the mount table has
// no mount there, since a dead mount cannot be looked at.
func RealPoint(point string) (string, error) {
	abs, err := filepath.Abs(point)
	if err != nil {
		return "", err
	}
	if abs == "/" {
		return abs, nil
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	real := filepath.Join(parent, filepath.Base(abs))
	if _, found, err := FindMount(real); found || err != nil {
		return real, err
	}
	resolved, err := filepath.EvalSymlinks(real)
	if errors.Is(err, os.ErrNotExist) {
		return real, nil
	}
	return resolved, err
}
