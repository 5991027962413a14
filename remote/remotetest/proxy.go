package remotetest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy is a TCP proxy on 127.0.0.1 that fails on demand. Its settings can change
// at any time and hold for connections that are open already. It is safe for
// concurrent use.
type Proxy struct {
	addr, target string
	conns        sync.WaitGroup // accept loop and connections

	conned   atomic.Int64 // connections accepted
	up, down atomic.Int64 // bytes forwarded
	latency  atomic.Int64 // ns for each piece forwarded

	mu       sync.Mutex // guards the fields below
	listener net.Listener
	open     map[net.Conn]struct{} // both ends of each connection
	cutUp    int64                 // bytes left until the cut, negative for none
	cutDown  int64
	stalled  chan struct{} // closed when the stall is over, nil if there is none
	closed   bool
	done     chan struct{} // closed by Close
}

// ProxyStats are counts since the start.
type ProxyStats struct {
	Conns    int64 // connections accepted
	Up, Down int64 // bytes forwarded from and to the client
	Open     int   // connections open now
}

// NewProxy listens on a free port of 127.0.0.1 and forwards to target ("host:port").
// It is closed at the end of the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("proxy: %v", err)
	}
	p := &Proxy{
		addr: l.Addr().String(), target: target, listener: l,
		open: map[net.Conn]struct{}{}, done: make(chan struct{}), cutUp: -1, cutDown: -1,
	}
	p.conns.Go(func() { p.accept(l) })
	t.Cleanup(p.Close)
	return p
}

// Addr returns "127.0.0.1:port".
func (p *Proxy) Addr() string { return p.addr }

// Stats returns the counts so far.
func (p *Proxy) Stats() ProxyStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ProxyStats{p.conned.Load(), p.up.Load(), p.down.Load(), len(p.open) / 2}
}

// CutUp cuts the connection that carries the n-th byte from now on, counted over
// all connections from client to server: n bytes still reach the server, which then
// sees the stream end, and the client is reset. Later connections live. A negative
// n takes the cut back.
func (p *Proxy) CutUp(n int64) { p.setCut(&p.cutUp, n) }

// CutDown is CutUp for the direction from server to client.
func (p *Proxy) CutDown(n int64) { p.setCut(&p.cutDown, n) }

func (p *Proxy) setCut(cut *int64, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*cut = n
}

// SetLatency delays each piece of data in both directions.
func (p *Proxy) SetLatency(d time.Duration) { p.latency.Store(int64(d)) }

// Stall holds all data back, in both directions, until Resume. Connections are
// still accepted: this is a server that has stopped to answer.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled == nil {
		p.stalled = make(chan struct{})
	}
}

// Resume ends a Stall.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// Refuse stops to listen, so that new connections are refused, and resets the open
// ones. Accept ends it, on the same port.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close() // ends the accept loop; nothing can be done about more
		p.listener = nil
	}
	p.resetAll()
}

// Accept listens again after Refuse.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil || p.closed {
		return nil
	}
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.listener = l
	p.conns.Go(func() { p.accept(l) })
	return nil
}

// Reset resets all open connections.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetAll()
}

// Close resets all connections and waits for the proxy's goroutines.
func (p *Proxy) Close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.done)
	}
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.resetAll()
	p.mu.Unlock()
	p.conns.Wait()
}

// resetAll needs mu.
func (p *Proxy) resetAll() {
	for c := range p.open {
		reset(c)
	}
}

// reset closes c so that the other end gets a reset, not an orderly end.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a connection that is gone
	}
	_ = c.Close()
}

func (p *Proxy) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		p.conned.Add(1)
		p.conns.Go(func() { p.serve(c) })
	}
}

// serve carries one connection until either side ends it.
func (p *Proxy) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", p.target, 10*time.Second)
	if err != nil {
		reset(client)
		return
	}
	if !p.add(client, server) {
		reset(client)
		reset(server)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.forward(server, client, &p.up, &p.cutUp) })
	both.Go(func() { p.forward(client, server, &p.down, &p.cutDown) })
	both.Wait()
	p.drop(client, server)
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.listener == nil {
		return false
	}
	for _, c := range conns {
		p.open[c] = struct{}{}
	}
	return true
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.open, c)
		_ = c.Close()
	}
}

// forward copies from src to dst until one of them ends, the cut comes, or the
// proxy closes. An orderly end is passed on as one.
func (p *Proxy) forward(dst, src net.Conn, count *atomic.Int64, cut *int64) {
	buf := make([]byte, 32<<10)
	for {
		n, rerr := src.Read(buf)
		if n > 0 && !p.wait() {
			return
		}
		keep, over := p.untilCut(cut, n)
		if _, err := dst.Write(buf[:keep]); err != nil {
			_, _ = io.Copy(io.Discard, src) // the other direction tells src of the end
			return
		}
		count.Add(int64(keep))
		switch {
		case over:
			reset(src)
			_ = dst.(*net.TCPConn).CloseWrite() // orderly, so that what was written arrives
			return
		case rerr == io.EOF:
			_ = dst.(*net.TCPConn).CloseWrite() // fails only if dst is gone
			return
		case rerr != nil:
			reset(dst)
			return
		}
	}
}

// untilCut tells how many of n bytes pass and whether the connection is cut then.
func (p *Proxy) untilCut(cut *int64, n int) (keep int, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case *cut < 0 || n == 0:
		return n, false
	case int64(n) < *cut:
		*cut -= int64(n)
		return n, false
	}
	keep = int(*cut)
	*cut = -1
	return keep, true
}

// wait holds a piece back for the latency and for a stall. It is false if the
// proxy closes meanwhile.
func (p *Proxy) wait() bool {
	if d := time.Duration(p.latency.Load()); d > 0 {
		select {
		case <-time.After(d):
		case <-p.done:
			return false
		}
	}
	p.mu.Lock()
	stalled := p.stalled
	p.mu.Unlock()
	if stalled == nil {
		return true
	}
	select {
	case <-stalled:
		return true
	case <-p.done:
		return false
	}
}
