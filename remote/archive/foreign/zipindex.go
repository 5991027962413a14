package foreign

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// What follows is in APPNOTE.TXT of PKWARE (ISO/IEC 21320-1 for the basic parts).
const (
	sigLocal     = 0x04034b50
	sigEntry     = 0x02014b50
	sigEnd       = 0x06054b50
	sigEnd64     = 0x06064b50
	sigLocator64 = 0x07064b50

	localLen     = 30
	entryLen     = 46
	endLen       = 22
	end64Len     = 56
	locator64Len = 20

	extraZip64 = 0x0001
	extraNTFS  = 0x000a
	extraTimes = 0x5455 // Info-ZIP's "UT"

	flagEncrypted = 1<<0 | 1<<6 | 1<<13
	methodStored  = 0
	methodDeflate = 8

	maxRatio = 1032 // most that deflate wins, by its format
)

// zipTail is what is read first of a zip, from its end: the directories of most are in it.
const zipTail = 256 << 10

// maxLinkRequests is how many requests are made for the texts of symbolic links, which are
// the contents of their members. Links beyond that are left out.
const maxLinkRequests = 128

var le = binary.LittleEndian

// ReadZip returns what is in a zip archive, by its central directory: in one request, or
// two if the directory is large, and some more if there are symbolic links. Members that
// cannot be read have a Flaw. The errors are *FormatError and those of src.
func ReadZip(ctx context.Context, src Ranged) (*Contents, error) {
	z := zipReader{ctx: ctx, src: src}
	if err := z.findDirectory(); err != nil {
		return nil, err
	}
	if err := z.readDirectory(); err != nil {
		return nil, err
	}
	z.findOverlaps()
	if err := z.readLinks(); err != nil {
		return nil, err
	}
	var b builder
	b.leftOut = z.leftOut
	for _, item := range z.items {
		if err := b.add(entry{Item: item}); err != nil {
			return nil, err
		}
	}
	return b.finish()
}

// zipReader is one reading of a zip's directory.
type zipReader struct {
	ctx     context.Context
	src     Ranged
	tail    []byte // the end of the file
	tailAt  int64
	dir     int64 // where the directory begins
	dirSize int64
	count   uint64 // of entries, modulo 65536 without zip64
	count64 bool
	base    int64 // what comes before the archive in the file
	items   []Item
	names   int // bytes
	leftOut int
}

// findDirectory finds out where the central directory is.
func (z *zipReader) findDirectory() error {
	size := min(z.src.Size, zipTail)
	z.tail, z.tailAt = make([]byte, size), z.src.Size-size
	if size < endLen {
		return damaged("this is no zip archive: it is too short")
	}
	if err := z.src.Read(z.ctx, z.tail, z.tailAt); err != nil {
		return err
	}
	end := z.findEnd()
	if end < 0 {
		return damaged("this is no zip archive, or its end is missing")
	}
	p := z.tail[end:]
	disk, entries := le.Uint16(p[4:]), le.Uint16(p[8:])
	dirSize, dirOffset := uint64(le.Uint32(p[12:])), uint64(le.Uint32(p[16:]))
	z.count = uint64(entries)
	dirEnd := z.tailAt + int64(end)
	if entries == math.MaxUint16 || dirSize == math.MaxUint32 || dirOffset == math.MaxUint32 {
		at, p64, err := z.findEnd64(end)
		if err != nil {
			return err
		}
		if p64 != nil {
			dirEnd, z.count64 = at, true
			z.count, dirSize, dirOffset = le.Uint64(p64[32:]), le.Uint64(p64[40:]), le.Uint64(p64[48:])
		}
	}
	if disk != 0 && disk != math.MaxUint16 {
		return &FormatError{remote.Unsupported, "the zip archive is in several parts"}
	}
	return z.place(dirEnd, dirSize, dirOffset)
}

// place takes the directory's place as the end of the archive tells it.
func (z *zipReader) place(dirEnd int64, dirSize, dirOffset uint64) error {
	if dirSize > uint64(dirEnd) || dirOffset > uint64(dirEnd)-dirSize {
		return damaged("the zip archive is cut off at its beginning, or damaged: its directory would be outside")
	}
	if dirSize > MaxItems*(entryLen+maxElement) {
		return tooMany()
	}
	z.dirSize, z.dir = int64(dirSize), dirEnd-int64(dirSize)
	z.base = z.dir - int64(dirOffset)
	return nil
}

// findEnd returns where the record of the end begins in the tail, -1 if there is none.
func (z *zipReader) findEnd() int {
	for i := len(z.tail) - endLen; i >= max(0, len(z.tail)-endLen-math.MaxUint16); i-- {
		if le.Uint32(z.tail[i:]) == sigEnd && i+endLen+int(le.Uint16(z.tail[i+20:])) <= len(z.tail) {
			return i
		}
	}
	return -1
}

// findEnd64 returns the zip64 record of the end and where it is, nil if there is none.
func (z *zipReader) findEnd64(end int) (int64, []byte, error) {
	at := z.tailAt + int64(end) - locator64Len
	if at < 0 {
		return 0, nil, nil
	}
	locator, err := z.bytes(at, locator64Len)
	if err != nil || le.Uint32(locator) != sigLocator64 {
		return 0, nil, err
	}
	// What it says is relative to the archive, before which there may be something else;
	// mostly the record is right before the locator.
	for _, at := range []int64{at - end64Len, int64(min(le.Uint64(locator[8:]), math.MaxInt64))} {
		if at < 0 || at > z.src.Size-end64Len {
			continue
		}
		p, err := z.bytes(at, end64Len)
		if err != nil {
			return 0, nil, err
		}
		if le.Uint32(p) == sigEnd64 {
			return at, p, nil
		}
	}
	return 0, nil, damaged("the zip archive's zip64 record is missing")
}

// bytes returns bytes of the file, of the tail if they are there.
func (z *zipReader) bytes(at int64, n int) ([]byte, error) {
	if at >= z.tailAt {
		return z.tail[at-z.tailAt:][:n], nil
	}
	p := make([]byte, n)
	return p, z.src.Read(z.ctx, p, at)
}

// readDirectory reads all entries of the directory.
func (z *zipReader) readDirectory() error {
	inTail := z.tail[min(max(z.dir-z.tailAt, 0), int64(len(z.tail))):]
	before := &section{ctx: z.ctx, src: z.src, pos: z.dir, end: min(z.dir+z.dirSize, z.tailAt)}
	r := io.LimitReader(io.MultiReader(before, bytes.NewReader(inTail)), z.dirSize)
	n, head := uint64(0), make([]byte, entryLen)
	for ; ; n++ {
		if _, err := io.ReadFull(r, head); err == io.EOF {
			break
		} else if err != nil {
			return cmp.Or(before.err, damaged("the zip archive's directory is damaged"))
		}
		if le.Uint32(head) != sigEntry {
			return damaged("the zip archive's directory is damaged at entry %d", n)
		}
		rest := make([]byte, int(le.Uint16(head[28:]))+int(le.Uint16(head[30:]))+int(le.Uint16(head[32:])))
		if _, err := io.ReadFull(r, rest); err != nil {
			return cmp.Or(before.err, damaged("the zip archive's directory is damaged at entry %d", n))
		}
		if err := z.entry(head, rest); err != nil {
			return err
		}
	}
	if z.count != n && (z.count64 || z.count != n&math.MaxUint16) {
		return damaged("the zip archive's directory has %d entries and not %d", n, z.count)
	}
	return nil
}

// section reads a part of an archive from its beginning to its end.
type section struct {
	ctx      context.Context
	src      Ranged
	pos, end int64
	buf      []byte
	err      error
}

// Read implements io.Reader.
func (s *section) Read(p []byte) (int, error) {
	if len(s.buf) == 0 {
		if s.pos >= s.end {
			return 0, io.EOF
		}
		s.buf = make([]byte, min(s.end-s.pos, mostWindow))
		if s.err = s.src.Read(s.ctx, s.buf, s.pos); s.err != nil {
			return 0, s.err
		}
		s.pos += int64(len(s.buf))
	}
	n := copy(p, s.buf)
	s.buf = s.buf[n:]
	return n, nil
}

// entry takes an entry of the directory in.
func (z *zipReader) entry(head, rest []byte) error {
	nameLen, extraLen := int(le.Uint16(head[28:])), int(le.Uint16(head[30:]))
	name, extra := rest[:nameLen], rest[nameLen:][:extraLen]
	item := Item{
		Path: string(name), CRC: le.Uint32(head[16:]),
		named: uint16(nameLen), nameSum: crc32.ChecksumIEEE(name),
	}
	e := zipEntry{size: uint64(le.Uint32(head[24:])), packed: uint64(le.Uint32(head[20:])), at: uint64(le.Uint32(head[42:]))}
	e.time = dosTime(le.Uint16(head[14:]), le.Uint16(head[12:]))
	whole := e.extras(extra)
	item.MTime = nanoseconds(e.time)
	if !z.setType(&item, head) {
		z.leftOut++
		return nil
	}
	method := le.Uint16(head[10:])
	item.Deflated = method == methodDeflate
	switch {
	case item.Type == remote.Dir:
	case !whole || !z.fits(&item, e):
		item.Size, item.Flaw = int64(min(e.size, math.MaxInt64)), Damaged
	case le.Uint16(head[8:])&flagEncrypted != 0:
		item.Flaw = Encrypted
	case method != methodStored && method != methodDeflate:
		item.Flaw = Method
	case method == methodStored && item.Size != item.Packed,
		item.Deflated && item.Size/maxRatio > item.Packed:
		item.Flaw = Damaged
	}
	if z.names += len(item.Path); len(z.items) >= MaxItems || z.names > MaxNames {
		return tooMany()
	}
	z.items = append(z.items, item)
	return nil
}

// fits takes the place of a member, and tells whether it can be in the archive.
func (z *zipReader) fits(item *Item, e zipEntry) bool {
	room := uint64(z.dir - z.base)
	if e.at > room || room-e.at < localLen+uint64(item.named) || e.packed > room-e.at-localLen-uint64(item.named) || e.size > math.MaxInt64 {
		return false
	}
	item.At, item.Packed, item.Size = z.base+int64(e.at), int64(e.packed), int64(e.size)
	return true
}

// Kinds of files in the modes of Unix.
const (
	unixType    = 0o170000
	unixDir     = 0o040000
	unixFile    = 0o100000
	unixSymlink = 0o120000
)

// setType sets type and mode; it returns false for what is no file, directory or link.
func (z *zipReader) setType(item *Item, head []byte) bool {
	item.Type = remote.File
	isDir := strings.HasSuffix(item.Path, "/")
	mode := le.Uint32(head[38:]) >> 16
	if host := head[5]; host != 3 && host != 19 || mode == 0 { // not from Unix or macOS
		if isDir {
			item.Type = remote.Dir
		}
		return true
	}
	item.Mode = mode & 0o7777
	switch kind := mode & unixType; {
	case isDir || kind == unixDir:
		item.Type = remote.Dir
	case kind == unixSymlink:
		item.Type = remote.Symlink
	case kind != 0 && kind != unixFile:
		return false
	}
	return true
}

// zipEntry is what the directory says of a member's place.
type zipEntry struct {
	size, packed, at uint64
	time             time.Time
}

// extras takes what is in the extra field; false if the zip64 part is missing or short.
func (e *zipEntry) extras(p []byte) bool {
	need := e.size == math.MaxUint32 || e.packed == math.MaxUint32 || e.at == math.MaxUint32
	for len(p) >= 4 {
		id, n := le.Uint16(p), int(le.Uint16(p[2:]))
		if p = p[4:]; n > len(p) {
			break
		}
		field := p[:n]
		p = p[n:]
		switch {
		case id == extraZip64 && need:
			need = !e.zip64(field)
		case id == extraTimes && n >= 5 && field[0]&1 != 0:
			e.time = time.Unix(int64(int32(le.Uint32(field[1:]))), 0)
		case id == extraNTFS && n >= 32 && le.Uint16(field[4:]) == 1 && le.Uint16(field[6:]) >= 24:
			const since1601 = 11644473600 // seconds to 1970
			ticks := le.Uint64(field[8:])
			e.time = time.Unix(int64(ticks/1e7)-since1601, int64(ticks%1e7)*100)
		}
	}
	return !need
}

// zip64 takes the numbers that did not fit into 32 bits.
func (e *zipEntry) zip64(p []byte) bool {
	for _, v := range []*uint64{&e.size, &e.packed, &e.at} {
		if *v != math.MaxUint32 {
			continue
		}
		if len(p) < 8 {
			return false
		}
		*v, p = le.Uint64(p), p[8:]
	}
	return true
}

// dosTime is a time of two seconds' resolution, in a zone that nobody has written down:
// UTC is taken.
func dosTime(date, clock uint16) time.Time {
	if date == 0 {
		return time.Time{}
	}
	return time.Date(1980+int(date>>9), time.Month(date>>5&0xf), int(date&0x1f),
		int(clock>>11), int(clock>>5&0x3f), int(clock&0x1f)*2, 0, time.UTC)
}

// findOverlaps marks members that share bytes of the archive: no program writes that, and
// what it unpacks to can be without bounds.
func (z *zipReader) findOverlaps() {
	var order []*Item
	for i := range z.items {
		if z.items[i].Type != remote.Dir && z.items[i].Flaw != Damaged {
			order = append(order, &z.items[i])
		}
	}
	slices.SortFunc(order, func(a, b *Item) int { return cmp.Compare(a.At, b.At) })
	var last *Item
	for _, item := range order {
		if last != nil && item.At < last.zipEnd() {
			item.Flaw, last.Flaw = Damaged, Damaged
		}
		if last == nil || item.zipEnd() > last.zipEnd() {
			last = item
		}
	}
}

// zipEnd returns the least offset at which a member can end.
func (i *Item) zipEnd() int64 { return i.At + localLen + int64(i.named) + i.Packed }

// readLinks reads the texts of the symbolic links.
func (z *zipReader) readLinks() error {
	var links []*Item
	for i := range z.items {
		if z.items[i].Type == remote.Symlink {
			links = append(links, &z.items[i])
		}
	}
	slices.SortFunc(links, func(a, b *Item) int { return cmp.Compare(a.At, b.At) })
	w := &walker{ctx: z.ctx, src: z.src, stride: stride{last: leastWindow}}
	for _, item := range links {
		if item.Flaw == Readable && item.Size <= maxTarget && item.Packed <= 2*maxTarget && w.requests < maxLinkRequests {
			target, err := readLink(w, item)
			if err != nil {
				return err
			}
			item.Target = target
		}
		item.Size, item.Packed, item.Flaw = 0, 0, Readable // without a text it is left out
	}
	return nil
}

// readLink returns the text of a symbolic link, "" if it is damaged.
func readLink(w *walker, item *Item) (string, error) {
	_, _ = w.Seek(item.At, io.SeekStart) // it is not before the beginning
	head := make([]byte, HeaderGuess(item))
	head = head[:min(int64(len(head)), w.src.Size-item.At)]
	if _, err := io.ReadFull(w, head); err != nil {
		return "", w.err
	}
	n, err := HeaderLength(item, head)
	if err != nil {
		return "", nil
	}
	_, _ = w.Seek(item.At+int64(n), io.SeekStart)
	packed := make([]byte, item.Packed)
	if _, err := io.ReadFull(w, packed); err != nil {
		return "", w.err
	}
	text := make([]byte, item.Size)
	if err := Unpack(item, packed, text); err != nil {
		return "", nil
	}
	return string(text), nil
}

// HeaderGuess returns how many bytes at Item.At of a zip's member hold its local header, as
// most programs write it. It may be more than is left of the archive.
func HeaderGuess(i *Item) int { return localLen + int(i.named) + 128 }

// errHeader tells that a zip's member is not what the directory says.
var errHeader = errors.New("the zip archive's directory and the header of the member do not agree")

// HeaderLength returns the length of the local header of a zip's member, which begins with
// p: at least HeaderGuess bytes, or all that is left. It may be longer than p.
func HeaderLength(i *Item, p []byte) (int, error) {
	if len(p) < localLen+int(i.named) || le.Uint32(p) != sigLocal || le.Uint16(p[26:]) != i.named {
		return 0, errHeader
	}
	method := le.Uint16(p[8:])
	if crc32.ChecksumIEEE(p[localLen:][:i.named]) != i.nameSum || (method == methodDeflate) != i.Deflated {
		return 0, errHeader
	}
	return localLen + int(i.named) + int(le.Uint16(p[28:])), nil
}
