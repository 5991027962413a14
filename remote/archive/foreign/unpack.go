package foreign

import (
	"bytes"
	"compress/flate"
	"errors"
	"hash/crc32"
	"io"
)

var (
	errLength = errors.New("the member does not unpack to the size that the archive tells")
	errSum    = errors.New("the member's checksum is not the one that the archive tells")
)

// Unpack unpacks the whole content of a zip's member into p, which is Item.Size long, and
// checks it. It never unpacks more than that.
func Unpack(i *Item, packed, p []byte) error {
	u := NewUnpacker(i, bytes.NewReader(packed))
	_, err := io.ReadFull(u, p)
	if err == nil {
		err = u.Finish()
	}
	return err
}

// Unpacker reads the content of a zip's member from its beginning. It gives exactly
// Item.Size bytes or an error.
type Unpacker struct {
	item *Item
	r    io.Reader
	pos  int64
	sum  uint32
	done bool
}

// NewUnpacker returns one that reads the packed bytes from r.
func NewUnpacker(i *Item, r io.Reader) *Unpacker {
	if i.Deflated {
		r = flate.NewReader(r)
	}
	return &Unpacker{item: i, r: r}
}

// Pos returns the number of bytes that were read.
func (u *Unpacker) Pos() int64 { return u.pos }

// Read implements io.Reader. After the last byte the content is checked.
func (u *Unpacker) Read(p []byte) (int, error) {
	if u.pos == u.item.Size {
		if err := u.Finish(); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	n, err := u.r.Read(p[:min(int64(len(p)), u.item.Size-u.pos)])
	u.sum = crc32.Update(u.sum, crc32.IEEETable, p[:n])
	u.pos += int64(n)
	switch {
	case u.pos == u.item.Size:
		if err := u.Finish(); err != nil {
			return 0, err
		}
		return n, nil
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return n, errLength
	}
	return n, err
}

// Finish checks the content of which all was read: that there is no more, and that its
// checksum is right.
func (u *Unpacker) Finish() error {
	if u.done {
		return nil
	}
	var more [1]byte
	switch n, err := io.ReadFull(u.r, more[:]); {
	case n > 0:
		return errLength
	case err == io.ErrUnexpectedEOF && u.item.Deflated:
		return errLength
	case err != io.EOF && err != nil:
		return err
	case u.sum != u.item.CRC:
		return errSum
	}
	u.done = true
	return nil
}

// Check tells whether p is the content of a zip's member.
func Check(i *Item, p []byte) error {
	if int64(len(p)) != i.Size || crc32.ChecksumIEEE(p) != i.CRC {
		return errSum
	}
	return nil
}
