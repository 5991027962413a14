package harness

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Environ returns the environment without settings that would change what the
// program does, MESHMOUNT_ variables, GOGC and proxies, and with a cache directory of its
// own below dir. Written data is on the server when close returns, unless the command line
// says otherwise: most tests look there at once.
func Environ(dir string) []string {
	// Programs that were built with the race detector would sleep for a second at their end.
	env := []string{"XDG_CACHE_HOME=" + filepath.Join(dir, "cache"), "GORACE=atexit_sleep_ms=0", "MESHMOUNT_WRITE=through"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name == "XDG_CACHE_HOME" || name == "GORACE" || name == "GOGC" || strings.HasPrefix(name, "MESHMOUNT_") || strings.HasSuffix(strings.ToLower(name), "_proxy") {
			continue
		}
		env = append(env, kv)
	}
	return env
}

// Mounted tells whether dir is a mount point of any kind, without touching the
// file system there.
func Mounted(dir string) (bool, error) {
	dirs, err := mountPoints(func(string) bool { return true })
	if err != nil {
		return false, err
	}
	abs, err := realPath(dir)
	if err != nil {
		return false, err
	}
	for _, d := range dirs {
		if d == abs {
			return true, nil
		}
	}
	return false, nil
}

// Leftovers returns the mount points of meshmount below dir.
func Leftovers(dir string) ([]string, error) {
	dirs, err := mountPoints(func(fstype string) bool { return strings.Contains(fstype, "meshmount") })
	if err != nil {
		return nil, err
	}
	abs, err := realPath(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, d := range dirs {
		if d == abs || strings.HasPrefix(d, abs+"/") {
			found = append(found, d)
		}
	}
	return found, nil
}

// realPath resolves the directory that holds dir, but not dir itself, which may
// be a dead mount.
func realPath(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	return filepath.Join(parent, filepath.Base(abs)), nil
}

// mountPoints returns the mount points whose file system type is wanted.
func mountPoints(want func(fstype string) bool) ([]string, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var dirs []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// ID parent major:minor root mountpoint options [tags...] - type source options
		fields, rest, ok := strings.Cut(lines.Text(), " - ")
		words := strings.Fields(fields)
		fstype, _, _ := strings.Cut(rest, " ")
		if ok && len(words) > 4 && want(fstype) {
			dirs = append(dirs, unescape(words[4]))
		}
	}
	return dirs, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// Detach takes a mount away at once, even if it is in use or dead. Nothing mounted
// there is no error.
func Detach(dir string) error {
	for {
		err := syscall.Unmount(dir, syscall.MNT_DETACH)
		switch {
		case errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOENT):
			return nil
		case errors.Is(err, syscall.EPERM):
			if ok, mountErr := Mounted(dir); mountErr == nil && !ok {
				return nil
			}
			out, err := exec.Command("fusermount3", "-u", "-z", dir).CombinedOutput()
			if err != nil {
				return fmt.Errorf("fusermount3 -u -z %s: %w: %s", dir, err, out)
			}
		case err != nil:
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
}

// PeakMemory returns the largest resident size a process has had, in bytes.
func PeakMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmHWM", pid)
}

// Processes returns the processes whose command line holds text as one of its words.
func Processes(text string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		for word := range strings.SplitSeq(string(line), "\x00") {
			if word == text {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids, nil
}
