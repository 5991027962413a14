package posix_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/integration/efss"
)

// Environment of TestPosixModel: how many operations, and the seed to repeat a run.
const (
	modelOpsVar  = "MESHMOUNT_MODEL_OPS"
	modelSeedVar = "MESHMOUNT_MODEL_SEED"
)

// TestPosixModel does 100,000 random operations on several files and handles, on the mount
// and on the local disk, and wants the same results of both. The program that does
// them is a process of its own, as it maps files.
func TestPosixModel(t *testing.T) {
	for _, tc := range []struct {
		name   string
		ops    int
		branch func(t *testing.T) fs.Branch
	}{
		{"memory", 60_000, func(*testing.T) fs.Branch { return memoryBranch(time.Minute) }},
		{"memory-without-cache", 5_000, func(*testing.T) fs.Branch { return memoryBranch(0) }},
		{"memory-with-blocks", 20_000, func(t *testing.T) fs.Branch { return cached(t, memoryBranch(time.Minute)) }},
		{"moddav-with-blocks", 3_000, func(t *testing.T) fs.Branch { return cached(t, davBranch(t, efss.ModDAV, time.Minute)) }},
		{"nextcloud", 4_000, func(t *testing.T) fs.Branch { return davBranch(t, efss.Nextcloud, time.Minute) }},
		{"zone", 4_000, func(t *testing.T) fs.Branch { return zoneBranch(t, time.Minute) }},
		{"moddav", 4_000, func(t *testing.T) fs.Branch { return davBranch(t, efss.ModDAV, time.Minute) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := ""
			if !isChild(t) {
				dir = serve(t, tc.branch(t)).dir
			}
			child(t, dir, nil, func(t *testing.T, dir string) { runModel(t, dir, tc.ops) })
		})
	}
}

func runModel(t *testing.T, dir string, ops int) {
	seed := rand.Uint64()
	if s := os.Getenv(modelOpsVar); s != "" {
		ops, _ = strconv.Atoi(s)
	}
	if s := os.Getenv(modelSeedVar); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("%s=%d %s=%d", modelSeedVar, seed, modelOpsVar, ops)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0))}
	real, model := newSide(dir), newSide(t.TempDir())
	defer real.close()
	defer model.close()
	var history []string
	counts := map[string]int{}
	for i := range ops {
		op := g.operation()
		if i%5000 == 4999 {
			op = operation{"verify", (*side).tree}
		}
		history = append(history, fmt.Sprintf("%6d %s", i, op.text))
		want := op.run(model)
		got := op.run(real)
		if got != want {
			t.Fatalf("operation %d, %s: the mount says\n  %s\nthe local disk says\n  %s\nbefore that:\n%s",
				i, op.text, got, want, strings.Join(history[max(0, len(history)-400):], "\n"))
		}
		verb, _, _ := strings.Cut(op.text, " ")
		if !strings.HasPrefix(want, "e:") {
			counts[verb]++
		}
	}
	t.Logf("successes: %v", counts)
	for _, verb := range verbs {
		if ops >= countedOps && counts[verb] < ops/4000 {
			t.Errorf("%s succeeded only %d times in %d operations", verb, counts[verb], ops)
		}
	}
}

// countedOps is how many operations say something of what the generator draws. Fewer may
// leave out what happens once in a thousand.
const countedOps = 20_000

// verbs are all operations; each must happen often enough.
var verbs = []string{"open", "close", "pwrite", "pread", "ftruncate", "truncate", "fstat", "stat", "rename", "unlink",
	"mkdir", "rmdir", "fsync", "mmap", "poke", "peek", "msync", "munmap", "fallocate", "readdir", "utimens", "chmod",
	"symlink", "readlink"}

const (
	slots    = 8       // descriptors and mappings
	maxFile  = 200_000 // bytes
	pageSize = 4096
)

// side is one of the two trees, with what is open in it.
type side struct {
	dir  string
	fds  [slots]int // -1: not open
	maps [slots][]byte
	size [slots]int // descriptor of the mapped file, for its size; -1: no mapping
}

func newSide(dir string) *side {
	s := &side{dir: dir}
	for i := range slots {
		s.fds[i], s.size[i] = -1, -1
	}
	return s
}

func (s *side) close() {
	for i := range slots {
		s.unmap(i)
		_ = unix.Close(s.fds[i])
	}
}

func (s *side) path(name string) string { return filepath.Join(s.dir, name) }

// operation is the same on both sides. Its result begins with "e:" if it failed.
type operation struct {
	text string
	run  func(s *side) string
}

// result describes the outcome of an operation.
func result(err error, format string, args ...any) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return "e:" + unix.ErrnoName(errno)
	}
	if err != nil {
		return "e:" + err.Error()
	}
	return fmt.Sprintf(format, args...)
}

// tree describes all that can be seen from the root.
func (s *side) tree() string {
	var b strings.Builder
	err := filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %s", strings.TrimPrefix(path, s.dir), d.Type())
		if d.Type().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %08x", len(text), crc32.ChecksumIEEE(text))
		}
		b.WriteString("\n")
		return nil
	})
	return result(err, "%s", &b)
}

// describe tells attributes, but no times: the two sides were not changed at the same
// moment.
func describe(st *unix.Stat_t, err error) string {
	size, nlink := st.Size, st.Nlink
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		size, nlink = 0, 0 // every file system counts directories in its own way
	}
	return result(err, "%o size %d links %d", st.Mode, size, nlink)
}

// mapping returns the part of slot i's mapping that is within the file, at offset
// off and at most n bytes long: beyond the end there is SIGBUS, or a rest of a page
// whose bytes are nobody's.
func (s *side) mapping(i, off, n int) []byte {
	var st unix.Stat_t
	if s.maps[i] == nil || unix.Fstat(s.size[i], &st) != nil {
		return nil
	}
	end := min(off+n, len(s.maps[i]), int(st.Size))
	if off >= end {
		return nil
	}
	return s.maps[i][off:end]
}

func (s *side) syncMappings() {
	for _, m := range s.maps {
		if m != nil {
			_ = unix.Msync(m, unix.MS_SYNC)
		}
	}
}

func (s *side) unmap(i int) error {
	if s.maps[i] == nil {
		return unix.EINVAL
	}
	err := errors.Join(unix.Munmap(s.maps[i]), unix.Close(s.size[i]))
	s.maps[i], s.size[i] = nil, -1
	return err
}

// names returns the entries of a directory.
func names(path string) string {
	entries, err := os.ReadDir(path)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name()+e.Type().String())
	}
	slices.Sort(list)
	return result(err, "%v", list)
}
