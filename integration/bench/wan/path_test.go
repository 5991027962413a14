package wan

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve runs a server that calls handle for each connection, puts a path before it, and
// returns the path and its near end.
func serve(t *testing.T, conf Config, mark string, handle func(*net.TCPConn)) (*Path, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer func() { _ = c.Close() }()
				handle(c.(*net.TCPConn))
			})
		}
	})
	p := New(conf)
	addr, err := p.Listen(ln.Addr().String(), mark)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Close(), ln.Close()); err != nil {
			t.Error(err)
		}
		handlers.Wait()
	})
	return p, addr
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func echo(c *net.TCPConn) {
	if _, err := io.Copy(c, c); err == nil {
		_ = c.CloseWrite()
	}
}

// source sends n bytes once it was sent one.
func source(n int) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			_, _ = c.Write(make([]byte, n))
		}
	}
}

// fetch reads all that a source sends.
func fetch(t *testing.T, addr string) int64 {
	c := dial(t, addr)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	n, err := io.Copy(io.Discard, c)
	if err != nil {
		t.Error(err)
	}
	return n
}

// tries is how often something that takes long is timed: other work on the machine only
// ever makes it slower.
const tries = 5

// takes checks that do takes at least want, and not much more in the best of some tries.
func takes(t *testing.T, what string, want time.Duration, do func()) {
	t.Helper()
	best := time.Hour
	for range tries {
		begin := time.Now()
		do()
		took := time.Since(begin)
		if took < want-want/20 { // timers may be a little early
			t.Errorf("%s: %v, cannot be less than %v", what, took, want)
		}
		if best = min(best, took); best < want+want/4 {
			return
		}
	}
	t.Errorf("%s: %v at best, want %v", what, best, want)
}

func TestRoundTrip(t *testing.T) {
	const rtt = 30 * time.Millisecond
	_, addr := serve(t, Config{RTT: rtt, Rate: 1e8, Window: 1 << 20}, "", echo)
	ping := func(c *net.TCPConn) {
		_, errWrite := c.Write([]byte("x"))
		_, errRead := io.ReadFull(c, make([]byte, 1))
		if err := errors.Join(errWrite, errRead); err != nil {
			t.Error(err)
		}
	}
	takes(t, "first byte of a new connection", 2*rtt, func() { ping(dial(t, addr)) })
	c := dial(t, addr)
	ping(c)
	takes(t, "byte over an old one", rtt, func() { ping(c) })
}

// TestWindow sends 16 windows over one connection: one of them each round trip.
func TestWindow(t *testing.T) {
	conf := Config{RTT: 20 * time.Millisecond, Window: 128 << 10}
	_, addr := serve(t, conf, "", source(16*conf.Window))
	takes(t, "16 windows", (1+16)*conf.RTT, func() { fetch(t, addr) })
}

// TestRate sends over several connections at once: together they get the rate, which
// each window alone would allow four times.
func TestRate(t *testing.T) {
	const conns, each = 8, 512 << 10
	conf := Config{RTT: 20 * time.Millisecond, Rate: 16 << 20, Window: 1280 << 10}
	p, addr := serve(t, conf, "", source(each))
	want := 2*conf.RTT + time.Duration(conns*each/conf.Rate*1e9)
	before := p.Counts()
	takes(t, "4 MiB at 16 MiB/s", want, func() {
		before = p.Counts()
		var all sync.WaitGroup
		for range conns {
			all.Go(func() { fetch(t, addr) })
		}
		all.Wait()
	})
	if got := p.Counts().Sub(before); got != (Counts{Conns: conns, Up: conns, Down: conns * each}) {
		t.Errorf("counted %+v", got)
	}
}

// TestIntegrity echoes random data in random pieces and compares.
func TestIntegrity(t *testing.T) {
	for _, conf := range []Config{{}, {RTT: 2 * time.Millisecond, Rate: 1e8, Window: 100_000}} {
		_, addr := serve(t, conf, "", echo)
		var all sync.WaitGroup
		for seed := range uint64(4) {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, 1))
				data := make([]byte, 1_000_000+rnd.IntN(1000))
				for i := range data {
					data[i] = byte(rnd.Uint32())
				}
				c := dial(t, addr)
				all.Go(func() {
					for rest := data; len(rest) > 0; {
						n := min(len(rest), 1+rnd.IntN(90_000))
						if _, err := c.Write(rest[:n]); err != nil {
							t.Error(err)
							return
						}
						rest = rest[n:]
					}
					_ = c.CloseWrite()
				})
				got, err := io.ReadAll(c)
				if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
					t.Errorf("%+v: %d bytes of %d came back, or others: %v", conf, len(got), len(data), err)
				}
			})
		}
		all.Wait()
	}
}

// TestClientGone checks that a server which sends hears that nobody listens any more.
func TestClientGone(t *testing.T) {
	gone := make(chan error, 1)
	_, addr := serve(t, Config{RTT: time.Millisecond, Window: 64 << 10}, "", func(c *net.TCPConn) {
		for {
			if _, err := c.Write(make([]byte, 1<<16)); err != nil {
				gone <- err
				return
			}
		}
	})
	c := dial(t, addr)
	if _, err := io.ReadFull(c, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := <-gone; err == nil {
		t.Error("no error")
	}
}

// TestNoServer checks that a client hears that there is no server.
func TestNoServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	p := New(Config{})
	defer func() { _ = p.Close() }()
	addr, err := p.Listen(ln.Addr().String(), "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return // the reset was faster
	}
	defer func() { _ = c.Close() }()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes", n)
	}
}

// TestClose closes a path under transfers that wait.
func TestClose(t *testing.T) {
	p, addr := serve(t, Config{RTT: 10 * time.Millisecond, Rate: 1e6, Window: 1 << 20}, "", source(64<<20))
	c := dial(t, addr)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, c); err == nil {
		t.Error("the transfer ended in order")
	}
	if _, err := p.Listen(addr, ""); err == nil {
		t.Error("a closed path opens")
	}
}

// TestMarks cuts a stream with marks in all ways.
func TestMarks(t *testing.T) {
	stream := []byte("GET / HTTP/1.1\r\n\r\n HTTP/1.1 HTTP/1.1\r\nHTTP/1.1\r\n")
	mark := []byte(" HTTP/1.1\r\n")
	for a := range stream {
		for b := a; b < len(stream); b++ {
			var hits atomic.Int64
			c := counter{mark: mark, hits: &hits}
			for _, piece := range [][]byte{stream[:a], stream[a:b], stream[b:]} {
				c.count(bytes.Clone(piece))
			}
			if hits.Load() != 2 {
				t.Fatalf("cut at %d and %d: %d marks", a, b, hits.Load())
			}
		}
	}
}

func TestRequests(t *testing.T) {
	p, addr := serve(t, Config{}, "GET ", echo)
	c := dial(t, addr)
	text := "GET x GET y PUT z"
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(text))); err != nil {
		t.Fatal(err)
	}
	if n := p.Counts().Requests; n != 2 {
		t.Errorf("%d requests", n)
	}
}
