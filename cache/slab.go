package cache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// slab is the row of segment files. Which of them are there is changed under the
// mutex of the Store; bytes are read and written without it.
type slab struct {
	dir string
	layout
	files []*os.File
	heads sync.Pool // *[headerSize]byte
	parts sync.Pool // *[chunkSize]byte
}

func newSlab(dir string, l layout) *slab {
	s := &slab{dir: dir, layout: l}
	s.heads.New = func() any { return new([headerSize]byte) }
	s.parts.New = func() any { return new([chunkSize]byte) }
	return s
}

func (s *slab) path(n int) string {
	return filepath.Join(s.dir, fmt.Sprintf("%06d%s", n, segmentExt))
}

// openAll opens the segments that are there and whole, in order, and deletes the
// others.
func (s *slab) openAll() error {
	for n := 0; n < s.segments(); n++ {
		file, err := os.OpenFile(s.path(n), os.O_RDWR|unix.O_NOFOLLOW, 0)
		if errors.Is(err, os.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		st, err := file.Stat()
		if err != nil || st.Size() != s.segmentSize() {
			_ = file.Close()
			break
		}
		s.files = append(s.files, file)
	}
	return s.deleteFrom(len(s.files))
}

// deleteFrom deletes all segments from number n on.
func (s *slab) deleteFrom(n int) error {
	paths, err := filepath.Glob(filepath.Join(globEscape(s.dir), "*"+segmentExt))
	for _, path := range paths {
		var number int
		if _, e := fmt.Sscanf(filepath.Base(path), "%d"+segmentExt, &number); e != nil || number >= n || path != s.path(number) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// create makes the next segment file with all its blocks.
func (s *slab) create(n int) (*os.File, error) {
	file, err := os.OpenFile(s.path(n), os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := allocate(file, s.segmentSize()); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(s.path(n)))
	}
	return file, nil
}

// dropLast deletes the last segment.
func (s *slab) dropLast() error {
	n := len(s.files) - 1
	file := s.files[n]
	s.files = s.files[:n]
	return errors.Join(os.Remove(s.path(n)), file.Close())
}

// at returns the place of a slot.
func (s *slab) at(slot int32) place {
	return place{s, s.files[int(slot)/s.segSlots], int64(int(slot)%s.segSlots) * s.slotSize()}
}

// used returns how many slots of the last segment were ever written.
func (s *slab) used() (int, error) {
	low, high := 0, s.segSlots
	last := int32((len(s.files) - 1) * s.segSlots)
	for low < high {
		mid := (low + high) / 2
		var h header
		err := s.at(last + int32(mid)).readHeader(&h)
		if err != nil && !errors.Is(err, errHeader) {
			return 0, err
		}
		if err == nil && h.state == slotUnused {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low, nil
}

func (s *slab) close() error {
	var err error
	for _, file := range s.files {
		err = errors.Join(err, file.Close())
	}
	s.files = nil
	return err
}

// place is a slot in its file.
type place struct {
	slab *slab
	file *os.File
	off  int64
}

func (p place) readHeader(h *header) error {
	buf := p.slab.heads.Get().(*[headerSize]byte)
	defer p.slab.heads.Put(buf)
	if _, err := p.file.ReadAt(buf[:], p.off); err != nil {
		return err
	}
	return h.decode(buf[:])
}

func (p place) writeHeader(h *header) error {
	buf := p.slab.heads.Get().(*[headerSize]byte)
	defer p.slab.heads.Put(buf)
	h.encode(buf[:])
	_, err := p.file.WriteAt(buf[:], p.off)
	return err
}

// mark changes the state of the slot and forgets what it held.
func (p place) mark(state slotState, generation uint64) error {
	return p.writeHeader(&header{state: state, generation: generation})
}

// write stores a block in the slot, in an order that a crash cannot make look whole.
func (p place) write(i ident, generation uint64, data []byte) error {
	if err := p.mark(slotWriting, generation); err != nil {
		return err
	}
	if _, err := p.file.WriteAt(data, p.off+headerSize); err != nil {
		return err
	}
	var h header
	h.describe(i, generation, data)
	return p.writeHeader(&h)
}

// head returns the header of the slot if that holds the block that the index says. The
// errors are errHeader, errOther, and those of the disk.
func (p place) head(i ident, loc location) (*header, error) {
	h := &header{}
	if err := p.readHeader(h); err != nil {
		return nil, err
	}
	if h.state != slotFull || h.id != i.id || h.digest != i.digest || h.generation != loc.generation {
		return nil, errOther
	}
	if h.length > p.slab.blockSize {
		return nil, errHeader
	}
	return h, nil
}

// read fills b from offset off of the block of which h is the header. Bytes that fail
// their check may be in b when the error is errChunk.
func (p place) read(h *header, b []byte, off int64) (n int, err error) {
	if off >= int64(h.length) {
		return 0, nil
	}
	n = min(len(b), h.length-int(off))
	return n, p.readChecked(h, b[:n], int(off))
}

// readChecked fills b, which lies within the block. Whole chunks are read straight
// into it, the others by way of a buffer.
func (p place) readChecked(h *header, b []byte, off int) error {
	for len(b) > 0 {
		first, skip := off/chunkSize, off%chunkSize
		whole := 0
		for n := first; skip == 0 && n*chunkSize < h.length && whole+h.chunkLen(n) <= len(b); n++ {
			whole += h.chunkLen(n)
		}
		var err error
		n := whole
		if whole > 0 {
			err = p.readWhole(h, first, b[:whole])
		} else {
			n, err = p.readPart(h, first, skip, b)
		}
		if err != nil {
			return err
		}
		b, off = b[n:], off+n
	}
	return nil
}

func (p place) readWhole(h *header, first int, b []byte) error {
	if err := p.readFull(b, first*chunkSize); err != nil {
		return err
	}
	for n := first; len(b) > 0; n++ {
		if err := h.checkChunk(n, b[:h.chunkLen(n)]); err != nil {
			return err
		}
		b = b[h.chunkLen(n):]
	}
	return nil
}

func (p place) readPart(h *header, chunk, skip int, b []byte) (int, error) {
	buf := p.slab.parts.Get().(*[chunkSize]byte)
	defer p.slab.parts.Put(buf)
	part := buf[:h.chunkLen(chunk)]
	if err := p.readFull(part, chunk*chunkSize); err != nil {
		return 0, err
	}
	return copy(b, part[skip:]), h.checkChunk(chunk, part)
}

func (p place) readFull(b []byte, off int) error {
	n, err := p.file.ReadAt(b, p.off+headerSize+int64(off))
	if n == len(b) && err == io.EOF {
		return nil
	}
	return err
}

// rotten tells whether an error of read is about what the slot holds, and not about
// the disk. A file that was cut short is rotten too.
func rotten(err error) bool {
	return errors.Is(err, errHeader) || errors.Is(err, errChunk) || errors.Is(err, errOther) || errors.Is(err, io.EOF)
}
