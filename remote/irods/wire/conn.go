package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Conn is an authenticated connection of a client, made by Dial. See the package
// documentation for concurrency.
type Conn struct {
	cfg    Config
	limits Limits
	raw    net.Conn // the network; closing it wakes up whoever waits
	nc     net.Conn // raw or TLS on it
	r      *bufio.Reader
	head   []byte // scratch for headers and messages
	tick   func() // progress of the call under way
	server Version
	tls    *tls.ConnectionState

	busy   atomic.Bool
	broken atomic.Bool
	closed atomic.Bool
}

// Server returns the server's version as it was told at start-up.
func (c *Conn) Server() Version { return c.server }

// TLS returns the state of the TLS connection, nil without TLS.
func (c *Conn) TLS() *tls.ConnectionState { return c.tls }

// Broken tells whether the connection is of no more use: the network failed, a call
// was cancelled on the way, the server talked garbage or Close was called. A pool
// drops such a connection; it is never repaired.
func (c *Conn) Broken() bool { return c.broken.Load() }

// Call is one call of an API.
type Call struct {
	API int
	In  Message // nil: none
	// Out is filled if the reply has a message, also if the status is negative. Nil:
	// the message is dropped.
	Out Message
	// Data or, if that is nil, SourceLen bytes of Source go out as byte stream.
	// Neither is copied as a whole. What Source returns together with an error other
	// than io.EOF does not go out, so that a request with bytes that Source doubts
	// never gets whole.
	Data      []byte
	Source    io.Reader
	SourceLen int
	// Into receives the byte stream of the reply. One that is longer breaks the
	// connection.
	Into []byte
	// OnProgress, if not nil, sees the messages in the middle of a call on a
	// collection. It runs in the calling goroutine.
	OnProgress func(CollOprStat)
}

// Reply is the answer to a Call.
type Reply struct {
	Status int // not negative; its meaning depends on the call
	N      int // bytes received in Into
	HasOut bool
	Errors RError // remarks of the server
}

// Call sends a request and waits for the reply. A negative status is an *Error, and
// the connection stays usable. Everything else that goes wrong is a *BrokenError
// (whose cause is the context's error if that has ended), after which the connection
// is not, or ErrBusy. After Close it is a *BrokenError because of ErrClosed.
//
// If ctx ends just when the reply is complete, the call succeeds but the connection is
// broken nevertheless.
func (c *Conn) Call(ctx context.Context, call *Call) (Reply, error) {
	if !c.busy.CompareAndSwap(false, true) {
		if c.closed.Load() { // Close stays busy
			return Reply{}, &BrokenError{API: call.API, Err: ErrClosed}
		}
		return Reply{}, ErrBusy
	}
	defer c.busy.Store(false)
	return c.call(ctx, call)
}

func (c *Conn) call(ctx context.Context, call *Call) (Reply, error) {
	if c.broken.Load() {
		return Reply{}, &BrokenError{API: call.API, Err: ErrClosed}
	}
	var reply Reply
	sent := false
	err := c.guard(ctx, func() error {
		err := c.send(call)
		if err != nil {
			// A source may read from another zone: its *Error is no refusal of this server.
			return fmt.Errorf("sending: %w", err)
		}
		sent = true
		reply, err = c.receive(call)
		return err
	})
	if _, refused := err.(*Error); err == nil || refused {
		return reply, err
	}
	return reply, &BrokenError{API: call.API, Sent: sent, Err: err}
}

// guard runs do, which talks to the server, and ends it when ctx ends. Any error that
// is not an *Error breaks the connection.
func (c *Conn) guard(ctx context.Context, do func() error) error {
	if err := ctx.Err(); err != nil {
		c.abort()
		return err
	}
	c.tick = func() {
		if c.cfg.Progress != nil {
			c.cfg.Progress(ctx)
		}
	}
	stop := context.AfterFunc(ctx, c.abort)
	err := do()
	if !stop() {
		c.broken.Store(true)
	}
	if _, refused := err.(*Error); err == nil || refused {
		return err
	}
	c.abort()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.closed.Load():
		return ErrClosed
	}
	return err
}

// abort breaks the connection and wakes up whoever waits for it.
func (c *Conn) abort() {
	c.broken.Store(true)
	_ = c.raw.Close()
}

// Close says good-bye if nothing else is under way, and closes. It may be called at
// any time and more than once; a call under way fails with ErrClosed.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	if c.busy.CompareAndSwap(false, true) && !c.broken.Load() {
		_ = c.raw.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.nc.Write(appendFrame(nil, header{kind: typeDisconnect}, nil, false))
		_ = c.nc.Close()
	}
	c.abort()
	return nil
}

// piece is how much is written at once, so that progress is seen.
const piece = 256 << 10

// small is the size up to which bytes are copied behind the header.
const small = 16 << 10

func (c *Conn) send(call *Call) error {
	h := header{kind: typeAPIReq, intInfo: call.API, bsLen: len(call.Data)}
	if call.Data == nil && call.Source != nil {
		h.bsLen = call.SourceLen
	}
	c.head = appendFrame(c.head[:0], h, call.In, false)
	if call.Data == nil && call.Source != nil {
		return c.sendSource(call)
	}
	if len(call.Data) <= small {
		c.head = append(c.head, call.Data...)
		return c.write(c.head)
	}
	if err := c.write(c.head); err != nil {
		return err
	}
	return c.write(call.Data)
}

func (c *Conn) sendSource(call *Call) error {
	if err := c.write(c.head); err != nil {
		return err
	}
	buffer := make([]byte, min(piece, call.SourceLen))
	for left := call.SourceLen; left > 0; {
		n, err := call.Source.Read(buffer[:min(left, len(buffer))])
		left -= n
		if err == io.EOF && left > 0 {
			return fmt.Errorf("source ended after %d of %d bytes: %w", call.SourceLen-left, call.SourceLen, io.ErrUnexpectedEOF)
		}
		if err != nil && err != io.EOF {
			return err
		}
		if err := c.write(buffer[:n]); err != nil {
			return err
		}
	}
	return nil
}

// write writes all of p. After an error the network has not taken the last byte.
func (c *Conn) write(p []byte) error {
	for len(p) > 0 {
		n, err := c.nc.Write(p[:min(len(p), piece)])
		if err != nil {
			return err
		}
		p = p[n:]
		c.tick()
	}
	return nil
}

// network is a connection whose Write never fails when it has taken all bytes: what
// made it fail shows when the reply is read. TLS on it would hide how many it took.
type network struct{ net.Conn }

func (w network) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	if n == len(p) {
		return n, nil
	}
	return n, err
}

// readBuffer is the size of the buffer for headers and messages.
const readBuffer = 32 << 10

// progressReader reads from the connection and reports progress.
type progressReader struct{ c *Conn }

func (r progressReader) Read(p []byte) (int, error) {
	n, err := r.c.nc.Read(p)
	if n > 0 {
		r.c.tick()
	}
	return n, err
}

// receive reads replies until the one that ends the call.
func (c *Conn) receive(call *Call) (Reply, error) {
	for {
		reply, msg, err := c.readReply(call)
		if err != nil {
			return reply, err
		}
		switch reply.Status {
		case statusCollStat:
			if err := c.answerProgress(call, msg); err != nil {
				return reply, err
			}
			continue
		case statusMsiRequest:
			return reply, fmt.Errorf("%w: the server's rules ask for a transfer", ErrFrame)
		}
		if len(msg) > 0 && call.Out != nil {
			if err := Unpack(msg, call.Out); err != nil {
				return reply, err
			}
			reply.HasOut = true
		}
		if reply.Status < 0 {
			return reply, &Error{Code: reply.Status, API: call.API, Text: reply.Errors.text()}
		}
		return reply, nil
	}
}

// readReply reads one reply with all its parts.
func (c *Conn) readReply(call *Call) (Reply, []byte, error) {
	h, err := c.readHeader(typeAPIReply)
	reply := Reply{Status: h.intInfo}
	if err != nil {
		return reply, nil, err
	}
	if h.bsLen > len(call.Into) {
		return reply, nil, fmt.Errorf("%w: %d bytes for a buffer of %d", ErrFrame, h.bsLen, len(call.Into))
	}
	msg, err := readPart(c.r, h.msgLen)
	if err != nil {
		return reply, nil, err
	}
	part, err := readPart(c.r, h.errLen)
	if err != nil {
		return reply, nil, err
	}
	if len(part) > 0 {
		if err := Unpack(part, &reply.Errors); err != nil {
			return reply, nil, err
		}
	}
	reply.N, err = io.ReadFull(c.r, call.Into[:h.bsLen])
	return reply, msg, unexpected(err)
}

// readHeader reads a header that must be of the given type.
func (c *Conn) readHeader(want string) (header, error) {
	h, err := readHeader(c.r, c.limits)
	if err != nil {
		return h, unexpected(err)
	}
	if h.kind != want {
		return h, fmt.Errorf("%w: %.40q instead of %s", ErrFrame, h.kind, want)
	}
	return h, nil
}

// answerProgress tells the server to go on. Without the answer it stops.
func (c *Conn) answerProgress(call *Call, msg []byte) error {
	var stat CollOprStat
	if err := Unpack(msg, &stat); err != nil {
		return err
	}
	if call.OnProgress != nil {
		call.OnProgress(stat)
	}
	return c.write(binary.BigEndian.AppendUint32(nil, statusCollStatReply))
}

// text joins the remarks of a server.
func (m RError) text() string {
	var text string
	for _, e := range m {
		if text != "" {
			text += "; "
		}
		text += e.Text
	}
	return text
}
