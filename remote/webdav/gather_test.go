package webdav

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

func TestGatherPace(t *testing.T) {
	var b gatherPace
	if got := b.next(10); got != 10 {
		t.Errorf("waits for %d of 10 bytes", got)
	}
	if got := b.next(1 << 30); got != gatherMin {
		t.Errorf("starts with %d", got)
	}
	for range 10 {
		b.took(b.next(1<<30), time.Millisecond)
	}
	if got := b.next(1 << 30); got != gatherMax {
		t.Errorf("grows to %d", got)
	}
	b.took(1000, time.Millisecond)  // what lay there already
	b.took(gatherMax, gatherWait/2) // slow, but not late
	if got := b.next(1 << 30); got != gatherMax {
		t.Errorf("falls to %d", got)
	}
	for want := gatherMax / 2; want >= gatherMin; want /= 2 {
		if b.late(); b.next(1<<30) != want {
			t.Errorf("after a late piece %d, want %d", b.next(1<<30), want)
		}
	}
	if b.late(); b.next(1<<30) != gatherMin {
		t.Errorf("falls below the least: %d", b.next(1<<30))
	}
}

// pipe returns the two ends of a TCP connection, the first of them a gatherConn.
func pipe(t *testing.T) (*gatherConn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	return newGatherConn(near.(*net.TCPConn), func() {}), far
}

// TestGatheredReads: large reads wake up seldom, and nothing is lost or held back between
// large and small ones.
func TestGatheredReads(t *testing.T) {
	near, far := pipe(t)
	const size, head = 8 << 20, 100
	sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	go func() {
		for range 3 {
			_, _ = far.Write(sent[:head])
			for i := 0; i < size; i += 16 << 10 {
				_, _ = far.Write(sent[i : i+16<<10])
			}
		}
	}()
	got := make([]byte, size)
	for range 3 {
		if _, err := io.ReadFull(near, got[:head]); err != nil || !bytes.Equal(got[:head], sent[:head]) {
			t.Fatalf("head: %v", err)
		}
		if _, err := io.ReadFull(near, got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("body: %v", err)
		}
	}
	if near.pace.size != gatherMax {
		t.Errorf("waits for %d bytes on a fast connection", near.pace.size)
	}
}

// TestGatherWait: bytes that came are given out soon although more were expected, and a
// later small read is not held back by them.
func TestGatherWait(t *testing.T) {
	near, far := pipe(t)
	near.pace.size = gatherMax
	p, data := make([]byte, 1<<20), make([]byte, 1000)
	// There before, while the reader waits, and only after longer than gatherWait.
	for n, delay := range map[int]time.Duration{100: 0, 10: gatherWait / 8, 7: gatherWait + gatherWait/4} {
		sender := time.AfterFunc(delay, func() { _, _ = far.Write(data[:n]) })
		got, err := near.Read(p)
		sender.Stop()
		if got != n || err != nil {
			t.Fatalf("%d bytes, %v, want %d", got, err, n)
		}
	}
	if near.pace.size >= gatherMax {
		t.Error("a slow connection is waited for as for a fast one")
	}
	_, _ = far.Write(data[:3])
	if got, err := io.ReadFull(near, p[:3]); got != 3 || err != nil {
		t.Fatalf("a small read: %d, %v", got, err)
	}
	_, _ = far.Write(data[:5])
	far.Close()
	if got, err := io.ReadAll(near); len(got) != 5 || err != nil {
		t.Fatalf("the end: %d bytes, %v", len(got), err)
	}
}
