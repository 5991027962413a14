package remotetest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote/remotetest"
)

// echo starts a server that sends back what it gets and keeps the bytes.
func echo(t *testing.T) (addr string, got func() []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		all   bytes.Buffer
		conns sync.WaitGroup
	)
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					n, err := c.Read(buf)
					mu.Lock()
					all.Write(buf[:n])
					mu.Unlock()
					if _, werr := c.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return l.Addr().String(), func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return bytes.Clone(all.Bytes())
	}
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// exchange sends p and returns what comes back before the connection ends.
func exchange(c net.Conn, p []byte) ([]byte, error) {
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(p)
		if err == nil {
			err = c.(*net.TCPConn).CloseWrite()
		}
		sent <- err
	}()
	back, err := io.ReadAll(c)
	return back, errors.Join(err, <-sent)
}

func TestProxyForwards(t *testing.T) {
	addr, got := echo(t)
	p := remotetest.NewProxy(t, addr)
	data := remotetest.Pattern(300_000, 1)
	back, err := exchange(dial(t, p.Addr()), data)
	if err != nil || !bytes.Equal(back, data) || !bytes.Equal(got(), data) {
		t.Fatalf("%d bytes came back, %v", len(back), err)
	}
	if s := p.Stats(); s.Conns != 1 || s.Up != 300_000 || s.Down != 300_000 {
		t.Errorf("stats %+v", s)
	}
}

func TestProxyCutsUp(t *testing.T) {
	for _, n := range []int64{0, 1, 1000, 32 << 10, 100_001} {
		addr, got := echo(t)
		p := remotetest.NewProxy(t, addr)
		p.CutUp(n)
		data := remotetest.Pattern(300_000, 2)
		_, err := exchange(dial(t, p.Addr()), data)
		if err == nil {
			t.Errorf("cut at %d: no error", n)
		}
		eventually(t, func() bool { return int64(len(got())) == n })
		if !bytes.Equal(got(), data[:n]) {
			t.Errorf("cut at %d: other bytes came through", n)
		}
		back, err := exchange(dial(t, p.Addr()), data[:10])
		if err != nil || !bytes.Equal(back, data[:10]) {
			t.Errorf("after the cut: %q, %v", back, err)
		}
	}
}

func TestProxyCutsDown(t *testing.T) {
	addr, _ := echo(t)
	p := remotetest.NewProxy(t, addr)
	p.CutDown(5000)
	c := dial(t, p.Addr())
	data := remotetest.Pattern(20_000, 3)
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	back, _ := io.ReadAll(c) // a cut may look like an end or a reset
	if !bytes.Equal(back, data[:5000]) {
		t.Errorf("%d bytes came back, want 5000", len(back))
	}
}

func TestProxyRefuses(t *testing.T) {
	addr, _ := echo(t)
	p := remotetest.NewProxy(t, addr)
	old := dial(t, p.Addr())
	if _, err := old.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(old, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	p.Refuse()
	if _, err := old.Read(make([]byte, 1)); err == nil {
		t.Error("the open connection lives on")
	}
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		c.Close()
		t.Error("a connection was accepted")
	}
	if err := p.Accept(); err != nil {
		t.Fatal(err)
	}
	if back, err := exchange(dial(t, p.Addr()), []byte("again")); err != nil || string(back) != "again" {
		t.Errorf("after Accept: %q, %v", back, err)
	}
}

func TestProxyStalls(t *testing.T) {
	addr, _ := echo(t)
	p := remotetest.NewProxy(t, addr)
	p.Stall()
	c := dial(t, p.Addr())
	if _, err := c.Write([]byte("slow")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := c.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read during the stall: %v", err)
	}
	p.Resume()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "slow" {
		t.Errorf("after the stall: %q, %v", buf, err)
	}
}

func TestProxyDelays(t *testing.T) {
	addr, _ := echo(t)
	p := remotetest.NewProxy(t, addr)
	p.SetLatency(30 * time.Millisecond)
	start := time.Now()
	if _, err := exchange(dial(t, p.Addr()), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d < 60*time.Millisecond {
		t.Errorf("a round trip took %v, want 60ms or more", d)
	}
}

// eventually waits for something that another goroutine brings about.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 24_000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it did not happen")
}
