package webdav

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// hall is a server that accepts connections and says nothing.
type hall struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	wg    sync.WaitGroup
}

func newHall(t *testing.T) *hall {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{Listener: l}
	h.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			h.mu.Lock()
			h.conns = append(h.conns, conn)
			h.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		l.Close()
		h.wg.Wait()
		h.hangUp()
	})
	return h
}

func (h *hall) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}

// hangUp closes all connections.
func (h *hall) hangUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, conn := range h.conns {
		conn.Close()
	}
}

// state is what a dialer knows of a hall.
func (h *hall) state(d *dialer) (used, making, spares int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	host := d.hosts["tcp "+h.Addr().String()]
	if host == nil {
		return 0, 0, 0
	}
	return host.used, host.making, len(host.spares)
}

// want waits until the dialer makes nothing, and checks what it has.
func (h *hall) want(t *testing.T, d *dialer, used, spares int) {
	t.Helper()
	for end := time.Now().Add(4 * time.Minute); ; time.Sleep(time.Millisecond) {
		u, making, s := h.state(d)
		if making == 0 || time.Now().After(end) {
			if u != used || making != 0 || s != spares {
				t.Fatalf("%d used, %d being made, %d spare; want %d used, %d spare", u, making, s, used, spares)
			}
			return
		}
	}
}

// get takes n connections.
func (h *hall) get(t *testing.T, d *dialer, n int) (conns []net.Conn) {
	t.Helper()
	for range n {
		conn, err := d.dial(t.Context(), "tcp", h.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conns = append(conns, conn)
	}
	return conns
}

// TestDialAhead: a second connection has as many again made, which are then there.
func TestDialAhead(t *testing.T) {
	h, d := newHall(t), newDialer(time.Minute, 7)
	defer d.close()
	all := h.get(t, d, 1)
	h.want(t, d, 1, 0)
	all = append(all, h.get(t, d, 1)...)
	h.want(t, d, 2, 2)
	all = append(all, h.get(t, d, 1)...)
	h.want(t, d, 3, 3)
	all = append(all, h.get(t, d, 1)...)
	h.want(t, d, 4, 3) // 7 at most
	all = append(all, h.get(t, d, 3)...)
	h.want(t, d, 7, 0)
	for range 2 { // closing twice counts once
		for _, conn := range all[1:] {
			conn.Close()
		}
	}
	h.want(t, d, 1, 0)
	d.warm(3)
	h.want(t, d, 1, 2)
	d.warm(100)
	h.want(t, d, 1, 6)
	d.close()
	h.want(t, d, 1, 0)
	d.warm(3)
	h.want(t, d, 1, 0)
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(4 * time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// TestDeadSpares: a connection that the server has closed is not given out.
func TestDeadSpares(t *testing.T) {
	h, d := newHall(t), newDialer(time.Minute, 5)
	defer d.close()
	h.get(t, d, 1)
	d.warm(5)
	h.want(t, d, 1, 4)
	until(t, "all accepted", func() bool { return h.count() == 5 })
	h.hangUp()
	d.mu.Lock()
	spares := slices.Clone(d.first.spares)
	d.mu.Unlock()
	for _, s := range spares {
		until(t, "closed", func() bool { return !quiet(s.TCPConn) })
	}
	conn := h.get(t, d, 1)[0]
	until(t, "a new connection", func() bool { return h.count() > 5 })
	if !quiet(conn.(*gatherConn).TCPConn) {
		t.Error("the connection is dead")
	}
}

// TestQuiet: nor one that the server has spoken on.
func TestQuiet(t *testing.T) {
	near, far := pipe(t)
	if !quiet(near.TCPConn) {
		t.Fatal("a new connection is not quiet")
	}
	_, _ = far.Write([]byte("HTTP/1.1 408 Too slow\r\n\r\n"))
	until(t, "the words come", func() bool { return !quiet(near.TCPConn) })
	near.Close()
	if quiet(near.TCPConn) {
		t.Error("a closed connection is quiet")
	}
}

func TestSpareExpires(t *testing.T) {
	h, d := newHall(t), newDialer(time.Minute, 5)
	defer d.close()
	h.get(t, d, 1)
	d.warm(3)
	h.want(t, d, 1, 2)
	d.mu.Lock()
	first := d.first.spares[0]
	d.mu.Unlock()
	d.expire(d.first, first.TCPConn)
	d.expire(d.first, first.TCPConn)
	h.want(t, d, 1, 1)
	d.alone()
	h.want(t, d, 1, 0)
	d.warm(5)
	h.get(t, d, 2)
	h.want(t, d, 3, 0)
}

// TestDialFails: a server that is not there is not dialled for nobody, and leaves
// nothing behind.
func TestDialFails(t *testing.T) {
	d := newDialer(time.Minute, 5)
	defer d.close()
	h := newHall(t)
	conns := h.get(t, d, 1)
	h.Close()
	for range 3 {
		if conn, err := d.dial(t.Context(), "tcp", h.Addr().String()); err == nil {
			conn.Close()
			t.Fatal("connected to nobody")
		}
	}
	h.want(t, d, 1, 0)
	conns[0].Close()
	h.want(t, d, 0, 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.dial(ctx, "tcp", h.Addr().String()); err == nil {
		t.Error("a dead context connects")
	}
}

// TestWarm: connections come without requests.
func TestWarm(t *testing.T) {
	s := newStage(t, func(w http.ResponseWriter, r *http.Request) {
		capture{207, http.Header{}, propfindOf("/f", "v1", 10)}.write(w)
	})
	b := s.actor(t, Unknown, "")
	b.Warm(4) // nothing is known of the server yet
	if _, err := b.Stat(t.Context(), "/f"); err != nil {
		t.Fatal(err)
	}
	b.Warm(4)
	(&hall{Listener: s.Listener}).want(t, b.http.dialer, 1, 3)
	if got := s.requests(); len(got) != 1 {
		t.Errorf("requests %q", got)
	}
}
