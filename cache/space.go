package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// errNoSpace is the reason of StateFull.
var errNoSpace = errors.New("the file system has no space for the cache")

// freeSpace tells how many bytes this user may still write below dir.
func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// allocate makes a file at least n bytes long with blocks for all of them.
func allocate(file *os.File, n int64) error {
	for {
		err := unix.Fallocate(int(file.Fd()), 0, 0, n)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// taken returns the bytes of the blocks of all files below dir.
func taken(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		sum += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return sum, err
}

// ballast is a file that holds space for the index.
type ballast struct{ file *os.File }

func openBallast(path string) (*ballast, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	return &ballast{file}, err
}

// hold makes the ballast n bytes long.
func (b *ballast) hold(n int64) error {
	if err := b.file.Truncate(max(n, 0)); err != nil || n <= 0 {
		return err
	}
	return allocate(b.file, n)
}

func (b *ballast) release() error { return b.file.Truncate(0) }
func (b *ballast) close() error   { return b.file.Close() }
