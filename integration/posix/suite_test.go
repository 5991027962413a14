package posix_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/prefetch"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// posixUnsupported are the cases of go-fuse's suite that do not apply, with the
// reason, and the test that says what happens instead.
var posixUnsupported = map[string]string{
	"Link":                "no store has hard links; see TestHardLink",
	"LinkUnlinkRename":    "no store has hard links; see TestHardLink",
	"XAttr":               "the stores keep no extended attributes of programs; see TestForeignXattr",
	"XAttrLarge":          "the stores keep no extended attributes of programs; see TestForeignXattr",
	"Tmpfile":             "a file without a name could never get one, as there are no hard links; see TestTmpfile",
	"FcntlFlockLocksFile": "it wants locks of one process to exclude each other, which POSIX does not; it fails on ext4, too; see TestFcntlLocks",
	"OpenSymlinkRace":     "in a tight loop of replacements open(2) may fail with ESTALE, which the case does not know; see TestReplaceRace",
}

// memoryBranch is a fresh branch in memory at the root of the mount.
func memoryBranch(ttl time.Duration) fs.Branch { return rootBranch(memory.New(memory.Options{}), ttl) }

func rootBranch(b remote.Backend, ttl time.Duration) fs.Branch {
	return fs.Branch{Prefix: "/", Backend: b, AttrTTL: ttl, DirTTL: ttl, NegTTL: ttl}
}

// cached puts a block cache and read-ahead before a branch.
func cached(t *testing.T, b fs.Branch) fs.Branch {
	t.Helper()
	store, err := cache.Open(filepath.Join(t.TempDir(), "blocks"), cache.Options{Size: 128 << 20, BlockSize: cache.MinBlockSize})
	if err != nil {
		t.Fatal(err)
	}
	ahead, err := prefetch.New(prefetch.Options{Budget: prefetch.NewBudget(8 << 20)})
	if err != nil {
		t.Fatal(err)
	}
	b.Blocks = store.Wrap(b.Backend, cache.Policy{Branch: "posix"})
	b.Backend, b.Ahead, b.SmallAhead = b.Blocks, ahead, 16
	t.Cleanup(func() {
		if err := errors.Join(ahead.Close(), store.Close()); err != nil { // whoever made the backend closes it
			t.Error(err)
		}
	})
	return b
}

// TestPosixSuite runs go-fuse's POSIX suite on mounts.
func TestPosixSuite(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		posixSuite(t, func(*testing.T) fs.Branch { return memoryBranch(time.Minute) })
	})
	t.Run("memory-without-cache", func(t *testing.T) {
		posixSuite(t, func(*testing.T) fs.Branch { return memoryBranch(0) })
	})
	t.Run("memory-with-blocks", func(t *testing.T) {
		posixSuite(t, func(t *testing.T) fs.Branch { return cached(t, memoryBranch(time.Minute)) })
	})
	for _, dialect := range []efss.Dialect{efss.Nextcloud, efss.OpenCloud, efss.ModDAV} {
		t.Run(dialect.String(), func(t *testing.T) {
			posixSuite(t, func(t *testing.T) fs.Branch { return davBranch(t, dialect, time.Minute) })
		})
	}
}

func posixSuite(t *testing.T, branch func(t *testing.T) fs.Branch) {
	for name := range posixUnsupported {
		if posixtest.All[name] == nil {
			t.Errorf("there is no case %s any more", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if posixUnsupported[name] != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Skipped() {
					t.Errorf("%s skips itself; it must pass or be listed as unsupported", name)
				}
			})
			posixtest.All[name](t, serve(t, branch(t)).dir)
		})
	}
}

// TestPosixSuiteOneThread runs it with a single thread for Go code, on which a
// request and its answer cannot wait for each other unnoticed.
func TestPosixSuiteOneThread(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestPosixSuite$/^memory$", "-test.count=1", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
