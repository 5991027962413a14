package foreign

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/meshmount/meshmount/remote"
)

// codeVersion changes with the encoding, and with what readers make of archives.
const codeVersion = 1

// errCode tells that a text was not made by Encode, or by that of another version.
var errCode = errors.New("foreign: contents that are not understood")

// Encode returns the contents as bytes, for Decode.
func (c *Contents) Encode() []byte {
	p := binary.AppendUvarint(nil, codeVersion)
	p = binary.AppendUvarint(p, uint64(c.LeftOut))
	p = binary.AppendUvarint(p, uint64(len(c.items)))
	last := ""
	for i := range c.items {
		item := &c.items[i]
		same := shared(last, item.Path)
		last = item.Path
		p = binary.AppendUvarint(p, uint64(same))
		p = appendText(p, item.Path[same:])
		p = appendText(p, item.Target)
		for _, n := range []int64{item.Size, item.Packed, item.At, item.MTime} {
			p = binary.AppendVarint(p, n)
		}
		deflated := uint64(0)
		if item.Deflated {
			deflated = 1
		}
		for _, n := range []uint64{uint64(item.CRC), uint64(item.Mode), uint64(item.Type), deflated,
			uint64(item.Flaw), uint64(item.named), uint64(item.nameSum), uint64(item.end)} {
			p = binary.AppendUvarint(p, n)
		}
	}
	return p
}

// shared returns the length of the common beginning.
func shared(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func appendText(p []byte, s string) []byte {
	return append(binary.AppendUvarint(p, uint64(len(s))), s...)
}

// Decode returns what Encode has encoded. It is for bytes that were kept where nobody else
// can write, and that a checksum has proven whole.
func Decode(p []byte) (*Contents, error) {
	d := decoder{p: p}
	if d.number() != codeVersion {
		return nil, errCode
	}
	c := &Contents{LeftOut: int(d.number())}
	n := d.number()
	if d.failed || n > MaxItems {
		return nil, errCode
	}
	c.items = make([]Item, n)
	last := ""
	for i := range c.items {
		c.items[i] = d.item(last)
		last = c.items[i].Path
		if end := int(c.items[i].end); d.failed || end <= i || end > len(c.items) {
			return nil, errCode
		}
	}
	if len(d.p) > 0 {
		return nil, errCode
	}
	return c, nil
}

// decoder takes numbers and texts from p.
type decoder struct {
	p      []byte
	failed bool
}

func (d *decoder) item(last string) Item {
	same := d.number()
	if same > uint64(len(last)) {
		d.failed = true
		return Item{}
	}
	i := Item{Path: last[:same] + d.text(), Target: d.text()}
	for _, n := range []*int64{&i.Size, &i.Packed, &i.At, &i.MTime} {
		*n = d.signed()
	}
	i.CRC, i.Mode, i.Type = uint32(d.number()), uint32(d.number()), remote.Type(d.number())
	i.Deflated, i.Flaw = d.number() == 1, Flaw(min(d.number(), math.MaxUint8))
	i.named, i.nameSum, i.end = uint16(d.number()), uint32(d.number()), int32(min(d.number(), math.MaxInt32))
	if i.Flaw > Damaged || i.Path == "" {
		d.failed = true
	}
	return i
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.p)
	return took(d, v, n)
}

func (d *decoder) signed() int64 {
	v, n := binary.Varint(d.p)
	return took(d, v, n)
}

// took goes on by n bytes, of which v was made.
func took[T any](d *decoder, v T, n int) T {
	if n <= 0 {
		d.failed, d.p = true, nil
		var zero T
		return zero
	}
	d.p = d.p[n:]
	return v
}

func (d *decoder) text() string {
	n := d.number()
	if n > uint64(len(d.p)) {
		d.failed = true
		return ""
	}
	s := string(d.p[:n])
	d.p = d.p[n:]
	return s
}
