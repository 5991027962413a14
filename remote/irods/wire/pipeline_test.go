package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// TestPipeline sends requests of many sizes, with Data and with Source, none of which
// the server answers before it has seen the beginning of the next one. Bytes go both
// ways at once, more than sockets hold.
func TestPipeline(t *testing.T) {
	sizes := []int{0, 1, small, small + 1, 3 * piece, 7, 5<<20 + 7, 5<<20 + 8, 2}
	seen := 0
	cfg := config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.API == APIObjStat {
			return errors.Join(err, s.Reply(len(body), nil, nil))
		}
		seen++
		if seen%(2*len(sizes)) != 0 {
			if _, err := s.r.Peek(1); err != nil {
				return err
			}
		}
		return s.Reply(len(body), &STR{Text: fmt.Sprint(seen)}, body)
	}))
	var ticks atomic.Int64
	cfg.Progress = func(context.Context) { ticks.Add(1) }
	c := dial(t, cfg)
	for range 2 {
		calls, sent := pipelineCalls(sizes)
		results, err := c.Pipeline(t.Context(), calls)
		if err != nil || len(results) != len(calls) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		for i, r := range results {
			if r.Err != nil || r.Status != len(sent[i]) || r.N != len(sent[i]) || !bytes.Equal(calls[i].Into, sent[i]) {
				t.Errorf("call %d: %+v", i, r)
			}
			if i > 0 && calls[i].Out.(*STR).Text == calls[i-1].Out.(*STR).Text {
				t.Errorf("call %d has the answer of the one before", i)
			}
		}
	}
	if least := int64(2 * 2 * (10 << 20) / piece); ticks.Load() < least {
		t.Errorf("%d signs of progress, want %d", ticks.Load(), least)
	}
	if _, err := c.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}}); err != nil || c.Broken() {
		t.Errorf("a call after it: %v", err)
	}
}

// pipelineCalls returns two calls for each size, one with Data and one with Source,
// and what they send.
func pipelineCalls(sizes []int) (calls []*Call, sent [][]byte) {
	for i, size := range sizes {
		for j := range 2 {
			data := bytes.Repeat([]byte{byte(2*i + j)}, size)
			call := &Call{API: APIDataObjPut, In: &DataObjInp{}, Out: &STR{}, Into: make([]byte, size)}
			if call.Data = data; j == 1 {
				call.Data, call.Source, call.SourceLen = nil, bytes.NewReader(data), size
			}
			calls, sent = append(calls, call), append(sent, data)
		}
	}
	return calls, sent
}

// TestPipelineRefusal refuses calls in the middle, with remarks. The others go on.
func TestPipelineRefusal(t *testing.T) {
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		if r.API == APIDataObjOpen {
			return s.Reply(CodeObjectNotExist, &STR{Text: "out"}, nil, ErrMsg{-1, "one"})
		}
		return s.Reply(r.API, nil, nil)
	})))
	var out STR
	results, err := c.Pipeline(t.Context(), []*Call{
		{API: APIDataObjPut, In: &DataObjInp{}, Data: []byte("abc")},
		{API: APIDataObjOpen, In: &DataObjInp{}, Out: &out},
		{API: APIDataObjUnlink, In: &DataObjInp{}},
		{API: APIDataObjOpen, In: &DataObjInp{}},
	})
	if err != nil || len(results) != 4 || c.Broken() {
		t.Fatalf("%+v, %v", results, err)
	}
	for i, r := range results {
		var e *Error
		switch refused := errors.As(r.Err, &e); {
		case i%2 == 0 && (refused || r.Err != nil || r.Status <= 0):
			t.Errorf("call %d: %+v", i, r)
		case i%2 == 1 && (!refused || e.Code != CodeObjectNotExist || e.API != APIDataObjOpen || e.Text != "one"):
			t.Errorf("call %d: %+v", i, r)
		}
	}
	if out.Text != "out" {
		t.Errorf("message of the refusal %q", out.Text)
	}
}

// TestPipelineNothing makes no calls, calls while another is under way, with a context
// that has ended, and after Close.
func TestPipelineNothing(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		entered <- struct{}{}
		<-release
		return s.Reply(0, nil, nil)
	})))
	stat := []*Call{{API: APIObjStat, In: &DataObjInp{}}}
	if results, err := c.Pipeline(t.Context(), nil); err != nil || len(results) != 0 {
		t.Error(results, err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, err := c.Pipeline(t.Context(), stat); err != nil {
			t.Error(err)
		}
	})
	<-entered
	if _, err := c.Pipeline(t.Context(), stat); err != ErrBusy {
		t.Errorf("second at once: %v", err)
	}
	if _, err := c.Call(t.Context(), stat[0]); err != ErrBusy {
		t.Errorf("call at once: %v", err)
	}
	close(release)
	wait.Wait()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Pipeline(ended, stat)
	wantBroken(t, err, context.Canceled, false)
	_, err = c.Pipeline(t.Context(), stat)
	wantBroken(t, err, ErrClosed, false)
	closed := dial(t, config(serve(t, ServerConfig{}, echo)))
	_ = closed.Close()
	_, err = closed.Pipeline(t.Context(), stat)
	wantBroken(t, err, ErrClosed, false)
}

// TestPipelineHangUp has a server that hangs up after k replies: those stand.
func TestPipelineHangUp(t *testing.T) {
	for k := range 4 {
		count := 0
		c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
			if count == k {
				return io.EOF
			}
			count++
			return s.Reply(count, nil, nil)
		})))
		calls := []*Call{
			{API: APIObjStat, In: &DataObjInp{}}, {API: APIObjStat, In: &DataObjInp{}},
			{API: APIObjStat, In: &DataObjInp{}}, {API: APIDataObjUnlink, In: &DataObjInp{}},
		}
		results, err := c.Pipeline(t.Context(), calls)
		if len(results) > k || !c.Broken() {
			t.Fatalf("after %d replies: %d results, broken %v", k, len(results), c.Broken())
		}
		wantBroken(t, err, nil, true)
		var broken *BrokenError
		if errors.As(err, &broken) && broken.API != calls[len(results)].API {
			t.Errorf("after %d replies the error is about %s", k, APIName(broken.API))
		}
		for i, r := range results {
			if r.Err != nil || r.Status != i+1 {
				t.Errorf("result %d: %+v", i, r)
			}
		}
	}
}

// TestPipelineSource has sources that fail in the middle: the server must not get
// that request whole, nor any behind it.
func TestPipelineSource(t *testing.T) {
	mine := errors.New("disk")
	for name, source := range map[string]io.Reader{
		"at once":       iotest.ErrReader(mine),
		"with the last": iotest.DataErrReader(io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(mine))),
		"refusal":       io.MultiReader(strings.NewReader("he"), iotest.ErrReader(&Error{Code: CodeNoAccess})),
		"short":         strings.NewReader("hell"),
	} {
		got := make(chan int, 1)
		c := dial(t, config(listen(t, func(ctx context.Context, nc net.Conn) { got <- countRequests(ctx, nc, nil) })))
		results, err := c.Pipeline(t.Context(), []*Call{
			{API: APIObjStat, In: &DataObjInp{}},
			{API: APIDataObjPut, In: &DataObjInp{}, Source: source, SourceLen: 5},
			{API: APIObjStat, In: &DataObjInp{}},
		})
		var broken *BrokenError
		if !errors.As(err, &broken) || broken.Sent != (len(results) == 0) || len(results) > 1 || !c.Broken() {
			t.Errorf("%s: %d results, %#v", name, len(results), err)
		}
		if n := <-got; n > 1 {
			t.Errorf("%s: the server got %d requests", name, n)
		}
	}
}

// TestPipelineStuckSource cancels while a source gives nothing.
func TestPipelineStuckSource(t *testing.T) {
	got := make(chan struct{})
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		if r.API == APIDataObjPut {
			close(got)
			_, err := s.r.Peek(1)
			return err
		}
		return s.Reply(0, nil, nil)
	})))
	ctx, cancel := context.WithCancel(t.Context())
	var canceller sync.WaitGroup
	canceller.Go(func() { <-got; cancel() })
	results, err := c.Pipeline(ctx, []*Call{
		{API: APIObjStat, In: &DataObjInp{}},
		{API: APIDataObjPut, In: &DataObjInp{}, Source: stuck{ctx}, SourceLen: 5},
		{API: APIObjStat, In: &DataObjInp{}},
	})
	canceller.Wait()
	wantBroken(t, err, context.Canceled, len(results) == 0)
}

// TestPipelineProgress removes a collection between other calls: what is behind the
// removal must not be taken for the answer to its progress.
func TestPipelineProgress(t *testing.T) {
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		if r.API != APIRmColl {
			return s.Reply(1, nil, nil)
		}
		for n := 10; n <= 30; n += 10 {
			if err := s.Progress(CollOprStat{Files: n}); err != nil {
				return err
			}
		}
		return s.Reply(2, &CollOprStat{Files: 33}, nil)
	})))
	stat := &Call{API: APIObjStat, In: &DataObjInp{}}
	seen := 0
	watched := &Call{API: APIRmColl, In: &CollInp{}, OnProgress: func(CollOprStat) { seen++ }}
	results, err := c.Pipeline(t.Context(), []*Call{stat, stat, watched, {API: APIRmColl, In: &CollInp{}}, stat, stat})
	if err != nil || len(results) != 6 || seen != 3 {
		t.Fatalf("%+v, %v, progress %d", results, err, seen)
	}
	for i, want := range []int{1, 1, 2, 2, 1, 1} {
		if results[i].Err != nil || results[i].Status != want {
			t.Errorf("result %d: %+v", i, results[i])
		}
	}
}

// tripwire is a network that calls trip after budget bytes in either direction.
type tripwire struct {
	net.Conn
	budget *atomic.Int64
	trip   func()
}

func (w tripwire) use(n int) {
	if left := w.budget.Add(-int64(n)); left <= 0 && left+int64(n) > 0 {
		w.trip()
	}
}

func (w tripwire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p[:min(len(p), 64)])
	w.use(n)
	return n, err
}

func (w tripwire) Write(p []byte) (done int, err error) {
	for done < len(p) {
		n, err := w.Conn.Write(p[done:min(done+64, len(p))])
		w.use(n)
		if done += n; err != nil {
			return done, err
		}
	}
	return done, nil
}

// TestPipelineCancel cancels after any number of bytes, without and with TLS, and once
// more by Close. The server never gets a request that the error says was not sent, and
// nothing hangs.
func TestPipelineCancel(t *testing.T) {
	ca := newAuthority(t)
	server := ca.issue(t, "127.0.0.1", time.Now().Add(time.Hour))
	got := make(chan int, 1)
	address := listen(t, func(ctx context.Context, nc net.Conn) { got <- countRequests(ctx, nc, server) })
	for _, policy := range []Policy{PolicyNone, PolicyRequire} {
		cfg := config(address)
		cfg.Policy, cfg.TLS = policy, &tls.Config{RootCAs: ca.roots}
		total := tripPipeline(t, cfg, 1<<40, false, got)
		for budget := int64(1); budget < total; budget += 1 + total/40 {
			tripPipeline(t, cfg, budget, false, got)
			tripPipeline(t, cfg, budget, true, got)
		}
	}
}

// tripPipeline makes calls that are cancelled or closed after budget bytes, checks what
// comes back and returns how many bytes moved.
func tripPipeline(t *testing.T, cfg Config, budget int64, byClose bool, got <-chan int) int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var c *Conn
	left, cause := new(atomic.Int64), context.Canceled
	left.Store(1 << 40)
	trip := func() { cancel() }
	if byClose {
		trip, cause = func() { _ = c.Close() }, ErrClosed
	}
	cfg.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return tripwire{nc, left, trip}, err
	}
	c, err := Dial(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	left.Store(budget)
	calls, _ := pipelineCalls([]int{0, 100, small + 1, 10})
	results, err := c.Pipeline(ctx, calls)
	used := budget - left.Swap(1<<40)
	if err == nil && len(results) != len(calls) || len(results) == len(calls) && err != nil {
		t.Errorf("after %d bytes: %d results and %v", budget, len(results), err)
	}
	_ = c.Close()
	n, broken := <-got, (*BrokenError)(nil)
	if errors.As(err, &broken) {
		wantBroken(t, err, cause, broken.Sent)
		if n > len(results) && !broken.Sent {
			t.Errorf("after %d bytes: %d results, not sent, but the server has got %d", budget, len(results), n)
		}
	}
	if n < len(results) {
		t.Errorf("after %d bytes: %d results from %d requests", budget, len(results), n)
	}
	return used
}
