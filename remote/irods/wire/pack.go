package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Message is a structure that can be packed. All implementations are in this
// package.
type Message interface {
	// pi returns the name of the packing instruction, which is the outer tag.
	pi() string
	// fields hands each field to c in the order of the packing instruction. The
	// same list serves both directions.
	fields(c *codec)
}

// ErrPacking is the cause of every failure to unpack a message.
var ErrPacking = errors.New("bad packing")

// Append appends m, packed on one line as clients do it, to dst.
func Append(dst []byte, m Message) []byte { return appendMessage(dst, m, false) }

// AppendLines appends m, packed as the iRODS server does it with line feeds after
// the tags of structures and the ends of fields, to dst.
func AppendLines(dst []byte, m Message) []byte { return appendMessage(dst, m, true) }

func appendMessage(dst []byte, m Message, lines bool) []byte {
	c := codec{dst: dst, lines: lines}
	c.sub(m)
	return c.dst
}

// Unpack fills m from packed data. The error wraps ErrPacking. On error m holds
// whatever was decoded before.
func Unpack(data []byte, m Message) error {
	c := codec{src: string(data), decode: true}
	c.sub(m)
	return c.err
}

// unpackRequest is Unpack as a server does it with what clients send: a number, or a
// string that is a pointer in the packing instruction, may be missing and is then zero
// or empty, and so may what later versions have added. Clients in the field rely on it.
func unpackRequest(data []byte, m Message) error {
	c := codec{src: string(data), decode: true, lenient: true}
	c.sub(m)
	return c.err
}

// codec walks over the fields of a message, in one of two directions.
type codec struct {
	dst   []byte // packing: what was written
	lines bool

	decode  bool // unpacking
	lenient bool // numbers and pointers may be missing
	src     string
	pos     int
	err     error // the first
}

// fail notes the first error of unpacking.
func (c *codec) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s at byte %d", ErrPacking, fmt.Sprintf(format, args...), c.pos)
	}
}

// sub handles a structure, which stands under the name of its instruction.
func (c *codec) sub(m Message) {
	if !c.decode {
		c.start(m.pi())
		c.line()
		m.fields(c)
		c.end(m.pi())
		return
	}
	if c.err != nil {
		return
	}
	if !c.open(m.pi()) {
		c.fail("no %s", m.pi())
		return
	}
	m.fields(c)
	if c.err == nil {
		c.close(m.pi())
	}
}

// late handles a structure that later versions of a message have added.
func (c *codec) late(m Message) {
	if c.decode && c.lenient && !c.has(m.pi()) {
		return
	}
	c.sub(m)
}

// str handles a string.
func (c *codec) str(name string, v *string) {
	if !c.decode {
		c.start(name)
		c.dst = Escape(c.dst, *v)
		c.end(name)
		return
	}
	if text, ok := c.leaf(name); ok {
		*v = Unescape(text)
	}
}

// ptr handles a string that a client may leave out.
func (c *codec) ptr(name string, v *string) {
	if c.decode && c.lenient && !c.has(name) {
		return
	}
	c.str(name, v)
}

// int handles an integer of 32 bits.
func (c *codec) int(name string, v *int) {
	n := int64(*v)
	c.long(name, &n)
	if !c.decode {
		return
	}
	if n < math.MinInt32 || n > math.MaxInt32 {
		c.fail("%s is out of range", name)
		return
	}
	*v = int(n)
}

// long handles an integer of 64 bits, which packing instructions call "double".
func (c *codec) long(name string, v *int64) {
	if !c.decode {
		c.start(name)
		c.dst = strconv.AppendInt(c.dst, *v, 10)
		c.end(name)
		return
	}
	if c.lenient && !c.has(name) {
		return
	}
	text, ok := c.leaf(name)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		c.fail("%s is not a number", name)
		return
	}
	*v = n
}

// bin handles bytes, which are packed as base64.
func (c *codec) bin(name string, v *[]byte) {
	if !c.decode {
		c.start(name)
		c.dst = base64.StdEncoding.AppendEncode(c.dst, *v)
		c.end(name)
		return
	}
	text, ok := c.leaf(name)
	if !ok {
		return
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		c.fail("%s is not base64", name)
		return
	}
	*v = data
}

// strs handles a list of exactly n strings.
func (c *codec) strs(name string, v *[]string, n int) {
	if c.decode {
		*v = makeList[string](c, n)
	}
	for i := range *v {
		c.str(name, &(*v)[i])
	}
}

// minElement is the size of the smallest element, <a></a>.
const minElement = 7

// makeList returns a list of n elements; nil, with an error noted, if the rest of the
// message cannot hold so many.
func makeList[T any](c *codec, n int) []T {
	if c.err != nil || n <= 0 || n > (len(c.src)-c.pos)/minElement {
		if n != 0 {
			c.fail("a list of %d elements", n)
		}
		return nil
	}
	return make([]T, n)
}

func (c *codec) start(name string) {
	c.dst = append(c.dst, '<')
	c.dst = append(c.dst, name...)
	c.dst = append(c.dst, '>')
}

func (c *codec) end(name string) {
	c.dst = append(c.dst, '<', '/')
	c.dst = append(c.dst, name...)
	c.dst = append(c.dst, '>')
	c.line()
}

func (c *codec) line() {
	if c.lines {
		c.dst = append(c.dst, '\n')
	}
}

// leaf returns the raw text of the next field. A missing one is an error.
func (c *codec) leaf(name string) (string, bool) {
	if c.err != nil {
		return "", false
	}
	if !c.open(name) {
		c.fail("no %s", name)
		return "", false
	}
	if c.src[c.pos-2] == '/' { // <name/>
		return "", true
	}
	for at := c.pos; ; {
		i := strings.Index(c.src[at:], "</")
		if i < 0 {
			c.fail("%s does not end", name)
			return "", false
		}
		at += i + 2
		if rest := c.src[at:]; strings.HasPrefix(rest, name) && strings.HasPrefix(rest[len(name):], ">") {
			text := c.src[c.pos : at-2]
			c.pos = at + len(name) + 1
			return text, true
		}
	}
}

// open moves behind the start tag of name, over elements with other names. It stays
// where it was and returns false if the enclosing element ends before.
func (c *codec) open(name string) bool {
	was := c.pos
	for {
		tag, ok := c.tag()
		switch {
		case !ok || tag[0] == '/':
			c.pos = was
			return false
		case tag == name, len(tag) == len(name)+1 && tag[:len(name)] == name && tag[len(name)] == '/':
			return true
		case !c.skip(tag):
			c.pos = was
			return false
		}
	}
}

// has tells whether an element of that name comes before the enclosing one ends.
func (c *codec) has(name string) bool {
	was := c.pos
	defer func() { c.pos = was }()
	return c.err == nil && c.open(name)
}

// close moves behind the end tag of name, over elements that nobody asked for.
func (c *codec) close(name string) {
	for {
		tag, ok := c.tag()
		switch {
		case !ok:
			c.fail("%s does not end", name)
			return
		case tag[0] == '/' && tag[1:] == name:
			return
		case tag[0] == '/' || !c.skip(tag):
			c.fail("%s ends with <%s>", name, tag)
			return
		}
	}
}

// tag moves behind the next tag and returns what stands between its brackets.
func (c *codec) tag() (string, bool) {
	i := strings.IndexByte(c.src[c.pos:], '<')
	if i < 0 {
		return "", false
	}
	start := c.pos + i + 1
	n := strings.IndexByte(c.src[start:], '>')
	if n <= 0 {
		return "", false
	}
	c.pos = start + n + 1
	return c.src[start : start+n], true
}

// skip moves behind the end of the element whose start tag was just read.
func (c *codec) skip(tag string) bool {
	if childless(tag) {
		return true
	}
	for depth := 1; depth > 0; {
		next, ok := c.tag()
		switch {
		case !ok:
			return false
		case next[0] == '/':
			depth--
		case !childless(next):
			depth++
		}
	}
	return true
}

// childless tells whether tag is <name/>, <?...> or <!...>.
func childless(tag string) bool {
	return tag[0] == '?' || tag[0] == '!' || tag[len(tag)-1] == '/'
}
