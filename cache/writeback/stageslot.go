package writeback

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Small contents lie side by side in files of their own kind.
const (
	maxSlot     = 64 << 10  // bytes of a content that lies with others
	segmentSize = 1 << 20   // bytes of a file of them
	slotAlign   = 4 << 10   // no two contents are in one page
	maxDead     = 256 << 20 // bytes of such files that nobody needs, but that cannot be given back
)

const segmentPrefix = "shared-"

// slots are places in files that many small contents share. Making a file costs a local file
// system more than writing some kilobytes to one that is there (measured on ext4: a fifth of
// all that an untar costs this process), and its removal slows those made after it. A place is
// given out once: what lay there stays until nothing in the file is needed and the file goes.
// So no name of which the journal knows, also after a power failure, ever stands for other
// bytes. Disk space for a file is taken when it is made: it does not run out within. The zero
// value gives none.
type slots struct {
	dir string // "": gives none

	mu      sync.Mutex
	closed  bool                // guarded by mu; gives none
	all     map[string]*segment // guarded by mu; by name
	current *segment            // guarded by mu; the one that is being filled, nil without
	dead    int64               // guarded by mu; bytes of all that no living slot has, but those not given out yet
}

// segment is a file of slots. Its fields are guarded by slots.mu.
type segment struct {
	name  string
	file  *os.File // nil while it is closed
	opens int      // who needs it open
	end   int64    // bytes given out
	used  int64    // of these, bytes of slots that live
	live  int      // slots that live
	whole bool     // the file is there, as long as it was made
}

// slot is a place in a segment.
type slot struct {
	home *slots
	in   *segment
	off  int64
	room int64 // bytes that can be written; guarded by the Stage's mu
	took int64 // bytes that are counted for it; guarded by slots.mu
}

// slotName is what the journal calls a slot.
func slotName(segment string, off int64) string {
	return segment + "@" + strconv.FormatInt(off, 10)
}

// name is what the journal calls it.
func (p *slot) name() string { return slotName(p.in.name, p.off) }

// fileOf returns the file in which a content lies, and whether that is one of slots.
func fileOf(name string) (file string, off int64, shared bool) {
	file, at, found := strings.Cut(name, "@")
	off, err := strconv.ParseInt(at, 10, 64)
	if !found || err != nil || off < 0 || !strings.HasPrefix(file, segmentPrefix) {
		return name, 0, false
	}
	return file, off, true
}

// aligned rounds up to whole places.
func aligned(n int64) int64 { return (max(n, 1) + slotAlign - 1) / slotAlign * slotAlign }

// take gives out a place of at least n bytes, nil if there is none to be had.
func (s *slots) take(n int64) *slot {
	if s.dir == "" || n > maxSlot {
		return nil
	}
	n = aligned(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.current != nil && s.current.end+n > segmentSize {
		s.seal()
	}
	if s.current == nil && (s.dead > maxDead || !s.begin()) {
		return nil
	}
	x := s.current
	p := &slot{home: s, in: x, off: x.end, room: n, took: n}
	x.end += n
	x.used += n
	x.live++
	return p
}

// begin makes a new segment, false if that cannot be done. Guarded by mu.
func (s *slots) begin() bool {
	f, err := os.CreateTemp(s.dir, segmentPrefix+"*")
	if err != nil {
		return false
	}
	if unix.Fallocate(int(f.Fd()), 0, 0, segmentSize) != nil {
		_, _ = f.Close(), os.Remove(f.Name()) // an own file says what is wrong
		return false
	}
	s.current = &segment{name: filepath.Base(f.Name()), file: f, opens: 1, whole: true}
	s.all[s.current.name] = s.current
	return true
}

// seal ends the filling of the current segment. Guarded by mu.
func (s *slots) seal() {
	x := s.current
	s.current = nil
	s.dead += segmentSize - x.used
	x.end = segmentSize
	s.close(x)
	s.retire(x)
}

// close gives up a use of the file. Guarded by mu.
func (s *slots) close(x *segment) {
	if x.opens--; x.opens == 0 {
		_ = x.file.Close() // what has to be on the disk was synced
		x.file = nil
	}
}

// retire removes a segment that nobody needs. Guarded by mu.
func (s *slots) retire(x *segment) {
	if x.live > 0 || x == s.current {
		return
	}
	s.dead -= segmentSize
	delete(s.all, x.name)
	_ = os.Remove(filepath.Join(s.dir, x.name)) // what stays is removed at the next start
}

// needs says that the journal speaks of a slot, of a segment of an earlier mount. It returns
// false if that is not there.
func (s *slots) needs(file string, size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.old(file)
	size = aligned(size)
	x.live++
	x.used += size
	s.dead -= size
	return x.whole
}

// old returns the segment of that name. Guarded by mu.
func (s *slots) old(name string) *segment {
	x := s.all[name]
	if x == nil {
		info, err := os.Stat(filepath.Join(s.dir, name))
		x = &segment{name: name, end: segmentSize, whole: err == nil && info.Size() == segmentSize}
		s.all[name] = x
		s.dead += segmentSize
	}
	return x
}

// adopt returns the slot of a content of size bytes of an earlier mount.
func (s *slots) adopt(file string, off, size int64) *slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &slot{home: s, in: s.old(file), off: off, room: size, took: aligned(size)}
}

// extend makes a slot larger where it is, if nothing was given out behind it.
func (p *slot) extend(n int64) bool {
	s := p.home
	s.mu.Lock()
	defer s.mu.Unlock()
	n = aligned(n)
	if n > maxSlot || p.in != s.current || p.off+p.room != p.in.end || p.off+n > segmentSize {
		return false
	}
	p.in.end += n - p.room
	p.in.used += n - p.room
	p.room, p.took = n, n
	return true
}

// open opens the file of the slot, for reading and writing.
func (p *slot) open() (*os.File, error) {
	s := p.home
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.in.file == nil {
		f, err := os.OpenFile(filepath.Join(s.dir, p.in.name), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		p.in.file = f
	}
	p.in.opens++
	return p.in.file, nil
}

// close ends an open.
func (p *slot) close() {
	p.home.mu.Lock()
	defer p.home.mu.Unlock()
	p.home.close(p.in)
}

// free says that nobody needs what lies there.
func (p *slot) free() {
	s := p.home
	s.mu.Lock()
	defer s.mu.Unlock()
	p.in.live--
	freed := min(p.took, p.in.used)
	p.in.used -= freed
	if p.in != s.current {
		s.dead += freed
	}
	s.retire(p.in)
}

// clear gives nothing out from now on, and removes what nobody needs.
func (s *slots) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.current != nil {
		s.seal()
	}
}
