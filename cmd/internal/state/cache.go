package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// CacheRoot returns the directory that holds the cache directories and the register
// of this user: $XDG_CACHE_HOME/meshmount, ~/.cache/meshmount, or, for root without
// a home as in early boot, /var/cache/meshmount.
func CacheRoot() (string, error) {
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "meshmount"), nil
	}
	if os.Geteuid() == 0 {
		return "/var/cache/meshmount", nil
	}
	return "", exit.New(exit.CacheBad, "use --cache-dir", "neither $XDG_CACHE_HOME nor $HOME tells where the cache directory belongs")
}

// DefaultCacheDir names the cache directory for a mount point and what identifies
// the branches: each combination has its own, the same at every mount.
func DefaultCacheDir(point string, branches []string) (string, error) {
	root, err := CacheRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, short(append([]string{point}, branches...)...)), nil
}

// short is a name of 16 characters that stands for the texts.
func short(texts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// Private makes a directory with mode 0700 if there is none, and refuses one that
// somebody else owns or could change.
func Private(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return cacheError(dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return cacheError(dir, err)
	}
	return CheckPrivate(dir)
}

// Temporary makes a directory for what a cache directory that cannot be used was wanted
// for: private, below the directory for temporary files, the same for the same name.
func Temporary(dir string) (string, error) {
	own := filepath.Join(os.TempDir(), "meshmount-"+strconv.Itoa(os.Geteuid()))
	if err := Private(own); err != nil {
		return "", err
	}
	instead := filepath.Join(own, filepath.Base(dir))
	return instead, Private(instead)
}

// CheckPrivate refuses a directory that somebody else owns or could change.
func CheckPrivate(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return cacheError(dir, err)
	}
	const remedy = "choose another --cache-dir"
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.IsDir():
		return exit.New(exit.CacheBad, remedy, "cache directory %s is not a directory", dir)
	case ok && int(sys.Uid) != os.Geteuid():
		return exit.New(exit.CacheBad, remedy, "cache directory %s belongs to another user (uid %d)", dir, sys.Uid)
	case st.Mode().Perm()&0o022 != 0:
		return exit.New(exit.CacheBad, "run: chmod 700 "+dir, "cache directory %s can be changed by others (mode %04o)", dir, st.Mode().Perm())
	}
	if err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		return cacheError(dir, err)
	}
	return nil
}

func cacheError(dir string, err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok && pe.Path != dir {
		err = fmt.Errorf("%s: %w", pe.Path, pe.Err)
	} else if ok {
		err = pe.Err
	}
	return exit.New(exit.CacheBad, "choose another --cache-dir or make room", "cache directory %s: %w", dir, err)
}

// Holder describes the process that serves a mount.
type Holder struct {
	PID      int    `json:"pid"`
	Started  string `json:"started"` // see startTime
	Point    string `json:"mountpoint"`
	CacheDir string `json:"cache_dir"`
	Control  string `json:"control,omitempty"` // name of the control socket
}

// Self describes this process.
func Self(point, cacheDir string) (Holder, error) {
	started, err := startTime(os.Getpid())
	if err != nil {
		return Holder{}, err
	}
	return Holder{PID: os.Getpid(), Started: started, Point: point, CacheDir: cacheDir, Control: controlSocket(point, cacheDir)}, nil
}

// Alive tells whether the process still runs, and is not another one that has got
// its number.
func (h Holder) Alive() bool {
	started, err := startTime(h.PID)
	return err == nil && h.PID > 0 && started == h.Started
}

// startTime returns when a process began, in clock ticks since boot (field 22 of
// /proc/PID/stat), as text.
func startTime(pid int) (string, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The second field is the program's name, which may hold anything but ends with ")".
	_, rest, _ := strings.Cut(string(text[max(strings.LastIndexByte(string(text), ')'), 0):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat is not understood", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("process %d has ended, and its parent has not noticed", pid)
	}
	return fields[19], nil
}

// Lock is the right to use a cache directory. It ends with the process.
type Lock struct{ file *os.File }

const lockName = "lock"

// Acquire takes the lock of a cache directory for the holder, or returns an
// *exit.Error that names who has it.
func Acquire(h Holder) (*Lock, error) {
	name := filepath.Join(h.CacheDir, lockName)
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, cacheError(h.CacheDir, err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = file.Close() }()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, busyError(h.CacheDir, file)
		}
		return nil, cacheError(h.CacheDir, err)
	}
	if err := writeHolder(file, h); err != nil {
		_ = file.Close()
		return nil, cacheError(h.CacheDir, err)
	}
	return &Lock{file}, nil
}

func writeHolder(file *os.File, h Holder) error {
	text, err := json.Marshal(h)
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(append(text, '\n'), 0)
	}
	return err
}

func busyError(dir string, file *os.File) error {
	var h Holder
	if json.NewDecoder(io.LimitReader(file, 1<<16)).Decode(&h) != nil || h.PID == 0 {
		return exit.New(exit.CacheBusy, "unmount that one or choose another --cache-dir",
			"cache directory %s is in use by another process", dir)
	}
	return exit.New(exit.CacheBusy, "run: meshmount unmount "+h.Point+", or choose another --cache-dir",
		"cache directory %s is in use by process %d, mounted on %s", dir, h.PID, h.Point)
}

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }

// HolderOf describes another process by its number, with its mount point and cache
// directory if it has a lock that this user may see.
func HolderOf(pid int) (Holder, error) {
	started, err := startTime(pid)
	if err != nil {
		return Holder{}, err
	}
	open, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, link := range open {
		target, err := os.Readlink(link)
		if err != nil || filepath.Base(target) != lockName {
			continue
		}
		var h Holder
		if readJSON(target, &h) == nil && h.PID == pid && h.Started == started {
			return h, nil
		}
	}
	return Holder{PID: pid, Started: started}, nil
}
