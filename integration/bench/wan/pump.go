package wan

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// chunkSize is the most that is sent in turn.
const chunkSize = 64 << 10

// lineSize is how many chunks of a connection may be on their way.
const lineSize = 4096

// chunk is data on its way.
type chunk struct {
	buf []byte // full capacity is chunkSize
	at  time.Time
	err error // how the stream ended; then there is no data
}

// receipt says that n bytes no longer count against the window from a time on.
type receipt struct {
	n  int
	at time.Time
}

// pump carries one direction of one connection. The goroutine that sends owns the
// window; the one that delivers tells it what has arrived.
type pump struct {
	conf     Config
	link     *link
	from, to *net.TCPConn
	begin    time.Time // nothing is sent before
	tap      counter

	line     chan chunk
	receipts chan receipt
	stopped  chan struct{} // closed when nothing can be delivered any more
	flying   int           // bytes that count against the window
	due      []receipt     // of those, in order
	buffers  sync.Pool
}

// run returns when the direction has ended.
func (p *pump) run() {
	p.line = make(chan chunk, lineSize)
	// All that can be under way fits, so that a delivery never waits for the sender.
	p.receipts = make(chan receipt, lineSize+2)
	p.stopped = make(chan struct{})
	p.buffers.New = func() any { b := make([]byte, chunkSize); return &b }
	var sender sync.WaitGroup
	sender.Go(p.send)
	p.deliver()
	close(p.stopped)
	_ = p.from.CloseRead() // ends a read that the sender waits in
	sender.Wait()
}

// send takes data from the sender, as far as window and link allow.
func (p *pump) send() {
	defer close(p.line)
	sleepUntil(p.begin)
	for {
		room := p.room()
		buf := *p.buffers.Get().(*[]byte)
		n, err := p.from.Read(buf[:room])
		if n > 0 {
			p.flying += n
			p.tap.count(buf[:n])
			left := p.link.reserve(n, p.conf.Rate)
			if !p.put(chunk{buf: buf[:n], at: left.Add(p.conf.RTT / 2)}) {
				return
			}
			if time.Until(left) > queue {
				sleepUntil(left.Add(-queue))
			}
		}
		if err != nil {
			p.put(chunk{err: err, at: time.Now().Add(p.conf.RTT / 2)})
			return
		}
	}
}

// room waits until the window is open and returns how much may be taken.
func (p *pump) room() int {
	if p.conf.Window <= 0 {
		return chunkSize
	}
	p.collect()
	for p.flying >= p.conf.Window {
		if len(p.due) == 0 {
			select {
			case r := <-p.receipts:
				p.due = append(p.due, r)
			case <-p.stopped:
				return 1 // the next put says so
			}
		}
		sleepUntil(p.due[0].at)
		p.collect()
	}
	return min(chunkSize, p.conf.Window-p.flying)
}

// collect takes all receipts that are there and gives back what is due.
func (p *pump) collect() {
	for more := true; more; {
		select {
		case r := <-p.receipts:
			p.due = append(p.due, r)
		default:
			more = false
		}
	}
	now := time.Now()
	n := 0
	for n < len(p.due) && !p.due[n].at.After(now) {
		p.flying -= p.due[n].n
		n++
	}
	p.due = append(p.due[:0], p.due[n:]...)
}

// put sends a chunk on its way; false says that nobody takes it any more.
func (p *pump) put(c chunk) bool {
	for {
		select {
		case p.line <- c:
			return true
		case r := <-p.receipts: // the line is full: keep receipts flowing
			p.due = append(p.due, r)
		case <-p.stopped:
			return false
		}
	}
}

// deliver hands over what arrives, until the stream ends.
func (p *pump) deliver() {
	for c := range p.line {
		sleepUntil(c.at)
		if c.err != nil {
			p.end(c.err)
			return
		}
		if _, err := p.to.Write(c.buf); err != nil {
			_ = p.from.SetLinger(0)
			_ = p.from.Close()
			return
		}
		if p.conf.Window > 0 {
			p.receipts <- receipt{len(c.buf), time.Now().Add(p.conf.RTT / 2)}
		}
		full := c.buf[:chunkSize]
		p.buffers.Put(&full)
	}
}

// end passes on how the stream has ended: in order, or by a reset.
func (p *pump) end(err error) {
	if errors.Is(err, io.EOF) {
		_ = p.to.CloseWrite() // fails if the other end has gone
		return
	}
	_ = p.to.SetLinger(0)
	_ = p.to.Close()
}

// fine is what is left to a sleep with a fine grain: the runtime's timers are up to a
// millisecond late.
const fine = 2 * time.Millisecond

// sleepUntil waits for a time, to some 50 microseconds.
func sleepUntil(t time.Time) {
	d := time.Until(t)
	if d > fine+time.Millisecond {
		time.Sleep(d - fine)
		d = time.Until(t)
	}
	if d > 20*time.Microsecond {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // a signal makes it shorter
	}
}

// counter looks for a mark in a stream.
type counter struct {
	mark []byte
	hits *atomic.Int64
	tail []byte // end of what was seen, shorter than the mark
}

// count notes how often the mark ends in this piece.
func (c *counter) count(piece []byte) {
	if len(c.mark) == 0 {
		return
	}
	head := append(c.tail, piece[:min(len(piece), len(c.mark)-1)]...)
	n := bytes.Count(head, c.mark) + bytes.Count(piece, c.mark)
	if n > 0 {
		c.hits.Add(int64(n))
	}
	if len(piece) >= len(c.mark)-1 {
		head = piece
	}
	keep := min(len(head), len(c.mark)-1)
	c.tail = append(c.tail[:0], head[len(head)-keep:]...)
}
