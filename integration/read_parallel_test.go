package integration_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// TestReadMemory has 64 programs read different cold files at once: every byte is right
// and the program's memory stays within its bound.
func TestReadMemory(t *testing.T) {
	const files, size = 64, 6 << 20
	s := startShelf(t, efss.ModDAV)
	planted := map[string][]byte{}
	for i := range files {
		planted[fmt.Sprintf("f%02d", i)] = book(uint64(i), size)
	}
	s.plant(t, planted)
	const most = 256 << 20
	m := s.mount(t, harness.StaticProgram(t), "", "--cache-size=1GiB")
	var all sync.WaitGroup
	for name, content := range planted {
		all.Go(func() {
			if err := readWhole(filepath.Join(m.Dir, "a", name), content); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	peak, err := harness.PeakMemory(m.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("peak %d MiB", peak>>20)
	if peak > most {
		t.Errorf("the program took %d MiB, more than %d", peak>>20, most>>20)
	}
	m.MustUnmount(t)
}

const patternSize = 3<<20 + 789

// patterns are ways to read a file.
var patterns = map[string]func(file *os.File, content []byte) error{
	"random": func(file *os.File, content []byte) error {
		random := rand.New(rand.NewPCG(9, 9))
		for range 80 {
			if err := readPart(file, content, random.Int64N(int64(len(content))), 1+random.IntN(200_000)); err != nil {
				return err
			}
		}
		return nil
	},
	"backward": func(file *os.File, content []byte) error {
		for off := int64(len(content)); off > 0; {
			off = max(0, off-100_000)
			if err := readPart(file, content, off, 100_000); err != nil {
				return err
			}
		}
		return nil
	},
	"strided": func(file *os.File, content []byte) error {
		for start := range int64(4) {
			for off := start * 50_000; off < int64(len(content)); off += 200_000 {
				if err := readPart(file, content, off, 50_000); err != nil {
					return err
				}
			}
		}
		return nil
	},
	"sequential in odd pieces": func(file *os.File, content []byte) error {
		for off := int64(0); off < int64(len(content)); off += 77_777 {
			if err := readPart(file, content, off, 77_777); err != nil {
				return err
			}
		}
		return nil
	},
	"over the end": func(file *os.File, content []byte) error {
		for _, off := range []int64{-5000, -1, 0, 1, 100_000} {
			p := make([]byte, 10_000)
			n, err := file.ReadAt(p, int64(len(content))+off)
			if want := int(max(0, -off)); n != want || err != io.EOF {
				return fmt.Errorf("at the end %+d: %d bytes, %v", off, n, err)
			}
			if err := differ(p[:n], content, min(int64(len(content))+off, int64(len(content)))); err != nil {
				return err
			}
		}
		return nil
	},
}

// TestReadPatterns reads 8 files at a time in all ways, cold and from the cache, also
// from memory that is too small, and without a cache.
func TestReadPatterns(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *shelf{
		"share": func(t *testing.T) *shelf { return startShelf(t, efss.Nextcloud) }, "zone": startZoneShelf,
	} {
		for _, args := range [][]string{nil, {"--memory=64MiB", "--block-size=128KiB"}, {"--cache=off"}} {
			if name == "zone" && len(args) > 1 {
				continue
			}
			t.Run(name+strings.Join(args, ""), func(t *testing.T) {
				t.Parallel()
				s := start(t)
				planted := map[string][]byte{}
				for i := range 8 {
					planted[fmt.Sprint("f", i)] = book(uint64(i), patternSize+i)
				}
				s.plant(t, planted)
				m := s.mount(t, harness.Program(t), "", append(lasting, args...)...)
				for range 2 {
					readPatterns(t, filepath.Join(m.Dir, "a"), planted)
				}
				m.MustUnmount(t)
			})
		}
	}
}

// readPatterns reads each file in a way of its own, all at once.
func readPatterns(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	var ways []string
	for way := range patterns {
		ways = append(ways, way)
	}
	slices.Sort(ways)
	var all sync.WaitGroup
	for i, name := range nameList(files) {
		way, flags := ways[i%len(ways)], os.O_RDONLY
		if i == 7 {
			flags |= unix.O_DIRECT
		}
		all.Go(func() {
			file, err := os.OpenFile(filepath.Join(dir, name), flags, 0)
			if err == nil {
				err = errors.Join(patterns[way](file, files[name]), file.Close())
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, way, err)
			}
		})
	}
	all.Wait()
	for name := range files {
		dropPages(t, filepath.Join(dir, name))
	}
}

// TestReadByOthers reads files by other programs: several read one file at once, by
// read, by private and by shared maps, and directly.
func TestReadByOthers(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	content := book(1, patternSize)
	s.plant(t, map[string][]byte{"large": content})
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, content, 0o600); err != nil {
		t.Fatal(err)
	}
	m := s.mount(t, harness.Program(t), "", lasting...)
	const script = `
import mmap, os, sys
path, plain, way = sys.argv[1:]
want = open(plain, "rb").read()
f = os.open(path, os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0))
if way == "direct":
    buf, got = mmap.mmap(-1, 1 << 20), b""
    while True:
        n = os.preadv(f, [buf], len(got))
        if n == 0: break
        got += buf[:n]
elif way == "read":
    got = b""
    while True:
        part = os.read(f, 100000)
        if not part: break
        got += part
else:
    view = mmap.mmap(f, 0, mmap.MAP_SHARED if way == "shared" else mmap.MAP_PRIVATE, mmap.PROT_READ)
    step, pages = 37 * 4096, {}
    for start in range(0, step, 4096):  # out of order
        for off in range(start, len(want), step):
            pages[off] = view[off:off + 4096]
    got = b"".join(pages[off] for off in sorted(pages))
sys.exit(0 if got == want else "%s: %d bytes differ" % (way, len(got)))
`
	path := filepath.Join(m.Dir, "a", "large")
	var all sync.WaitGroup
	for _, way := range []string{"read", "private", "shared", "direct", "read", "shared"} {
		all.Go(func() {
			if out, err := harness.Try(t.Context(), "/", "/usr/bin/python3", "-c", script, path, plain, way); err != nil {
				t.Errorf("%s: %v %s", way, err, out)
			}
		})
	}
	all.Wait()
	if sent := s.sent(); sent > int64(len(content))*3/2 {
		t.Errorf("%d bytes came for a file of %d:%s", sent, len(content), story(s.fetches()))
	}
	m.MustUnmount(t)
}

// TestReadGrowing follows a file that grows on the server.
func TestReadGrowing(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *shelf{
		"share": func(t *testing.T) *shelf { return startShelf(t, efss.Nextcloud) }, "zone": startZoneShelf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			text := ""
			m := s.mount(t, harness.Program(t), "", everyTime...)
			path := filepath.Join(m.Dir, "a", "log")
			for i := range 6 {
				text += fmt.Sprintf("line %d: %s\n", i, strings.Repeat("x", i*3000))
				s.plant(t, map[string][]byte{"log": []byte(text)})
				if got, err := os.ReadFile(path); err != nil || string(got) != text {
					t.Errorf("%d: %d bytes, %v, want %d", i, len(got), err, len(text))
				}
			}
			m.MustUnmount(t)
		})
	}
}

// TestReadHot reads a file again that the kernel has: no request reaches the program,
// which therefore reads nothing of any kind.
func TestReadHot(t *testing.T) {
	t.Parallel()
	s := startShelf(t, efss.Nextcloud)
	content := book(1, 16<<20)
	s.plant(t, map[string][]byte{"large": content})
	m := s.mount(t, harness.StaticProgram(t), "", lasting...)
	path := filepath.Join(m.Dir, "a", "large")
	for range 2 { // the second open tells the kernel that it may keep its pages
		if err := readWhole(path, content); err != nil {
			t.Fatal(err)
		}
	}
	before := bytesMoved(t, m.PID())
	for range 3 {
		if err := readWhole(path, content); err != nil {
			t.Error(err)
		}
	}
	if moved := bytesMoved(t, m.PID()) - before; moved > int64(len(content))/10 {
		t.Errorf("three hot reads of %d bytes moved %d through the program", len(content), moved)
	}
	dropPages(t, path)
	before = bytesMoved(t, m.PID())
	if err := readWhole(path, content); err != nil {
		t.Error(err)
	}
	if moved := bytesMoved(t, m.PID()) - before; moved < int64(len(content))/2 {
		t.Errorf("a read of %d bytes from the cache moved only %d: the measure is no good", len(content), moved)
	}
	m.MustUnmount(t)
}

// bytesMoved returns how much a process has read and written by system calls.
func bytesMoved(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		t.Fatal(err)
	}
	var read, written int64
	if _, err := fmt.Sscanf(string(text), "rchar: %d\nwchar: %d", &read, &written); err != nil {
		t.Fatal(err)
	}
	return read + written
}
