package irods

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
)

// longWay is a TCP proxy that behaves like a long way with a full-sized window: bytes
// arrive half a round trip after they were sent, and of each connection no more than a
// window is on its way until the other end has confirmed it.
type longWay struct {
	listener net.Listener
	target   string
	round    time.Duration
	window   int
	mu       sync.Mutex
	open     []net.Conn
	tasks    sync.WaitGroup
}

func newLongWay(b testing.TB, target string, round time.Duration, window int) *longWay {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	p := &longWay{listener: l, target: target, round: round, window: window}
	p.tasks.Go(p.accept)
	b.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.tasks.Wait()
	})
	return p
}

func (p *longWay) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		p.mu.Lock()
		p.open = append(p.open, near, far)
		p.mu.Unlock()
		p.tasks.Go(func() { p.carry(far, near) })
		p.tasks.Go(func() { p.carry(near, far) })
	}
}

// packet is bytes on their way.
type packet struct {
	data   []byte
	arrive time.Time
}

// carry moves bytes in one direction.
func (p *longWay) carry(dst, src net.Conn) {
	const size = 64 << 10
	slots := p.window / size // each a packet that is not confirmed
	free := make(chan struct{}, slots)
	way := make(chan packet, slots)
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for x := range way {
			time.Sleep(time.Until(x.arrive))
			if _, err := dst.Write(x.data); err != nil {
				_, _ = io.Copy(io.Discard, src)
			}
			time.AfterFunc(p.round/2, func() { <-free })
		}
		_ = dst.Close()
	})
	for {
		free <- struct{}{}
		data := make([]byte, size)
		n, err := src.Read(data)
		if err != nil {
			break
		}
		way <- packet{data[:n], time.Now().Add(p.round / 2)}
	}
	close(way)
	tasks.Wait()
}

// BenchmarkFar moves an object over a round trip of 50 ms with a window of 4 MiB for
// each connection, by one connection and by as many as help.
func BenchmarkFar(b *testing.B) {
	const size = 256 << 20
	data := content(size, 1)
	for _, conns := range []int{1, 4} {
		z := startZone(b, zone.Options{})
		far := newLongWay(b, z.Addr(), 50*time.Millisecond, 4<<20)
		opts := options(z, far.listener.Addr().String())
		opts.MaxConns = conns
		client := dial(b, opts)
		var e remote.Entry
		b.Run(fmt.Sprintf("put/%d", conns), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				e = mustPut(b, client, "/f", data, remote.PutOptions{})
			}
		})
		e = mustPut(b, dial(b, options(z, z.Addr())), "/f", data, remote.PutOptions{})
		b.Run(fmt.Sprintf("stream/%d", conns), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				r, err := client.Open(b.Context(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size})
				if err == nil {
					_, err = io.Copy(io.Discard, r)
				}
				if err != nil {
					b.Fatal(err)
				}
				_ = r.Close()
			}
		})
		b.Run(fmt.Sprintf("read/%d", conns), func(b *testing.B) {
			b.SetBytes(size)
			p := make([]byte, size)
			for b.Loop() {
				if _, err := client.ReadAt(b.Context(), remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}, p, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
