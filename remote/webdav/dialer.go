package webdav

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// spareAge is how long a connection that was made ahead is kept for its first request.
// Servers wait longer: Apache gives the first request 20 s.
const spareAge = 10 * time.Second

// dialer makes the TCP connections of a backend. A transport makes one only when all
// that are there are busy, and the request that wanted it waits a round trip for it.
// More such requests are likely soon, so as many connections again as are in use are
// made ahead, up to the bound, and given out at once when they are wanted. A first
// connection alone has none made ahead. No server notices one that has sent nothing
// yet, but for its place in a table. The handshake of TLS is left to the transport.
type dialer struct {
	net net.Dialer
	max int // connections to one address, those made ahead included

	life context.Context // ends with close
	end  context.CancelFunc
	work sync.WaitGroup // connections being made ahead

	mu     sync.Mutex // guards what follows
	hosts  map[string]*dialHost
	first  *dialHost // where the first connection went: the server, or a proxy before it
	single bool      // HTTP/2: one connection does for all
	closed bool
}

// dialHost is what the dialer knows of one address.
type dialHost struct {
	network, addr string
	used          int // given out and not closed
	making        int // ahead
	spares        []spare
}

// spare is a connection that was made ahead.
type spare struct {
	*net.TCPConn
	expiry *time.Timer
}

// drop closes a spare that nobody will want.
func (s spare) drop() {
	s.expiry.Stop()
	_ = s.Close() // nothing was sent
}

func newDialer(timeout time.Duration, maxConns int) *dialer {
	d := &dialer{net: net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}, max: maxConns, hosts: map[string]*dialHost{}}
	d.life, d.end = context.WithCancel(context.Background())
	return d
}

// dial is the DialContext of a transport.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	h, conn := d.take(network, addr)
	if conn == nil {
		fresh, err := d.net.DialContext(ctx, network, addr)
		if err != nil {
			d.gone(h)
			return nil, err
		}
		conn = fresh.(*net.TCPConn) // transports want nothing else
	}
	return newGatherConn(conn, func() { d.gone(h) }), nil
}

// take counts a connection to addr as used and returns one that was made ahead, if
// there is one. It has more made.
func (d *dialer) take(network, addr string) (*dialHost, *net.TCPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.hosts[network+" "+addr]
	if h == nil {
		h = &dialHost{network: network, addr: addr}
		d.hosts[network+" "+addr] = h
	}
	if d.first == nil {
		d.first = h
	}
	if h.used++; h.used > 1 {
		defer d.ahead(h, h.used)
	}
	for len(h.spares) > 0 {
		last := len(h.spares) - 1
		s := h.spares[last]
		h.spares = h.spares[:last]
		if quiet(s.TCPConn) {
			s.expiry.Stop()
			return h, s.TCPConn
		}
		s.drop() // the other end has closed it
	}
	return h, nil
}

// warm has connections made until n requests at once find one each.
func (d *dialer) warm(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first != nil {
		d.ahead(d.first, n-d.first.used)
	}
}

// ahead has n spare connections to h made, as far as they are not there and the bound
// allows. mu is held.
func (d *dialer) ahead(h *dialHost, n int) {
	if d.closed || d.single {
		return
	}
	for n = min(n, d.max-h.used); h.making+len(h.spares) < n; h.making++ {
		d.work.Go(func() { d.makeSpare(h) })
	}
}

// makeSpare makes one connection ahead. An error is nobody's: who needs the connection
// will try again.
func (d *dialer) makeSpare(h *dialHost) {
	conn, err := d.net.DialContext(d.life, h.network, h.addr)
	d.mu.Lock()
	defer d.mu.Unlock()
	h.making--
	if err != nil {
		return
	}
	if d.closed || d.single {
		_ = conn.Close() // nothing was sent
		return
	}
	s := spare{TCPConn: conn.(*net.TCPConn)}
	s.expiry = time.AfterFunc(spareAge, func() { d.expire(h, s.TCPConn) })
	h.spares = append(h.spares, s)
}

// expire closes a spare connection that nobody wanted.
func (d *dialer) expire(h *dialHost, conn *net.TCPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.IndexFunc(h.spares, func(s spare) bool { return s.TCPConn == conn }); i >= 0 {
		h.spares[i].drop()
		h.spares = slices.Delete(h.spares, i, i+1)
	}
}

// gone counts a used connection as closed.
func (d *dialer) gone(h *dialHost) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.used--
}

// busy tells whether a connection is there.
func (d *dialer) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.first != nil && d.first.used > 0
}

// alone tells that the server speaks HTTP/2.
func (d *dialer) alone() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.single = true
	d.drop()
}

// drop closes all spare connections. mu is held.
func (d *dialer) drop() {
	for _, h := range d.hosts {
		for _, s := range h.spares {
			s.drop()
		}
		h.spares = nil
	}
}

// close ends what is made ahead and waits for it. Connections that were given out are
// the transport's to close.
func (d *dialer) close() {
	d.mu.Lock()
	d.closed = true
	d.drop()
	d.mu.Unlock()
	d.end()
	d.work.Wait()
}

// quiet tells whether a connection is open and nothing has come on it.
func quiet(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	waits := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, rerr := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		waits = rerr == syscall.EAGAIN
	})
	return err == nil && waits
}
