package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Signatures and sizes of the records of a zip.
const (
	localSig, centralSig, endSig = 0x04034b50, 0x02014b50, 0x06054b50
	localLen, centralLen, endLen = 30, 46, 22

	madeByUnix = 3<<8 | 20
	needed     = 20
	utf8Flag   = 1 << 11
	timeExtra  = 0x5455 // the extended timestamp
	regular    = 0o100000
	plainMode  = 0o644 // shown to other tools if there is none
)

// Measure reads a content and returns its sums. An end before its size, or bytes after it,
// are an error.
func Measure(src remote.Source) (Sum, error) {
	r, err := src.Open()
	if err != nil {
		return Sum{}, err
	}
	sha, crc := sha256.New(), crc32.NewIEEE()
	n, err := io.Copy(io.MultiWriter(sha, crc), io.LimitReader(r, src.Size()+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return Sum{}, err
	}
	if n != src.Size() {
		return Sum{}, fmt.Errorf("%d bytes came of %d: %w", n, src.Size(), io.ErrUnexpectedEOF)
	}
	return Sum{hex.EncodeToString(sha.Sum(nil)), crc.Sum32()}, nil
}

// Item is a file to be put in an archive: a member, of which Name, Sum, MTime and the mode
// are set, and Number in a generation after the first, and its bytes.
type Item struct {
	Member Member
	Source remote.Source
}

// Archive is a new archive, ready to be sent: it is a remote.Source. Nothing of its content
// is in memory but the directory; members are read from their sources when it is.
type Archive struct {
	index Index
	items []Item
	heads [][]byte // the local header of each member
	tail  []byte   // manifest with its header, directory, end
	size  int64
}

var _ remote.Source = (*Archive)(nil)

// New lays out a generation of an archive, of which all but the members is in head. An item that cannot be a member (CanHold), a name that comes
// twice, and more than the bounds of the package, are an error.
func New(head Index, items []Item) (*Archive, error) {
	a := &Archive{index: Index{ID: head.ID, Generation: head.Generation, Born: head.Born}, items: items}
	if len(items) == 0 && head.Generation == 0 || len(items) > MaxMembers {
		return nil, fmt.Errorf("an archive cannot have %d members", len(items))
	}
	seen := map[string]bool{}
	for i, it := range items {
		m := it.Member
		if !CanHold(m.Name) || seen[m.Name] {
			return nil, fmt.Errorf("%q cannot be a member, or is one twice", m.Name)
		}
		seen[m.Name] = true
		if m.Size = it.Source.Size(); head.Generation == 0 {
			m.Number = i
		}
		head := localHeader(&m)
		m.Offset = a.size + int64(len(head))
		a.heads = append(a.heads, head)
		a.index.Members = append(a.index.Members, m)
		if a.size = m.Offset + m.Size; a.size > MaxSize-MaxIndex {
			return nil, errors.New("an archive cannot be that large")
		}
	}
	return a, a.close()
}

// close makes the end of the file.
func (a *Archive) close() error {
	text, err := a.index.encode()
	if err != nil {
		return err
	}
	m := Member{Name: ManifestName, Size: int64(len(text)), MTime: a.index.ID.Time(), Sum: Sum{CRC32: crc32.ChecksumIEEE(text)}}
	a.tail = append(localHeader(&m), text...)
	m.Offset = a.size + int64(len(a.tail)) - m.Size
	directory := a.size + int64(len(a.tail))
	from := len(a.tail)
	for i := range a.index.Members {
		a.tail = appendCentral(a.tail, &a.index.Members[i])
	}
	a.tail = appendCentral(a.tail, &m)
	n, length := uint16(len(a.items)+1), len(a.tail)-from
	if length+len(text) > MaxIndex {
		return errors.New("the names of an archive cannot take that much")
	}
	le := binary.LittleEndian
	a.tail = le.AppendUint32(a.tail, endSig)
	a.tail = le.AppendUint32(a.tail, 0) // the numbers of disks
	a.tail = le.AppendUint16(a.tail, n)
	a.tail = le.AppendUint16(a.tail, n)
	a.tail = le.AppendUint32(a.tail, uint32(length))
	a.tail = le.AppendUint32(a.tail, uint32(directory))
	a.tail = le.AppendUint16(a.tail, 0) // no comment
	a.size += int64(len(a.tail))
	return nil
}

// Index returns what the archive holds. It must not be changed.
func (a *Archive) Index() *Index { return &a.index }

// Size implements remote.Source.
func (a *Archive) Size() int64 { return a.size }

// Open implements remote.Source. A member whose bytes are not those that were measured is
// an error of the reader, before the archive is complete.
func (a *Archive) Open() (io.ReadCloser, error) {
	return &reader{a: a, now: bytes.NewReader(nil)}, nil
}

// reader reads an archive from its sources. It is for one goroutine.
type reader struct {
	a    *Archive
	next int           // item that comes after now; one more than all: the tail is begun
	now  io.Reader     // what is being read
	src  io.ReadCloser // of the item that is being read, nil if none is
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		n, err := r.now.Read(p)
		if n > 0 || err == nil && len(p) == 0 {
			return n, nil
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		if err == nil {
			continue
		}
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
}

// advance goes to the next part: headers with their contents, then the tail.
func (r *reader) advance() error {
	if err := r.Close(); err != nil {
		return err
	}
	i := r.next
	if r.next++; i > len(r.a.items) {
		r.next = i
		return io.EOF
	}
	if i == len(r.a.items) {
		r.now = bytes.NewReader(r.a.tail)
		return nil
	}
	src, err := r.a.items[i].Source.Open()
	if err != nil {
		return err
	}
	r.src = src
	m := &r.a.index.Members[i]
	r.now = io.MultiReader(bytes.NewReader(r.a.heads[i]), &checked{r: src, left: m.Size, want: m.Sum.CRC32, name: m.Name})
	return nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	src := r.src
	r.src, r.now = nil, bytes.NewReader(nil)
	if src == nil {
		return nil
	}
	return src.Close()
}

// checked reads exactly left bytes of the checksum that is wanted.
type checked struct {
	r    io.Reader
	left int64
	crc  uint32
	want uint32
	name string
}

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	if c.left == 0 {
		if c.crc != c.want {
			return 0, fmt.Errorf("%q has become another content while it was sent", c.name)
		}
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.crc = crc32.Update(c.crc, crc32.IEEETable, p[:n])
	if err == io.EOF {
		if err = nil; c.left > 0 {
			err = fmt.Errorf("%q: %w", c.name, io.ErrUnexpectedEOF)
		}
	}
	return n, err
}

// localHeader returns what stands before the bytes of a member.
func localHeader(m *Member) []byte {
	le := binary.LittleEndian
	h := le.AppendUint32(make([]byte, 0, localLen+len(m.Name)+9), localSig)
	h = appendCommon(h, m)
	h = append(h, m.Name...)
	return appendTime(h, m)
}

// appendCommon appends the fields that both headers have, from the version that is needed on.
func appendCommon(h []byte, m *Member) []byte {
	le := binary.LittleEndian
	date, clock := dosTime(m.MTime)
	h = le.AppendUint16(h, needed)
	h = le.AppendUint16(h, utf8Flag)
	h = le.AppendUint16(h, 0) // stored
	h = le.AppendUint16(h, clock)
	h = le.AppendUint16(h, date)
	h = le.AppendUint32(h, m.Sum.CRC32)
	h = le.AppendUint32(h, uint32(m.Size))
	h = le.AppendUint32(h, uint32(m.Size))
	h = le.AppendUint16(h, uint16(len(m.Name)))
	return le.AppendUint16(h, uint16(len(appendTime(nil, m))))
}

// appendCentral appends the entry of a member in the directory.
func appendCentral(h []byte, m *Member) []byte {
	le := binary.LittleEndian
	mode := uint32(plainMode)
	if m.ModeKnown {
		mode = m.Mode
	}
	head := m.Offset - int64(localLen+len(m.Name)+len(appendTime(nil, m)))
	h = le.AppendUint32(h, centralSig)
	h = le.AppendUint16(h, madeByUnix)
	h = appendCommon(h, m)
	h = le.AppendUint16(h, 0) // no comment
	h = le.AppendUint32(h, 0) // the number of a disk, internal attributes
	h = le.AppendUint32(h, (regular|mode)<<16)
	h = le.AppendUint32(h, uint32(head))
	h = append(h, m.Name...)
	return appendTime(h, m)
}

// appendTime appends the extended timestamp, if the time fits.
func appendTime(h []byte, m *Member) []byte {
	secs := m.MTime.Unix()
	if secs < math.MinInt32 || secs > math.MaxInt32 {
		return h
	}
	le := binary.LittleEndian
	h = le.AppendUint16(h, timeExtra)
	h = le.AppendUint16(h, 5)
	h = append(h, 1)
	return le.AppendUint32(h, uint32(int32(secs)))
}

// dosTime returns the time as the oldest tools know it, in UTC.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if y := t.Year(); y < 1980 || y > 2107 {
		return 1<<5 | 1, 0
	}
	return uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day()), uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
}
