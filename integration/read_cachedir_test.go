package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// Exit codes, as documented.
const (
	cacheBusy     = 40
	cacheUnusable = 41
)

// smallTmpfs mounts a file system of its own, of a few MiB.
func smallTmpfs(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", mib)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := harness.Detach(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// occupy fills a file system until free bytes are left.
func occupy(t *testing.T, dir string, free int64) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(dir, "occupied"))
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(st.Bavail)*st.Bsize - free; n > 0 {
		err = syscall.Fallocate(int(file.Fd()), 0, 0, n)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

// volumes are the files of the tests of cache directories: name -> content.
func volumes() map[string][]byte {
	files := map[string][]byte{}
	for i, size := range []int{1, page, 100_000, 1 << 20, 1<<20 + 1, 3_333_333, 5 << 20} {
		files[fmt.Sprintf("vol%d", i)] = book(uint64(100+i), size)
	}
	return files
}

// readTree reads all files and compares them. It returns the errors of programs.
func readTree(dir string, files map[string][]byte) error {
	var errs []error
	for name, content := range files {
		errs = append(errs, readWhole(filepath.Join(dir, name), content))
	}
	return errors.Join(errs...)
}

// warned checks that a log has a line about the cache, and that the program lives.
func warned(t *testing.T, m *harness.Mount) {
	t.Helper()
	for line := range strings.Lines(m.Output()) {
		if (strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")) && strings.Contains(line, "cache") {
			return
		}
	}
	t.Errorf("no word about the cache:\n%s", m.Output())
}

// TestCacheDirFull mounts with a cache directory whose file system has hardly any space:
// all is read, and the log says that it is not cached. Where not even a file fits, it
// does not mount, with the exit code for that.
func TestCacheDirFull(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := volumes()
	s.plant(t, files)
	full := smallTmpfs(t, 40)
	occupy(t, full, 0)
	if out, code := s.refused(t, filepath.Join(full, "cache")); code != cacheUnusable || !strings.Contains(out, "no space left") {
		t.Errorf("exit code %d, want %d: %s", code, cacheUnusable, out)
	}
	for _, free := range []int64{256 << 10, 30 << 20} {
		disk := smallTmpfs(t, 40)
		occupy(t, disk, free)
		m := s.mount(t, harness.Program(t), filepath.Join(disk, "cache"), "--cache-reserve=0")
		for range 2 {
			if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
				t.Errorf("%d bytes free: %v", free, err)
			}
		}
		warned(t, m)
		m.MustUnmount(t)
	}
}

// TestCacheDirBecomesFull fills the file system of the cache while files are read.
func TestCacheDirBecomesFull(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := volumes()
	s.plant(t, files)
	disk := smallTmpfs(t, 150)
	m := s.mount(t, harness.Program(t), filepath.Join(disk, "cache"), "--cache-size=140MiB", "--cache-reserve=0")
	dir := filepath.Join(m.Dir, "a")
	for i, name := range nameList(files) {
		if i == 3 {
			occupy(t, disk, 0)
		}
		if err := readWhole(filepath.Join(dir, name), files[name]); err != nil {
			t.Error(err)
		}
	}
	for i := range 40 { // more than the space that was taken before
		name := fmt.Sprintf("more%d", i)
		s.plant(t, map[string][]byte{name: book(uint64(500+i), 1<<20)})
		if err := readWhole(filepath.Join(dir, name), book(uint64(500+i), 1<<20)); err != nil {
			t.Error(err)
		}
	}
	if err := readTree(dir, files); err != nil {
		t.Error(err)
	}
	m.MustUnmount(t)
}

func nameList(files map[string][]byte) []string {
	var list []string
	for name := range files {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// TestCacheDirReadOnly mounts with a cache directory on a read-only file system: it does
// not mount, with the exit code for that.
func TestCacheDirReadOnly(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := volumes()
	s.plant(t, files)
	disk := smallTmpfs(t, 150)
	cache := filepath.Join(disk, "cache")
	m := s.mount(t, harness.StaticProgram(t), cache, "--cache-size=100MiB")
	if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
		t.Fatal(err)
	}
	m.MustUnmount(t)
	if err := syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	out, code := s.refused(t, cache)
	if code != cacheUnusable || !strings.Contains(out, cache) {
		t.Errorf("exit code %d, want %d: %s", code, cacheUnusable, out)
	}
}

// refused mounts in the foreground, which must fail, and returns what the program says
// and its exit code.
func (s *shelf) refused(t *testing.T, cache string) (string, int) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), harness.StaticProgram(t), slices.Concat([]string{"mount", "-f", dir, "--cache-dir=" + cache}, s.args)...)
	cmd.Env = append(harness.Environ(t.TempDir()), s.env...)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("it has mounted")
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// TestCacheDirRemoved removes the cache directory, and what is in it, under a mount.
func TestCacheDirRemoved(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := volumes()
	s.plant(t, files)
	for _, what := range []string{".", "blocks", "blocks/index", "blocks/meta"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			cache := cacheDir(t)
			m := s.mount(t, harness.Program(t), cache)
			dir := filepath.Join(m.Dir, "a")
			list := nameList(files)
			for _, name := range list[:5] {
				if err := readWhole(filepath.Join(dir, name), files[name]); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.RemoveAll(filepath.Join(cache, what)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := readTree(dir, files); err != nil {
					t.Error(err)
				}
				for _, name := range list {
					dropPages(t, filepath.Join(dir, name))
				}
			}
			m.MustUnmount(t)
			again := s.mount(t, harness.Program(t), cache)
			if err := readTree(filepath.Join(again.Dir, "a"), files); err != nil {
				t.Errorf("after a remount: %v", err)
			}
			again.MustUnmount(t)
		})
	}
}

// TestCacheDirForeign mounts with a cache directory that something else has made, or a
// newer version: it is not touched, all is read, and the log says why it is not cached.
func TestCacheDirForeign(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := volumes()
	s.plant(t, files)
	used := cacheDir(t)
	m := s.mount(t, harness.Program(t), used)
	if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
		t.Fatal(err)
	}
	m.MustUnmount(t)
	format, err := os.ReadFile(filepath.Join(used, "blocks", "format"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(format))
	words[1] += "0"
	for what, text := range map[string]string{"newer": strings.Join(words, " ") + "\n", "garbage": "\x00\xff\x00garbage", "cut": words[0]} {
		if err := os.WriteFile(filepath.Join(used, "blocks", "format"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		before := scan(t, used)
		m := s.mount(t, harness.Program(t), used)
		if err := readTree(filepath.Join(m.Dir, "a"), files); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		warned(t, m)
		m.MustUnmount(t)
		for path, f := range scan(t, used) {
			if was, ok := before[path]; strings.HasSuffix(path, ".slab") && (!ok || was != f) {
				t.Errorf("%s: %s was touched", what, path)
			}
		}
	}
}

// TestCacheDirShared mounts twice with one cache directory: the second is refused as
// long as the first lives.
func TestCacheDirShared(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	files := volumes()
	s.plant(t, files)
	cache := cacheDir(t)
	first := s.mount(t, harness.Program(t), cache)
	if err := readTree(filepath.Join(first.Dir, "a"), files); err != nil {
		t.Error(err)
	}
	if out, code := s.refused(t, cache); code != cacheBusy || !strings.Contains(out, cache) {
		t.Errorf("exit code %d, want %d: %s", code, cacheBusy, out)
	}
	if err := readTree(filepath.Join(first.Dir, "a"), files); err != nil {
		t.Error(err)
	}
	first.Kill()
	second := s.mount(t, harness.Program(t), cache)
	if err := readTree(filepath.Join(second.Dir, "a"), files); err != nil {
		t.Error(err)
	}
	second.MustUnmount(t)
}
