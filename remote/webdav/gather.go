package webdav

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Bounds of a gatherPace.
const (
	gatherMin  = readBuffer      // bytes; below it there is nothing to save
	gatherMax  = 512 << 10       // bytes
	gatherWait = 1 * time.Second // longest wait before what has come is taken anyway
	gatherFast = gatherWait / 8  // so soon, and twice as much may be waited for
)

// gatherPace decides how much of a large body to let come together in the kernel before
// it is read. From far away the bytes come in by 64 KiB or less, and each wake-up costs
// more than the copying: 1 GiB over eight connections took 1.25 s of CPU when every
// segment woke its reader, and 0.45 s with 512 KiB at a time. A slow connection is
// read in small pieces, so that it still tells of its progress. The zero value starts
// at gatherMin.
type gatherPace struct{ size int }

// next returns how many of want bytes to wait for.
func (b *gatherPace) next(want int) int { return min(want, max(b.size, gatherMin)) }

// took is told that n bytes were there after d.
func (b *gatherPace) took(n int, d time.Duration) {
	if n >= b.size && d < gatherFast {
		b.size = min(2*max(b.size, gatherMin), gatherMax)
	}
}

// late is told that what was waited for did not come in gatherWait.
func (b *gatherPace) late() { b.size = max(b.size/2, gatherMin) }

// gatherConn is a TCP connection that reads large bodies in large pieces: the kernel
// wakes the reader only when a piece is there (SO_RCVLOWAT). A Read into more than
// gatherMin bytes should be for bytes that are sure to come, as net/http makes it for
// bodies of known length past its own buffer of readBuffer bytes (TLS reads in smaller
// steps). If they do not, what has come is given out after gatherWait. There is one
// reader at a time, as for any connection, and nobody else may set its read deadline.
type gatherConn struct {
	*net.TCPConn
	raw  syscall.RawConn
	pace gatherPace
	low  int // SO_RCVLOWAT as it stands

	closing sync.Once
	onClose func()

	mu      sync.Mutex // guards what follows
	closed  bool
	watcher *func() // told of the end, or nil
}

// newGatherConn wraps conn. onClose is called when it is closed, once.
func newGatherConn(conn *net.TCPConn, onClose func()) *gatherConn {
	raw, err := conn.SyscallConn()
	if err != nil {
		raw = nil // closed already: it reads an error
	}
	return &gatherConn{TCPConn: conn, raw: raw, low: 1, onClose: onClose}
}

// Close implements io.Closer.
func (c *gatherConn) Close() error {
	c.closing.Do(c.onClose)
	c.mu.Lock()
	c.closed = true
	watcher := c.watcher
	c.mu.Unlock()
	if watcher != nil {
		(*watcher)()
	}
	return c.TCPConn.Close()
}

// watch has f called when the connection is closed, at once if it is. f must return soon.
// The returned function takes it back.
func (c *gatherConn) watch(f func()) (unwatch func()) {
	c.mu.Lock()
	closed := c.closed
	c.watcher = &f
	c.mu.Unlock()
	if closed {
		f()
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.watcher == &f {
			c.watcher = nil
		}
	}
}

// Read implements io.Reader.
func (c *gatherConn) Read(p []byte) (int, error) {
	if len(p) <= gatherMin {
		c.lowWater(1)
		return c.TCPConn.Read(p)
	}
	want := c.pace.next(len(p))
	if !c.lowWater(want) {
		return c.TCPConn.Read(p)
	}
	start := time.Now()
	if err := c.SetReadDeadline(start.Add(gatherWait)); err != nil {
		return 0, err
	}
	n, err := c.TCPConn.Read(p)
	if derr := c.SetReadDeadline(time.Time{}); err == nil {
		err = derr
	}
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		c.pace.late()
		c.lowWater(1)
		return c.TCPConn.Read(p)
	}
	c.pace.took(n, time.Since(start))
	return n, err
}

// sendPiece is the number of bytes of a large body that are read and sent at once. Copied
// by 32 KiB, as net/http does it, 1 GiB costs 0.4 to 0.6 s of CPU in place of 0.3 to 0.4.
const sendPiece = 128 << 10

// ReadFrom implements io.ReaderFrom: net/http hands the body of a request to it.
func (c *gatherConn) ReadFrom(r io.Reader) (int64, error) {
	if limited, ok := r.(*io.LimitedReader); ok && limited.N <= sendPiece/2 {
		return c.TCPConn.ReadFrom(r)
	}
	return copyPieces(c.TCPConn, r)
}

// copyPieces is io.Copy in pieces of sendPiece bytes.
func copyPieces(w io.Writer, r io.Reader) (total int64, err error) {
	buf := make([]byte, sendPiece)
	for {
		n, rerr := r.Read(buf)
		if n > 0 {
			sent, werr := w.Write(buf[:n])
			if total += int64(sent); werr != nil {
				return total, werr
			}
		}
		switch {
		case rerr == io.EOF:
			return total, nil
		case rerr != nil:
			return total, rerr
		}
	}
}

// lowWater sets SO_RCVLOWAT and tells whether it is set.
func (c *gatherConn) lowWater(n int) bool {
	if c.low == n || c.raw == nil {
		return c.low == n
	}
	var err error
	cerr := c.raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n)
	})
	if cerr != nil || err != nil {
		return false
	}
	c.low = n
	return true
}
