package wan

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config is the shape of a path. A zero value means: no delay, no limit.
type Config struct {
	// RTT is the round-trip time.
	RTT time.Duration
	// Rate is what the link carries each way, in bytes per second.
	Rate float64
	// Window is how many bytes of one connection may be on their way each way.
	Window int
}

// queue is how long a chunk may wait for the link before its sender is held back.
const queue = 20 * time.Millisecond

// Path is a wide-area path to servers of this machine; all that go over it share its
// rate. Its methods may be called concurrently. Close it.
type Path struct {
	conf     Config
	up, down link
	conns    atomic.Int64
	requests atomic.Int64

	mu     sync.Mutex // guards all below
	closed bool
	open   map[*net.TCPConn]struct{}
	lns    []net.Listener
	done   sync.WaitGroup
}

// New returns a path that leads nowhere yet.
func New(conf Config) *Path {
	return &Path{conf: conf, open: map[*net.TCPConn]struct{}{}}
}

// Counts is what has crossed a path since it was made.
type Counts struct {
	Conns    int64 // connections made
	Requests int64 // marks seen on their way up
	Up, Down int64 // bytes
}

// Sub returns what was added to an older count.
func (c Counts) Sub(old Counts) Counts {
	return Counts{c.Conns - old.Conns, c.Requests - old.Requests, c.Up - old.Up, c.Down - old.Down}
}

// Counts returns what has crossed so far. A byte counts when it enters the path.
func (p *Path) Counts() Counts {
	return Counts{p.conns.Load(), p.requests.Load(), p.up.bytes.Load(), p.down.bytes.Load()}
}

// Listen opens an address on this machine that leads to target, host:port, and returns
// it. A request is counted each time mark appears in what clients send; an empty mark
// counts none.
func (p *Path) Listen(target, mark string) (addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("wan: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", errors.Join(errors.New("wan: the path is closed"), ln.Close())
	}
	p.lns = append(p.lns, ln)
	p.done.Go(func() { p.accept(ln, target, mark) })
	return ln.Addr().String(), nil
}

// Close ends all connections and listeners and waits for what served them.
func (p *Path) Close() error {
	p.mu.Lock()
	p.closed = true
	var errs []error
	for _, ln := range p.lns {
		errs = append(errs, ln.Close())
	}
	p.lns = nil
	for c := range p.open {
		_ = c.SetLinger(0) // the ends get a reset, and the pumps an error
		_ = c.Close()
	}
	p.mu.Unlock()
	p.done.Wait()
	return errors.Join(errs...)
}

func (p *Path) accept(ln net.Listener, target, mark string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // closed
		}
		p.done.Go(func() { p.carry(c.(*net.TCPConn), target, mark) })
	}
}

// keep notes a connection for Close; false says that the path is closed already.
func (p *Path) keep(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.open[c] = struct{}{}
	}
	return !p.closed
}

func (p *Path) drop(c *net.TCPConn) {
	p.mu.Lock()
	delete(p.open, c)
	p.mu.Unlock()
	_ = c.Close() // often closed before
}

// readBuffer bounds what the kernel takes from a sender ahead of the proxy: to the
// sender it looks as if it had been sent.
const readBuffer = 256 << 10

// carry serves one connection until both directions have ended.
func (p *Path) carry(client *net.TCPConn, target, mark string) {
	begin := time.Now().Add(p.conf.RTT)
	defer p.drop(client)
	if !p.keep(client) {
		return
	}
	p.conns.Add(1)
	s, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.SetLinger(0) // the client gets a reset, as from a host without a server
		return
	}
	server := s.(*net.TCPConn)
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	_ = client.SetReadBuffer(readBuffer)
	_ = server.SetReadBuffer(readBuffer)
	up := &pump{conf: p.conf, link: &p.up, from: client, to: server, begin: begin,
		tap: counter{mark: []byte(mark), hits: &p.requests}}
	down := &pump{conf: p.conf, link: &p.down, from: server, to: client}
	var both sync.WaitGroup
	both.Go(up.run)
	both.Go(down.run)
	both.Wait()
}

// link is one direction of the shared path.
type link struct {
	bytes atomic.Int64

	mu   sync.Mutex
	free time.Time // when all that was reserved has left
}

// reserve queues n bytes and returns when the last of them has left.
func (l *link) reserve(n int, rate float64) time.Time {
	l.bytes.Add(int64(n))
	now := time.Now()
	if rate <= 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / rate * 1e9))
	return l.free
}
