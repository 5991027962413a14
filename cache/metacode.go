package cache

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// errListing is the error of the body of a record that cannot be read. Its sum was
// right, so that it was written so.
var errListing = errors.New("a stored listing is not in its form")

// Flags of an encoded entry.
const (
	flagProvisional = 1 << iota
	flagMode
	flagTime
	flagHexSum // the checksum is stored as bytes
)

// encoder appends to p.
type encoder struct{ p []byte }

func (e *encoder) number(n uint64) { e.p = binary.AppendUvarint(e.p, n) }
func (e *encoder) text(s string)   { e.number(uint64(len(s))); e.p = append(e.p, s...) }

// encodeListing is the body of a record.
func encodeListing(branch string, l Listing) []byte {
	e := encoder{p: make([]byte, 0, 64+len(branch)+len(l.Dir)+96*len(l.Entries))}
	e.text(branch)
	e.text(l.Dir)
	e.text(l.Self)
	e.number(uint64(len(l.Entries)))
	for i := range l.Entries {
		e.entry(&l.Entries[i])
	}
	return e.p
}

func (e *encoder) entry(x *remote.Entry) {
	_, name := remote.Split(x.Path)
	e.text(name)
	sum, err := hex.DecodeString(x.Checksum.Hex)
	binarySum := err == nil && hex.EncodeToString(sum) == x.Checksum.Hex
	flags := flag(flagProvisional, x.Provisional) | flag(flagMode, x.ModeKnown) | flag(flagTime, !x.MTime.IsZero()) | flag(flagHexSum, binarySum)
	e.p = append(e.p, byte(x.Type), flags)
	e.number(uint64(x.Size))
	if flags&flagTime != 0 {
		e.p = binary.AppendVarint(e.p, x.MTime.Unix())
		e.number(uint64(x.MTime.Nanosecond()))
	}
	if flags&flagMode != 0 {
		e.number(uint64(x.Mode))
	}
	e.number(uint64(x.Access))
	e.text(x.Version)
	e.text(x.ID)
	e.text(x.Target)
	e.text(x.Checksum.Algorithm)
	if binarySum {
		e.text(string(sum))
	} else {
		e.text(x.Checksum.Hex)
	}
}

func flag(f byte, on bool) byte {
	if on {
		return f
	}
	return 0
}

// decoder reads what encoder wrote. After an error all it returns is zero.
type decoder struct {
	p   string
	err error
}

func (d *decoder) fail() {
	d.p, d.err = "", errListing
}

func (d *decoder) number() uint64 {
	var n uint64
	for i := 0; i < len(d.p) && i < binary.MaxVarintLen64; i++ {
		n |= uint64(d.p[i]&0x7f) << (7 * i)
		if d.p[i] < 0x80 {
			d.p = d.p[i+1:]
			return n
		}
	}
	d.fail()
	return 0
}

func (d *decoder) signed() int64 {
	n := d.number()
	return int64(n>>1) ^ -int64(n&1)
}

// text returns a part of p: it stays in memory as long as that.
func (d *decoder) text() string {
	n := d.number()
	if n > uint64(len(d.p)) {
		d.fail()
		return ""
	}
	s := d.p[:n]
	d.p = d.p[n:]
	return s
}

func (d *decoder) byte() byte {
	if d.p == "" {
		d.fail()
		return 0
	}
	b := d.p[0]
	d.p = d.p[1:]
	return b
}

// decodeListing reads the body of a record and returns the branch that it names.
func decodeListing(body []byte) (branch string, l Listing, err error) {
	d := decoder{p: string(body)}
	branch, l.Dir, l.Self = d.text(), d.text(), d.text()
	n := d.number()
	if n > uint64(len(d.p)) {
		d.fail()
		n = 0
	}
	l.Entries = make([]remote.Entry, n)
	prefix := strings.TrimSuffix(l.Dir, "/") + "/"
	for i := range l.Entries {
		d.entry(prefix, &l.Entries[i])
	}
	if d.p != "" {
		d.fail()
	}
	return branch, l, d.err
}

func (d *decoder) entry(prefix string, x *remote.Entry) {
	name := d.text()
	if name == "" || strings.ContainsAny(name, "/\x00") {
		d.fail()
	}
	x.Path = prefix + name
	x.Type = remote.Type(d.byte())
	flags := d.byte()
	x.Provisional, x.ModeKnown = flags&flagProvisional != 0, flags&flagMode != 0
	x.Size = int64(d.number())
	if flags&flagTime != 0 {
		sec, nsec := d.signed(), d.number()
		if nsec >= uint64(time.Second) {
			d.fail()
		}
		x.MTime = time.Unix(sec, int64(nsec)).UTC()
	}
	if flags&flagMode != 0 {
		x.Mode = uint32(d.number())
	}
	access := d.number()
	if access > math.MaxUint16 {
		d.fail()
	}
	x.Access = remote.Access(access)
	x.Version, x.ID, x.Target = d.text(), d.text(), d.text()
	x.Checksum.Algorithm = d.text()
	x.Checksum.Hex = d.text()
	if flags&flagHexSum != 0 {
		x.Checksum.Hex = hex.EncodeToString([]byte(x.Checksum.Hex))
	}
}
