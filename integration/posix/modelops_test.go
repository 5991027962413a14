package posix_test

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// generator draws random operations.
type generator struct{ *rand.Rand }

// operation draws one. The weights make files that live long enough to be written
// many times, and few that nobody opens.
func (g *generator) operation() operation {
	choices := []struct {
		weight int
		draw   func() operation
	}{
		{10, g.open}, {5, g.close}, {14, g.pwrite}, {14, g.pread}, {4, g.ftruncate}, {3, g.truncate}, {6, g.fstat},
		{5, g.stat}, {4, g.rename}, {4, g.unlink}, {2, g.mkdir}, {2, g.rmdir}, {3, g.fsync}, {4, g.mmap}, {8, g.poke},
		{8, g.peek}, {2, g.msync}, {3, g.munmap}, {2, g.fallocate}, {3, g.readdir}, {2, g.utimens}, {2, g.chmod},
		{2, g.symlink}, {2, g.readlink},
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := g.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			return c.draw()
		}
	}
	panic("unreachable")
}

// allNames are all paths.
var allNames = []string{"a", "b", "c", "d1", "d1/a", "d1/b", "d2", "d2/a", "d1/d3", "d1/d3/a", "l"}

// name draws a path of which few exist at a time, so that operations meet.
func (g *generator) name() string {
	return allNames[g.IntN(len(allNames))]
}

// file draws a name that is mostly a file's.
func (g *generator) file() string {
	list := []string{"a", "b", "c", "d1/a", "d1/b", "d2/a", "d1/d3/a", "l"}
	return list[g.IntN(len(list))]
}

// slot draws a descriptor.
func (g *generator) slot() int { return g.IntN(slots) }

// offset draws an offset or size, with a liking for the ends of pages.
func (g *generator) offset() int {
	off := g.IntN(maxFile)
	if g.IntN(3) == 0 {
		off = off/pageSize*pageSize + g.IntN(3) - 1
	}
	if g.IntN(4) == 0 {
		off %= 2 * pageSize
	}
	return max(0, off)
}

// length draws the length of a read or write.
func (g *generator) length() int {
	n := 1 + g.IntN(300)
	if g.IntN(4) == 0 {
		n = 1 + g.IntN(50_000)
	}
	return n
}

// bytes draws content.
func (g *generator) bytes(n int) []byte {
	p := make([]byte, n)
	start, step := g.IntN(256), 1+g.IntN(7)
	for i := range p {
		p[i] = byte(start + i*step)
	}
	return p
}

func (g *generator) open() operation {
	i, name := g.slot(), g.file()
	flags := []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR}[g.IntN(4)]
	for _, f := range []struct{ flag, one int }{
		{unix.O_CREAT, 2}, {unix.O_TRUNC, 8}, {unix.O_APPEND, 6}, {unix.O_EXCL | unix.O_CREAT, 10}, {unix.O_NOFOLLOW, 10},
	} {
		if g.IntN(f.one) == 0 {
			flags |= f.flag
		}
	}
	return operation{fmt.Sprintf("open %d %s %#x", i, name, flags), func(s *side) string {
		fd, err := unix.Open(s.path(name), flags|unix.O_CLOEXEC, 0o640)
		if err == nil {
			_ = unix.Close(s.fds[i])
			s.fds[i] = fd
		}
		return result(err, "opened")
	}}
}

func (g *generator) close() operation {
	i := g.slot()
	return operation{fmt.Sprintf("close %d", i), func(s *side) string {
		err := unix.Close(s.fds[i])
		s.fds[i] = -1
		return result(err, "closed")
	}}
}

func (g *generator) pwrite() operation {
	i, off, p := g.slot(), g.offset(), g.bytes(g.length())
	if g.IntN(4) == 0 { // at the position, which O_APPEND makes the end
		return operation{fmt.Sprintf("pwrite %d here %d", i, len(p)), func(s *side) string {
			n, err := unix.Write(s.fds[i], p)
			pos, _ := unix.Seek(s.fds[i], 0, unix.SEEK_CUR)
			return result(err, "%d bytes, now at %d", n, pos)
		}}
	}
	return operation{fmt.Sprintf("pwrite %d at %d %d", i, off, len(p)), func(s *side) string {
		n, err := unix.Pwrite(s.fds[i], p, int64(off))
		return result(err, "%d bytes", n)
	}}
}

func (g *generator) pread() operation {
	i, off, n := g.slot(), g.offset(), g.length()
	return operation{fmt.Sprintf("pread %d at %d %d", i, off, n), func(s *side) string {
		p := make([]byte, n)
		got, err := unix.Pread(s.fds[i], p, int64(off))
		return result(err, "%d bytes %08x", got, crc32.ChecksumIEEE(p[:max(0, got)]))
	}}
}

func (g *generator) ftruncate() operation {
	i, size := g.slot(), g.offset()
	return operation{fmt.Sprintf("ftruncate %d %d", i, size), func(s *side) string {
		return result(unix.Ftruncate(s.fds[i], int64(size)), "truncated")
	}}
}

func (g *generator) truncate() operation {
	name, size := g.file(), g.offset()
	return operation{fmt.Sprintf("truncate %s %d", name, size), func(s *side) string {
		return result(unix.Truncate(s.path(name), int64(size)), "truncated")
	}}
}

func (g *generator) fstat() operation {
	i := g.slot()
	return operation{fmt.Sprintf("fstat %d", i), func(s *side) string {
		var st unix.Stat_t
		return describe(&st, unix.Fstat(s.fds[i], &st))
	}}
}

func (g *generator) stat() operation {
	name := g.name()
	return operation{fmt.Sprintf("stat %s", name), func(s *side) string {
		var st unix.Stat_t
		return describe(&st, unix.Lstat(s.path(name), &st))
	}}
}

func (g *generator) rename() operation {
	from, to, flags := g.name(), g.name(), uint(0)
	if g.IntN(5) == 0 {
		flags = unix.RENAME_NOREPLACE
	}
	return operation{fmt.Sprintf("rename %s %s %d", from, to, flags), func(s *side) string {
		return result(unix.Renameat2(unix.AT_FDCWD, s.path(from), unix.AT_FDCWD, s.path(to), flags), "renamed")
	}}
}

func (g *generator) unlink() operation {
	name := g.name()
	return operation{fmt.Sprintf("unlink %s", name), func(s *side) string {
		return result(unix.Unlink(s.path(name)), "unlinked")
	}}
}

func (g *generator) mkdir() operation {
	name := g.name()
	return operation{fmt.Sprintf("mkdir %s", name), func(s *side) string {
		return result(unix.Mkdir(s.path(name), 0o750), "made")
	}}
}

func (g *generator) rmdir() operation {
	name := g.name()
	return operation{fmt.Sprintf("rmdir %s", name), func(s *side) string {
		return result(unix.Rmdir(s.path(name)), "removed")
	}}
}

func (g *generator) fsync() operation {
	i := g.slot()
	return operation{fmt.Sprintf("fsync %d", i), func(s *side) string { return result(unix.Fsync(s.fds[i]), "synced") }}
}

func (g *generator) mmap() operation {
	i, j, pages := g.slot(), g.slot(), 1+g.IntN(maxFile/pageSize)
	return operation{fmt.Sprintf("mmap %d of %d %d pages", i, j, pages), func(s *side) string {
		p, err := unix.Mmap(s.fds[j], 0, pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return result(err, "")
		}
		_ = s.unmap(i)
		s.maps[i] = p
		s.size[i], err = unix.FcntlInt(uintptr(s.fds[j]), unix.F_DUPFD_CLOEXEC, 0)
		return result(err, "mapped")
	}}
}

func (g *generator) poke() operation {
	i, off, p := g.slot(), g.offset(), g.bytes(g.length())
	return operation{fmt.Sprintf("poke %d at %d %d", i, off, len(p)), func(s *side) string {
		m := s.mapping(i, off, len(p))
		if m == nil {
			return "e:nothing there"
		}
		return result(nil, "%d bytes", copy(m, p))
	}}
}

func (g *generator) peek() operation {
	i, off, n := g.slot(), g.offset(), g.length()
	return operation{fmt.Sprintf("peek %d at %d %d", i, off, n), func(s *side) string {
		m := s.mapping(i, off, n)
		if m == nil {
			return "e:nothing there"
		}
		return result(nil, "%d bytes %08x", len(m), crc32.ChecksumIEEE(m))
	}}
}

func (g *generator) msync() operation {
	i := g.slot()
	return operation{fmt.Sprintf("msync %d", i), func(s *side) string {
		if s.maps[i] == nil {
			return "e:no mapping"
		}
		return result(unix.Msync(s.maps[i], unix.MS_SYNC), "synced")
	}}
}

func (g *generator) munmap() operation {
	i := g.slot()
	return operation{fmt.Sprintf("munmap %d", i), func(s *side) string { return result(s.unmap(i), "unmapped") }}
}

func (g *generator) fallocate() operation {
	i, off, n, mode := g.slot(), g.offset(), g.length(), uint32(0)
	if g.IntN(3) == 0 {
		mode = unix.FALLOC_FL_KEEP_SIZE
	}
	return operation{fmt.Sprintf("fallocate %d at %d %d mode %d", i, off, n, mode), func(s *side) string {
		return result(unix.Fallocate(s.fds[i], mode, int64(off), int64(n)), "allocated")
	}}
}

func (g *generator) readdir() operation {
	name := []string{"", "d1", "d2", "d1/d3", "a"}[g.IntN(5)]
	return operation{fmt.Sprintf("readdir %s", name), func(s *side) string { return names(s.path(name)) }}
}

func (g *generator) utimens() operation {
	name, sec := g.file(), int64(1_000_000_000+g.IntN(1_000_000))
	return operation{fmt.Sprintf("utimens %s %d", name, sec), func(s *side) string {
		// Bytes that were stored through a mapping count as written when the kernel
		// sends them, not when they were stored.
		s.syncMappings()
		ts := []unix.Timespec{{Sec: sec}, {Sec: sec}}
		err := unix.UtimesNanoAt(unix.AT_FDCWD, s.path(name), ts, 0)
		var st unix.Stat_t
		_ = unix.Stat(s.path(name), &st)
		return result(err, "mtime %d", st.Mtim.Sec)
	}}
}

func (g *generator) chmod() operation {
	name, mode := g.file(), uint32(0o600|g.IntN(0o200))
	return operation{fmt.Sprintf("chmod %s %o", name, mode), func(s *side) string {
		return result(unix.Chmod(s.path(name), mode), "changed")
	}}
}

func (g *generator) symlink() operation {
	name, target := g.file(), []string{"a", "d1/b", "d2", "nowhere", "l"}[g.IntN(5)]
	return operation{fmt.Sprintf("symlink %s -> %s", name, target), func(s *side) string {
		return result(unix.Symlink(target, s.path(name)), "linked")
	}}
}

// readlink tries all names, as links are few.
func (g *generator) readlink() operation {
	return operation{"readlink all", func(s *side) string {
		texts, failed := make([]string, 0, len(allNames)), error(unix.EINVAL)
		for _, name := range allNames {
			text, err := os.Readlink(s.path(name))
			if err == nil {
				failed = nil
			}
			texts = append(texts, result(err, "%s", text))
		}
		return result(failed, "links:") + strings.Join(texts, " ")
	}}
}
