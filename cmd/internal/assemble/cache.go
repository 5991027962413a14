package assemble

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
)

// BlocksDir is where the block cache lies in a cache directory.
func BlocksDir(cacheDir string) string { return filepath.Join(cacheDir, "blocks") }

// OpenCache opens the block cache in a cache directory. If there is none to be had, that
// is not fatal: the store is nil, or one that serves nothing, and the warning says why.
// The error, an *exit.Error, is that of a directory that was given and that another
// process uses.
func OpenCache(config *settings.Config, m Memory, cacheDir string, log *slog.Logger) (store *cache.Store, warning, err error) {
	if config.Cache == settings.CacheOff {
		return nil, nil, nil
	}
	dir := BlocksDir(cacheDir)
	size, err := CacheSize(config, dir)
	if err != nil {
		return nil, notCached(dir, err, ""), nil
	}
	store, err = cache.Open(dir, cache.Options{
		Size: size, Reserve: int64(config.CacheReserve), BlockSize: int(config.BlockSize), FetchMemory: m.Ahead, Logger: log,
	})
	if locked, ok := errors.AsType[*cache.LockedError](err); ok && config.Given("", "cache-dir") {
		return nil, nil, exit.New(exit.CacheBusy, "wait for it or choose another --cache-dir", "%w", locked)
	}
	if err != nil {
		return nil, notCached(dir, err, remedyOf(err)), nil
	}
	if stats := store.Stats(); stats.State != cache.StateReady {
		warning = notCached(dir, errors.New(stats.Reason), "make room or choose another --cache-dir")
	}
	return store, warning, nil
}

// notCached makes a warning of the reason why nothing is cached.
func notCached(dir string, reason error, remedy string) error {
	if remedy != "" {
		remedy = "; " + remedy
	}
	return fmt.Errorf("reads are not cached on disk: %w (%s)%s", reason, dir, remedy)
}

func remedyOf(err error) string {
	switch {
	case errors.Is(err, cache.ErrFormat):
		return "remove it or choose another --cache-dir"
	case errors.Is(err, unix.EOPNOTSUPP):
		return "its file system cannot reserve space: choose another --cache-dir"
	}
	return "choose another --cache-dir"
}

// CacheSize returns how large the cache in a directory may get, in bytes: what was given, or the default
// and not more than half of what would be free without it.
func CacheSize(config *settings.Config, dir string) (int64, error) {
	size := int64(config.CacheSize)
	if config.Given("", "cache-size") {
		return size, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(dir), &st); err != nil {
		return 0, err
	}
	free := int64(min(st.Bavail, 1<<62/uint64(st.Bsize))) * st.Bsize
	size = min(size, (free+Taken(dir))/2)
	if least := int64(cache.MinSize) + 16*int64(config.BlockSize); size < least {
		return 0, fmt.Errorf("only %s is free on its file system, and the cache takes at most half of that", settings.Size(free>>20<<20))
	}
	return size, nil
}

// Taken returns the bytes on the disk of what is below dir, as far as it can be seen.
func Taken(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(_ string, d iofs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	return sum
}

// Tree names the remote tree of a branch in the cache: it is the same for all mounts
// that see the same files, wherever the branch is in the mount, and holds no secret.
func Tree(b *settings.Branch) string {
	return b.URL + " as " + irods.FullUser(b.User, b.Zone)
}

// CacheTree names what the cache holds of a branch: Tree, seen through --archive or not.
func CacheTree(b *settings.Branch) string {
	if b.Archive == settings.ArchiveKeep {
		return Tree(b) + " with archives"
	}
	return Tree(b)
}

// ListTree names the listings of a branch in the cache: with views of archives there are
// others than without.
func ListTree(b *settings.Branch) string {
	if b.BrowseArchives {
		return CacheTree(b) + ", browsed"
	}
	return CacheTree(b)
}

// CachePolicy is how a branch uses the cache. A file that is larger than the cache is not
// taken in at its first reading.
func CachePolicy(b *settings.Branch, m Memory, branches int, size int64) cache.Policy {
	return cache.Policy{
		Branch: CacheTree(b), MaxRequest: int(b.MaxRequest), PieceMemory: int(max(m.Pieces/int64(max(branches, 1)), 1<<20)),
		Hint: func(ref remote.Ref) cache.Hint {
			if ref.Size > size {
				return cache.Stream
			}
			return cache.Normal
		},
	}
}
