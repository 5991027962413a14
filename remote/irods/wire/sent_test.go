package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// errCut is the error of a network that was cut.
var errCut = errors.New("cut")

// cutter is a network that takes so many bytes and then fails. The Write that uses up
// the budget reports its bytes and the failure at once.
type cutter struct {
	net.Conn
	budget *atomic.Int64
}

func (c cutter) Write(p []byte) (int, error) {
	left := c.budget.Add(-int64(len(p))) // below zero: what does not fit
	if left > 0 {
		return c.Conn.Write(p)
	}
	n, err := c.Conn.Write(p[:max(0, len(p)+int(left))])
	return n, errors.Join(errCut, err)
}

func (c cutter) Read(p []byte) (int, error) {
	if c.budget.Load() <= 0 {
		return 0, errCut
	}
	return c.Conn.Read(p)
}

// TestSent cuts requests at many places, without and with TLS. The error says that the
// request went out if and only if the network took its last byte, and the server never
// has a request of which the error says that it did not go out.
func TestSent(t *testing.T) {
	ca := newAuthority(t)
	got := make(chan int, 1) // requests that a connection brought as a whole
	server := ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	address := listen(t, func(ctx context.Context, nc net.Conn) { got <- countRequests(ctx, nc, server) })
	for _, policy := range []Policy{PolicyNone, PolicyRequire} {
		cfg := config(address)
		cfg.Policy, cfg.TLS = policy, &tls.Config{RootCAs: ca.roots, DynamicRecordSizingDisabled: true}
		for _, size := range []int{0, 10, 3*small + 1, piece + 1} {
			for _, source := range []bool{false, true} {
				checkCuts(t, cfg, got, size, source)
			}
		}
	}
}

// checkCuts makes a request with size bytes, and again with the network cut at the
// first byte, in the middle, and before and after the last byte.
func checkCuts(t *testing.T, cfg Config, got <-chan int, size int, source bool) {
	t.Helper()
	total, err := cutCall(t, cfg, 1<<40, size, source)
	if n := <-got; err != nil || n != 1 {
		t.Fatalf("%s, %d bytes: %d requests, %v", cfg.Policy, size, n, err)
	}
	for _, budget := range []int64{1, total / 2, total - 1, total} {
		_, err := cutCall(t, cfg, budget, size, source)
		wantBroken(t, err, errCut, budget == total)
		if n := <-got; n > 1 || (n == 1 && budget < total) {
			t.Errorf("%s, %d bytes, cut at %d of %d: the server has got %d requests", cfg.Policy, size, budget, total, n)
		}
	}
}

// countRequests serves a connection and returns how many whole requests came.
func countRequests(ctx context.Context, nc net.Conn, server *tls.Config) int {
	password := func(string, string) (string, bool) { return testPassword, true }
	s, err := Accept(ctx, nc, ServerConfig{TLS: server, Password: password})
	if err != nil {
		return 0
	}
	defer func() { _ = s.Close() }()
	for n := 0; ; n++ {
		r, err := s.Next()
		if err != nil {
			return n
		}
		if size, err := io.Copy(io.Discard, r.Body); err != nil || size != int64(r.Size) {
			return n
		}
		if err := s.Reply(0, nil, nil); err != nil {
			return n + 1
		}
	}
}

// cutCall connects, makes a call with size bytes over a network that fails after budget
// bytes, and returns how many it used.
func cutCall(t *testing.T, cfg Config, budget int64, size int, source bool) (used int64, err error) {
	t.Helper()
	left := new(atomic.Int64)
	left.Store(1 << 40)
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return cutter{nc, left}, err
	}
	c, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	call := &Call{API: APIDataObjPut, In: &DataObjInp{}, Data: make([]byte, size)}
	if source {
		call.Data, call.Source, call.SourceLen = nil, bytes.NewReader(call.Data), size
	}
	left.Store(budget)
	_, err = c.Call(t.Context(), call)
	used = budget - left.Swap(1<<40)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	return used, err
}
