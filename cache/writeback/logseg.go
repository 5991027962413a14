package writeback

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	logMagic    = "MMJOURNL"
	logVersion  = 1
	logHead     = 128         // bytes of the head of a segment
	logBootMax  = 64          // bytes of a boot id
	logWord     = 0x4a46_4d4d // "MMFJ": a frame begins
	logFrame    = 44          // bytes of the head of a frame
	logGroupMax = 1 << 30     // bytes of the records of a group

	logPrefix  = "journal-"
	logSnap    = "snapshot-"
	logSpare   = "journal-spare"
	logNew     = "journal-new"
	logDamaged = ".damaged"
)

// The kinds of frames.
const (
	logGroup = 1 // records
	logEnd   = 2 // the end of a snapshot, without records
	logMark  = 3 // without records, and with the number of the group before: all is durable
)

var logCastagnoli = crc32.MakeTable(crc32.Castagnoli)

// logHeader is the head of a segment.
type logHeader struct {
	version uint32
	n       uint32
	first   uint64 // what earlier segments hold from this number on does not count
	boot    string // boot id of the machine when it was made; for people
	made    time.Time
}

func (h *logHeader) encode() []byte {
	le := binary.LittleEndian
	p := make([]byte, logHead)
	copy(p, logMagic)
	le.PutUint32(p[8:], h.version)
	le.PutUint32(p[12:], h.n)
	le.PutUint64(p[16:], h.first)
	le.PutUint64(p[24:], uint64(h.made.UnixNano()))
	p[32] = byte(copy(p[33:33+logBootMax], h.boot))
	le.PutUint32(p[logHead-4:], crc32.Checksum(p[:logHead-4], logCastagnoli))
	return p
}

// decode tells whether p is a head.
func (h *logHeader) decode(p []byte) bool {
	le := binary.LittleEndian
	if len(p) < logHead || string(p[:8]) != logMagic || p[32] > logBootMax ||
		le.Uint32(p[logHead-4:]) != crc32.Checksum(p[:logHead-4], logCastagnoli) {
		return false
	}
	*h = logHeader{version: le.Uint32(p[8:]), n: le.Uint32(p[12:]), first: le.Uint64(p[16:]),
		made: time.Unix(0, int64(le.Uint64(p[24:]))), boot: string(p[33 : 33+p[32]])}
	return true
}

// logFrameHead is the head of a frame. The sums are over where it lies as well: what was
// left of another segment, or is at another place, is no frame.
type logFrameHead struct {
	kind    uint32
	length  uint32 // of the records
	body    uint32 // CRC-32C of the records
	boot    uint64 // stands for the boot id of the machine; 0 if it is not known
	seq     uint64 // groups are counted, from 1 on
	durable uint64 // all up to this were on stable storage when this was written
}

// logSeed is the beginning of the sums of a frame at off in segment n.
func logSeed(n uint32, off int64) uint32 {
	var p [12]byte
	binary.LittleEndian.PutUint32(p[:], n)
	binary.LittleEndian.PutUint64(p[4:], uint64(off))
	return crc32.Checksum(p[:], logCastagnoli)
}

// logSum is the sum of the records of that frame.
func logSum(n uint32, off int64, body []byte) uint32 {
	return crc32.Update(logSeed(n, off), logCastagnoli, body)
}

// seal writes the head of the frame p, whose records are behind the space for it.
func (f *logFrameHead) seal(p []byte, n uint32, off int64) {
	le, seed := binary.LittleEndian, logSeed(n, off)
	f.length = uint32(len(p) - logFrame)
	f.body = logSum(n, off, p[logFrame:])
	le.PutUint32(p, logWord)
	le.PutUint32(p[8:], f.body)
	le.PutUint32(p[12:], f.length)
	le.PutUint32(p[16:], f.kind)
	le.PutUint64(p[20:], f.boot)
	le.PutUint64(p[28:], f.seq)
	le.PutUint64(p[36:], f.durable)
	le.PutUint32(p[4:], crc32.Update(seed, logCastagnoli, p[8:logFrame]))
}

// decode tells whether p begins with the head of a frame.
func (f *logFrameHead) decode(p []byte, n uint32, off int64) bool {
	le := binary.LittleEndian
	if len(p) < logFrame || le.Uint32(p) != logWord ||
		le.Uint32(p[4:]) != crc32.Update(logSeed(n, off), logCastagnoli, p[8:logFrame]) {
		return false
	}
	*f = logFrameHead{body: le.Uint32(p[8:]), length: le.Uint32(p[12:]), kind: le.Uint32(p[16:]),
		boot: le.Uint64(p[20:]), seq: le.Uint64(p[28:]), durable: le.Uint64(p[36:])}
	return true
}

// logEncode returns a frame with the records of a group, without its head.
func logEncode(group []*record) []byte {
	p := make([]byte, logFrame, logFrame+192*len(group))
	for _, r := range group {
		p = logAppendRecord(p, r)
	}
	return p
}

// logAppendRecord appends the length of a record and the record.
func logAppendRecord(p []byte, r *record) []byte {
	start := len(p)
	p = append(p, 0, 0) // most lengths
	p = appendRecord(p, r)
	n := len(p) - start - 2
	if n < 1<<14 {
		p[start], p[start+1] = byte(n)|0x80, byte(n>>7)
		return p
	}
	var head [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(head[:], uint64(n))
	p = append(p, head[:k-2]...)
	copy(p[start+k:], p[start+2:start+2+n])
	copy(p[start:], head[:k])
	return p
}

// logDecode returns the records of a group.
func logDecode(p []byte) ([]*record, error) {
	var group []*record
	for len(p) > 0 {
		n, k := binary.Uvarint(p)
		if k <= 0 || n > uint64(len(p)-k) {
			return nil, errRecord
		}
		r, err := decodeRecord(p[k : k+int(n)])
		if err != nil {
			return nil, err
		}
		group = append(group, r)
		p = p[k+int(n):]
	}
	return group, nil
}

// logSegment is a file of the journal.
type logSegment struct {
	name   string
	n      uint32
	snap   bool
	head   logHeader
	headed bool // head could be read
	file   logFile
	size   int64 // of the file
	end    int64 // where the next frame goes

	garbage bool // something is between the frames or behind them that is none
	damaged bool // groups that count are missing, or what is there is not understood
}

// rest is the space that is left for frames.
func (s *logSegment) rest() int64 {
	if s == nil {
		return 0
	}
	return max(s.size-s.end, 0)
}

// close closes the file of a segment that is not written any more.
func (s *logSegment) close(log *slog.Logger) {
	if s == nil || s.file == nil {
		return
	}
	if err := s.file.Close(); err != nil { // what is needed of it was synced, or is elsewhere
		log.Debug("a segment of the journal could not be closed", "segment", s.name, "err", err)
	}
	s.file = nil
}

// logName returns the name of a segment.
func logName(n uint32, snap bool) string {
	if snap {
		return fmt.Sprintf("%s%08x", logSnap, n)
	}
	return fmt.Sprintf("%s%08x", logPrefix, n)
}

// logNumber is the inverse of logName.
func logNumber(name string) (n uint32, snap, ok bool) {
	text, snap := strings.CutPrefix(name, logSnap)
	if !snap {
		text, ok = strings.CutPrefix(name, logPrefix)
	}
	number, err := strconv.ParseUint(text, 16, 32)
	return uint32(number), snap, (snap || ok) && err == nil && logName(uint32(number), snap) == name
}

// logBoot stands for a boot id in frames.
func logBoot(id string) uint64 {
	if id == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	return max(h.Sum64(), 1)
}

// logReader reads a segment in large pieces. What the disk cannot read is zero.
type logReader struct {
	file   logFile
	size   int64
	off    int64
	p      []byte
	broken bool // something could not be read
}

const (
	logPiece = 256 << 10
	logPage  = 4096
)

// at returns n bytes from off, or fewer at the end. They are valid until the next call.
func (r *logReader) at(off int64, n int) []byte {
	n = int(max(min(int64(n), r.size-off), 0))
	if off < r.off || off+int64(n) > r.off+int64(len(r.p)) {
		r.fill(off, int(min(max(int64(n), logPiece), r.size-off)))
	}
	return r.p[off-r.off:][:n]
}

func (r *logReader) fill(off int64, n int) {
	if n > cap(r.p) {
		r.p = make([]byte, n)
	}
	r.off, r.p = off, r.p[:max(n, 0)]
	if _, err := r.file.ReadAt(r.p, off); err == nil {
		return
	}
	for at := 0; at < len(r.p); at += logPage {
		page := r.p[at:min(at+logPage, len(r.p))]
		if _, err := r.file.ReadAt(page, off+int64(at)); err != nil {
			r.broken = true
			clear(page)
		}
	}
}

// find returns where the bytes of word begin next, from off on, or the end.
func (r *logReader) find(word []byte, off int64) int64 {
	for off < r.size {
		p := r.at(off, logPiece)
		if i := bytes.Index(p, word); i >= 0 {
			return off + int64(i)
		}
		if len(p) < logPiece {
			break
		}
		off += int64(len(p) - len(word) + 1)
	}
	return r.size
}

// blank tells whether all bytes in [off, end) are zero.
func (r *logReader) blank(off, end int64) bool {
	for off < end {
		p := r.at(off, int(min(end-off, logPiece)))
		if p[0] != 0 || !bytes.Equal(p[1:], p[:len(p)-1]) { // each byte is like the one before
			return false
		}
		off += int64(len(p))
	}
	return true
}

// errLogVersion is the error of a journal that a newer program has written.
var errLogVersion = errors.New("the journal is of a newer version of this program")
