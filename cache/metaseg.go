package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A metadata segment is a file of records, one after the other, behind a head of
// metaHead bytes. One that is full ends with a record that lists the others, and a
// trailer that says where that one begins.
const (
	metaVersion = 1
	metaWord    = "mmmeta"
	metaHead    = 16
	recordHead  = 56
	recordWord  = 0x3152_4d4d // "MMR1"
	trailerLen  = 16
	trailerWord = 0x3154_4d4d // "MMT1"
	contentItem = 17          // bytes of a record in the list of contents
	metaExt     = ".meta"
)

// recordKind is what a record says.
type recordKind uint8

const (
	recordListing  recordKind = iota + 1
	recordForget              // no listing under this key any more
	recordPrune               // and none below
	recordMark                // a small text of the branch
	recordContents            // the other records of a segment
)

// record is one entry of a segment without its body.
type record struct {
	kind   recordKind
	key    uint64
	length int    // of the body
	at     int64  // ns since 1970 by the clock, 0 if the age is not known
	boot   uint64 // of the machine
	booted int64  // when that was, by the clock as it then went
	sum    uint32
	off    int64 // where it begins
}

func (r *record) size() int64 { return recordHead + int64(r.length) }

// encode returns the record with its body.
func (r *record) encode(body []byte) []byte {
	le := binary.LittleEndian
	r.length, r.sum = len(body), crc32.Checksum(body, castagnoli)
	p := make([]byte, recordHead, recordHead+len(body))
	le.PutUint32(p, recordWord)
	p[8] = byte(r.kind)
	le.PutUint32(p[12:], uint32(r.length))
	le.PutUint64(p[16:], r.key)
	le.PutUint64(p[24:], uint64(r.at))
	le.PutUint64(p[32:], r.boot)
	le.PutUint64(p[40:], uint64(r.booted))
	le.PutUint32(p[48:], r.sum)
	le.PutUint32(p[4:], crc32.Checksum(p[8:], castagnoli))
	return append(p, body...)
}

// decode reads the head of a record.
func (r *record) decode(p []byte) error {
	le := binary.LittleEndian
	if len(p) < recordHead || le.Uint32(p) != recordWord || le.Uint32(p[4:]) != crc32.Checksum(p[8:recordHead], castagnoli) {
		return errSum
	}
	*r = record{kind: recordKind(p[8]), length: int(le.Uint32(p[12:])), key: le.Uint64(p[16:]), at: int64(le.Uint64(p[24:])),
		boot: le.Uint64(p[32:]), booted: int64(le.Uint64(p[40:])), sum: le.Uint32(p[48:]), off: r.off}
	return nil
}

// metaSegment is one file. The fields but file are of the goroutine that writes.
type metaSegment struct {
	n        uint32
	file     *os.File
	end      int64 // where the next record goes
	sealed   bool
	contents []byte // of the records so far, while it is not sealed
}

func segmentPath(dir string, n uint32) string {
	return filepath.Join(dir, fmt.Sprintf("%08x%s", n, metaExt))
}

// segmentNumbers returns the numbers of the segments in dir, ascending.
func segmentNumbers(dir string) ([]uint32, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	var all []uint32
	for _, e := range entries {
		text, ok := strings.CutSuffix(e.Name(), metaExt)
		n, err := strconv.ParseUint(text, 16, 32)
		if ok && err == nil && len(text) == 8 {
			all = append(all, uint32(n))
		}
	}
	return all, err
}

func createSegment(dir string, n uint32) (*metaSegment, error) {
	file, err := os.OpenFile(segmentPath(dir, n), os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	s := &metaSegment{n: n, file: file, end: metaHead}
	if _, err := file.WriteAt(s.head(), 0); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

func (s *metaSegment) head() []byte {
	p := make([]byte, metaHead)
	copy(p, metaWord)
	binary.LittleEndian.PutUint16(p[6:], metaVersion)
	binary.LittleEndian.PutUint32(p[8:], s.n)
	binary.LittleEndian.PutUint32(p[12:], crc32.Checksum(p[:12], castagnoli))
	return p
}

// errDamaged is the error of a segment that is not as it was written, or of another
// version.
var errDamaged = errors.New("the metadata is damaged")

// openSegment reads which records are in a segment. One that was not sealed ends where
// no whole head follows; torn tells that bytes are behind.
func openSegment(dir string, n uint32, each func(record)) (s *metaSegment, torn bool, err error) {
	file, err := os.OpenFile(segmentPath(dir, n), os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false, err
	}
	s = &metaSegment{n: n, file: file, end: metaHead}
	st, err := file.Stat()
	if err == nil {
		torn, err = s.load(st.Size(), each)
	}
	if err != nil {
		return nil, false, errors.Join(err, file.Close())
	}
	return s, torn, nil
}

func (s *metaSegment) load(size int64, each func(record)) (torn bool, err error) {
	head := make([]byte, metaHead)
	if _, err := s.file.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	if !bytes.Equal(head, s.head()) {
		return false, errDamaged
	}
	if s.readContents(size, each) == nil {
		return false, nil
	}
	r := record{off: metaHead}
	buf := &window{file: s.file}
	for r.decode(buf.at(r.off, recordHead)) == nil && r.off+r.size() <= size {
		if r.kind == recordContents {
			s.sealed, s.end = true, r.off
			return r.off+r.size()+trailerLen != size, nil
		}
		s.note(&r)
		each(r)
		r.off += r.size()
		s.end = r.off
	}
	return s.end != size, nil
}

// window reads a file in larger pieces.
type window struct {
	file *os.File
	off  int64
	p    []byte
}

// at returns n bytes from off, or fewer at the end.
func (w *window) at(off int64, n int) []byte {
	if off < w.off || off+int64(n) > w.off+int64(len(w.p)) {
		w.p = append(w.p[:0], make([]byte, 16<<10)...)
		got, _ := w.file.ReadAt(w.p, off) // what cannot be read is missing
		w.off, w.p = off, w.p[:got]
	}
	p := w.p[off-w.off:]
	return p[:min(n, len(p))]
}

// readContents reads the list of a sealed segment, whose records then have no times.
func (s *metaSegment) readContents(size int64, each func(record)) error {
	le := binary.LittleEndian
	t := make([]byte, trailerLen)
	if _, err := s.file.ReadAt(t, size-trailerLen); err != nil || size < metaHead+recordHead+trailerLen {
		return errSum
	}
	off := int64(le.Uint64(t[4:]))
	if le.Uint32(t) != trailerWord || le.Uint32(t[12:]) != crc32.Checksum(t[:12], castagnoli) || off < metaHead || off > size-trailerLen-recordHead {
		return errSum
	}
	p := make([]byte, size-trailerLen-off)
	if _, err := s.file.ReadAt(p, off); err != nil {
		return err
	}
	r := record{off: off}
	if r.decode(p) != nil || r.kind != recordContents || r.size() != int64(len(p)) || crc32.Checksum(p[recordHead:], castagnoli) != r.sum {
		return errSum
	}
	s.end, s.sealed = off, true
	for p := p[recordHead:]; len(p) >= contentItem; p = p[contentItem:] {
		each(record{kind: recordKind(p[0]), key: le.Uint64(p[1:]), off: int64(le.Uint32(p[9:])), length: int(le.Uint32(p[13:]))})
	}
	return nil
}

// note enters a record into the list of contents.
func (s *metaSegment) note(r *record) {
	le := binary.LittleEndian
	s.contents = append(s.contents, byte(r.kind))
	s.contents = le.AppendUint64(s.contents, r.key)
	s.contents = le.AppendUint32(s.contents, uint32(r.off))
	s.contents = le.AppendUint32(s.contents, uint32(r.length))
}

// room tells whether a record of n bytes fits into a segment of size bytes.
func (s *metaSegment) room(n, size int64) bool {
	return !s.sealed && s.end+n+recordHead+int64(len(s.contents))+contentItem+trailerLen <= size
}

// append writes a record at the end. After an error it has not been written.
func (s *metaSegment) append(r *record, p []byte) error {
	r.off = s.end
	if _, err := s.file.WriteAt(p, s.end); err != nil {
		return errors.Join(err, s.file.Truncate(s.end))
	}
	s.note(r)
	s.end += int64(len(p))
	return nil
}

// seal ends the segment for good and brings it to the disk.
func (s *metaSegment) seal() error {
	if s.sealed {
		return nil
	}
	r := record{kind: recordContents, off: s.end}
	p := r.encode(s.contents)
	le := binary.LittleEndian
	t := le.AppendUint32(nil, trailerWord)
	t = le.AppendUint64(t, uint64(s.end))
	p = append(p, le.AppendUint32(t, crc32.Checksum(t, castagnoli))...)
	if _, err := s.file.WriteAt(p, s.end); err != nil {
		return errors.Join(err, s.file.Truncate(s.end))
	}
	s.sealed, s.contents = true, nil
	return s.file.Sync()
}

func (s *metaSegment) remove() error {
	return errors.Join(os.Remove(s.file.Name()), s.file.Close())
}

// read returns the record at off, whole and checked.
func readRecord(file *os.File, off int64, size int) (r record, body []byte, err error) {
	p := make([]byte, size)
	if _, err := file.ReadAt(p, off); err != nil {
		return r, nil, err
	}
	r.off = off
	if err := r.decode(p); err != nil || r.size() != int64(size) || crc32.Checksum(p[recordHead:], castagnoli) != r.sum {
		return r, nil, errSum
	}
	return r, p[recordHead:], nil
}
