package webdav

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// zipStream reads a zip as it comes, where archive/zip needs all of it. It is for what
// servers stream: stored members, their sizes and CRC-32 in front of them or behind. Where
// they are behind, nothing but the caller's knowledge of a size tells where a member ends,
// so that whoever does not know it must stop there. Formats: APPNOTE.TXT of PKWARE, 4.3.
type zipStream struct {
	r *bufio.Reader
	h zipHead
}

// zipHead is the local header of a member.
type zipHead struct {
	name   string
	behind bool // sizes and CRC follow the content
	wide   bool // with sizes of 8 bytes
	size   int64
	crc    uint32
}

// Signatures of what a zip is made of.
const (
	zipLocal      = 0x04034b50
	zipDescriptor = 0x08074b50
	zipCentral    = 0x02014b50
	zipEnd64      = 0x06064b50
	zipEnd        = 0x06054b50
)

const maxZipName = 4 << 10 // bytes of a member's name

// Why a zip is read no further.
var (
	errZip      = errors.New("the zip is broken")
	errNotZip   = errors.New("something else stands in the zip")
	errPacked   = errors.New("a member of the zip is compressed or encrypted")
	errElsewise = errors.New("a member has another size") // or other content than its CRC
)

var le = binary.LittleEndian

// next goes to the next member, which must come after the content of the one before, and
// returns its name; io.EOF after the last one.
func (z *zipStream) next() (string, error) {
	var b [30]byte
	if _, err := io.ReadFull(z.r, b[:4]); err != nil {
		return "", cutShort(err)
	}
	switch le.Uint32(b[:]) {
	case zipLocal:
	case zipCentral, zipEnd64, zipEnd:
		return "", io.EOF
	default:
		return "", errNotZip
	}
	if _, err := io.ReadFull(z.r, b[4:]); err != nil {
		return "", cutShort(err)
	}
	flags, method := le.Uint16(b[6:]), le.Uint16(b[8:])
	name, extra := int(le.Uint16(b[26:])), int(le.Uint16(b[28:]))
	const known = 1<<3 | 1<<11 // what follows, UTF-8
	switch {
	case method != 0 || flags&^known != 0:
		return "", errPacked
	case name == 0 || name > maxZipName:
		return "", fmt.Errorf("%w: a name of %d bytes", errZip, name)
	}
	text := make([]byte, name+extra)
	if _, err := io.ReadFull(z.r, text); err != nil {
		return "", cutShort(err)
	}
	z.h = zipHead{name: string(text[:name]), behind: flags&(1<<3) != 0, crc: le.Uint32(b[14:]), size: int64(le.Uint32(b[22:]))}
	if err := z.widen(text[name:], le.Uint32(b[18:])); err != nil {
		return "", err
	}
	return z.h.name, nil
}

// widen takes the ZIP64 sizes out of the extra fields.
func (z *zipStream) widen(extra []byte, packed uint32) error {
	for len(extra) >= 4 {
		id, n := le.Uint16(extra), int(le.Uint16(extra[2:]))
		if extra = extra[4:]; n > len(extra) {
			return fmt.Errorf("%w: an extra field that is cut", errZip)
		}
		if id == 1 && n >= 16 {
			z.h.wide = true
			if z.h.size == 1<<32-1 {
				z.h.size = int64(le.Uint64(extra))
			}
		}
		extra = extra[n:]
	}
	if !z.h.behind && !z.h.wide && int64(packed) != z.h.size || z.h.size < 0 {
		return fmt.Errorf("%w: sizes of a stored member that differ", errZip)
	}
	return nil
}

// content writes the content of the member to w. If it is not of that size, the error is
// errElsewise, and the stream is of no more use.
func (z *zipStream) content(size int64, w io.Writer) error {
	if !z.h.behind && z.h.size != size {
		return errElsewise
	}
	sum := crc32.NewIEEE()
	if _, err := io.CopyN(io.MultiWriter(w, sum), z.r, size); err != nil {
		return cutShort(err)
	}
	if z.h.behind {
		if err := z.descriptor(size); err != nil {
			return err
		}
	}
	if sum.Sum32() != z.h.crc {
		return errElsewise
	}
	return nil
}

// descriptor reads what follows a member.
func (z *zipStream) descriptor(size int64) error {
	b := make([]byte, 16)
	if z.h.wide {
		b = make([]byte, 24)
	}
	if _, err := io.ReadFull(z.r, b); err != nil {
		return cutShort(err)
	}
	packed, whole := uint64(le.Uint32(b[8:])), uint64(le.Uint32(b[12:]))
	if z.h.wide {
		packed, whole = le.Uint64(b[8:]), le.Uint64(b[16:])
	}
	if le.Uint32(b) != zipDescriptor || packed != uint64(size) || whole != uint64(size) {
		return errElsewise
	}
	z.h.crc = le.Uint32(b[4:])
	return nil
}

// cutShort makes no end of an end in the middle.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
