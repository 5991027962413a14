package harness

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestAbandoned closes the client's end of connections, with and without bytes that the
// server has not read, and then the server's.
func TestAbandoned(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port
	want := func(n int) {
		t.Helper()
		if got, err := Abandoned(port); got != n || err != nil {
			t.Errorf("%d abandoned connections, %v, want %d", got, err, n)
		}
	}
	// More than the buffers of both ends take, so that the end of the connection
	// cannot reach the server.
	for _, size := range []int{0, 10, 32 << 20} {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		want(0)
		_ = client.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = io.CopyN(client, zeros{}, int64(size)) // fails when the buffers are full
		want(0)
		_ = client.Close()
		if n, err := Abandoned(port); n == 0 || err != nil {
			t.Errorf("%d bytes: the client has gone and nobody notices: %v", size, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if err := Settled(ctx, port); err == nil {
			t.Errorf("%d bytes: settled", size)
		}
		cancel()
		_ = server.Close()
		if err := Settled(t.Context(), port); err != nil {
			t.Error(err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLastLines(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for text, want := range map[string]string{
		"":                  "",
		"one\n":             "one\n",
		"1\n2\n3":           "(lines before: 1)\n2\n3\n",
		"1\n2\n3\n4\n":      "(lines before: 2)\n3\n4\n",
		long + "\n":         long[:lineMost] + "...\n",
		"1\n\n" + long[:10]: "(lines before: 1)\n\n" + long[:10] + "\n",
	} {
		if got := lastLines(text, 2); got != want {
			t.Errorf("%.20q: got %.60q, want %.60q", text, got, want)
		}
	}
}

// TestExcerpt checks that a crash is shown from its beginning, also if it is long.
func TestExcerpt(t *testing.T) {
	log := strings.Repeat("line\n", 50)
	if got := excerpt(log); strings.Count(got, "\n") != logLines+1 {
		t.Errorf("%q", got)
	}
	got := excerpt(log + "panic: reason\n" + log)
	if !strings.HasPrefix(got, "panic: reason\n") || strings.Count(got, "line") != 50 {
		t.Errorf("%q", got)
	}
}

// TestLogsShown fails a test with many mounts: only the last two show their logs.
func TestLogsShown(t *testing.T) {
	other := &testing.T{}
	for n := range 5 {
		if got := shows(t); got != (n < logsMost) {
			t.Errorf("log %d of this test: %v", n, got)
		}
	}
	if !shows(other) {
		t.Error("another test has no logs")
	}
	shown.Delete(other)
}
