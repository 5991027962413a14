package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Types of messages.
const (
	typeConnect    = "RODS_CONNECT"
	typeVersion    = "RODS_VERSION"
	typeAPIReq     = "RODS_API_REQ"
	typeAPIReply   = "RODS_API_REPLY"
	typeDisconnect = "RODS_DISCONNECT"
	typeNeg        = "RODS_CS_NEG_T"
	typeHeartbeat  = "HEARTBEAT"
	typeSecret     = "SHARED_SECRET"
)

// maxHeader is the longest header that a server accepts (MAX_NAME_LEN).
const maxHeader = 1024 + 64

// Limits bound what a peer can make this end store. Zero fields get the default.
type Limits struct {
	Msg   int // bytes of a packed structure; 64 MiB
	Error int // bytes of an error part; 1 MiB
	Bytes int // bytes of a request's byte stream, at a server; 1 GiB
}

func (l Limits) withDefaults() Limits {
	if l.Msg <= 0 {
		l.Msg = 64 << 20
	}
	if l.Error <= 0 {
		l.Error = 1 << 20
	}
	if l.Bytes <= 0 {
		l.Bytes = 1 << 30
	}
	return l
}

// header is MsgHeader_PI.
type header struct {
	kind    string
	msgLen  int
	errLen  int
	bsLen   int
	intInfo int
}

func (*header) pi() string { return "MsgHeader_PI" }

func (h *header) fields(c *codec) {
	c.str("type", &h.kind)
	if c.decode && h.kind == typeHeartbeat {
		return // has no lengths
	}
	c.int("msgLen", &h.msgLen)
	c.int("errorLen", &h.errLen)
	c.int("bsLen", &h.bsLen)
	c.int("intInfo", &h.intInfo)
}

// check returns an error if a length is negative or more than the limits allow.
func (h *header) check(l Limits) error {
	switch {
	case h.msgLen < 0 || h.msgLen > l.Msg:
		return fmt.Errorf("%w: message of %d bytes", ErrFrame, h.msgLen)
	case h.errLen < 0 || h.errLen > l.Error:
		return fmt.Errorf("%w: error part of %d bytes", ErrFrame, h.errLen)
	case h.bsLen < 0 || h.bsLen > l.Bytes:
		return fmt.Errorf("%w: byte stream of %d bytes", ErrFrame, h.bsLen)
	}
	return nil
}

// appendFrame appends the length, the header and the packed message to dst. A nil
// message makes a frame without one.
func appendFrame(dst []byte, h header, m Message, lines bool) []byte {
	if m == nil {
		return appendRaw(dst, h, nil, lines)
	}
	body := appendMessage(nil, m, lines)
	return appendRaw(dst, h, body, lines)
}

// appendRaw is appendFrame for a message that is packed already.
func appendRaw(dst []byte, h header, msg []byte, lines bool) []byte {
	h.msgLen = len(msg)
	return append(appendHeader(dst, h, lines), msg...)
}

// appendHeader appends the length and the header alone.
func appendHeader(dst []byte, h header, lines bool) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = appendMessage(dst, &h, lines)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// readHeader reads a length and a header. An end before the first byte is io.EOF.
func readHeader(r io.Reader, l Limits) (header, error) {
	var h header
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return h, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n == 0 || n > maxHeader {
		return h, fmt.Errorf("%w: header of %d bytes", ErrFrame, n)
	}
	buf := make([]byte, n)
	if _, err := io.ReadFull(r, buf); err != nil {
		return h, unexpected(err)
	}
	if err := Unpack(buf, &h); err != nil {
		return h, fmt.Errorf("%w: header: %w", ErrFrame, err)
	}
	return h, h.check(l)
}

// firstRead is how much is reserved for a part before its bytes have come.
const firstRead = 64 << 10

// readPart reads n bytes. Memory grows with what has arrived, not with what was
// announced.
func readPart(r io.Reader, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	buf := make([]byte, min(n, firstRead))
	for done := 0; ; {
		got, err := io.ReadFull(r, buf[done:])
		done += got
		if err != nil {
			return nil, unexpected(err)
		}
		if done == n {
			return buf, nil
		}
		bigger := make([]byte, min(n, 2*len(buf)))
		copy(bigger, buf)
		buf = bigger
	}
}

// unexpected turns an end of file in the middle of something into an error.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
