package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// TestCall sends and receives messages and byte streams of several sizes.
func TestCall(t *testing.T) {
	var ticks atomic.Int64
	cfg := config(serve(t, ServerConfig{}, echo))
	cfg.Progress = func(context.Context) { ticks.Add(1) }
	c := dial(t, cfg)
	for _, size := range []int{0, 1, small, small + 1, 3 * piece, 5<<20 + 7} {
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		into := make([]byte, size)
		path := "/z/\x01\r\n&<'\"\xff"
		before := ticks.Load()
		for _, call := range []*Call{
			{API: APIDataObjPut, In: &DataObjInp{Path: path}, Out: &STR{}, Data: data, Into: into},
			{API: APIDataObjPut, In: &DataObjInp{Path: path}, Out: &STR{}, Source: bytes.NewReader(data), SourceLen: size, Into: into},
		} {
			clear(into)
			reply, err := c.Call(t.Context(), call)
			if err != nil || reply.Status != size || reply.N != size || !reply.HasOut || call.Out.(*STR).Text != path {
				t.Fatalf("%d bytes: %+v, %v", size, reply, err)
			}
			if !bytes.Equal(into, data) {
				t.Fatalf("%d bytes come back changed", size)
			}
		}
		if n := ticks.Load() - before; n < int64(2*size/piece)+2 {
			t.Errorf("%d bytes: only %d signs of progress", size, n)
		}
	}
	if c.Broken() {
		t.Error("broken")
	}
}

// TestRefusal checks that an error code leaves the connection usable and comes with
// message and remarks.
func TestRefusal(t *testing.T) {
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		return s.Reply(CodeNoRows, &STR{Text: "out"}, nil, ErrMsg{-1, "one"}, ErrMsg{-2, "<two>"})
	})))
	for range 2 {
		var out STR
		reply, err := c.Call(t.Context(), &Call{API: APIGenQuery, In: &GenQueryInp{}, Out: &out})
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeNoRows || e.API != APIGenQuery || e.Text != "one; <two>" || len(reply.Errors) != 2 || out.Text != "out" {
			t.Fatalf("%+v, %+v, %q", reply, err, out.Text)
		}
	}
	if c.Broken() {
		t.Error("broken")
	}
}

// TestCancel ends a call in its middle. The connection breaks, and the error says
// whether the request had gone out.
func TestCancel(t *testing.T) {
	got := make(chan struct{})
	address := serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		got <- struct{}{}
		_, err := s.r.Peek(1) // blocks until the client goes away
		return err
	})
	for _, c := range []struct {
		what string
		call *Call
		sent bool
	}{
		{"waiting for the reply", &Call{API: APIDataObjRead, In: &OpenedDataObjInp{Len: 1}, Into: make([]byte, 1)}, true},
		{"in the middle of the request", &Call{API: APIDataObjWrite, In: &OpenedDataObjInp{}, SourceLen: 100}, false},
	} {
		conn := dial(t, config(address))
		ctx, cancel := context.WithCancel(t.Context())
		if !c.sent {
			c.call.Source = stuck{ctx}
		}
		var canceller sync.WaitGroup
		canceller.Go(func() { <-got; cancel() })
		_, err := conn.Call(ctx, c.call)
		canceller.Wait()
		t.Log(c.what)
		wantBroken(t, err, context.Canceled, c.sent)
		if !conn.Broken() {
			t.Error("not broken")
		}
		_, err = conn.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}})
		wantBroken(t, err, ErrClosed, false)
	}
}

// stuck is a source that gives nothing until ctx ends.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }

// TestCancelBefore calls with a context that has ended already.
func TestCancelBefore(t *testing.T) {
	c := dial(t, config(serve(t, ServerConfig{}, echo)))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Call(ctx, &Call{API: APIObjStat, In: &DataObjInp{}})
	wantBroken(t, err, context.Canceled, false)
}

// TestSource ends a call whose source fails or is too short.
func TestSource(t *testing.T) {
	address := serve(t, ServerConfig{}, echo)
	mine := errors.New("disk")
	c := dial(t, config(address))
	_, err := c.Call(t.Context(), &Call{API: APIDataObjPut, In: &DataObjInp{}, Source: iotest.ErrReader(mine), SourceLen: 5})
	wantBroken(t, err, mine, false)
	c = dial(t, config(address))
	_, err = c.Call(t.Context(), &Call{API: APIDataObjPut, In: &DataObjInp{}, Source: strings.NewReader("abc"), SourceLen: 5})
	wantBroken(t, err, io.ErrUnexpectedEOF, false)
}

// TestDoubtfulSource has a source that gives all its bytes, and an error with the last
// ones: the server must not get a whole request.
func TestDoubtfulSource(t *testing.T) {
	mine := errors.New("checksum")
	whole := make(chan bool, 1)
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		_, err := io.ReadFull(r.Body, make([]byte, r.Size))
		whole <- err == nil
		return io.EOF
	})))
	source := iotest.DataErrReader(io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(mine)))
	_, err := c.Call(t.Context(), &Call{API: APIDataObjPut, In: &DataObjInp{}, Source: source, SourceLen: 5})
	wantBroken(t, err, mine, false)
	if <-whole {
		t.Error("the server got the whole request")
	}
}

// TestSerial makes two calls at once: one is refused and harms nothing.
func TestSerial(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		close(entered)
		<-release
		return s.Reply(7, nil, nil)
	})))
	var first Reply
	var firstErr error
	var wait sync.WaitGroup
	wait.Go(func() { first, firstErr = c.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}}) })
	<-entered
	if _, err := c.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}}); err != ErrBusy {
		t.Errorf("second call: %v", err)
	}
	close(release)
	wait.Wait()
	if firstErr != nil || first.Status != 7 || c.Broken() {
		t.Errorf("first call: %+v, %v", first, firstErr)
	}
}

// TestClose closes in the middle of a call, and twice.
func TestClose(t *testing.T) {
	entered := make(chan struct{})
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		close(entered)
		_, err := s.r.Peek(1)
		return err
	})))
	go func() { <-entered; _ = c.Close() }()
	_, err := c.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}})
	wantBroken(t, err, ErrClosed, true)
	if err := c.Close(); err != nil || !c.Broken() {
		t.Error(err)
	}
	idle := dial(t, config(serve(t, ServerConfig{}, echo)))
	if err := idle.Close(); err != nil {
		t.Error(err)
	}
	_, err = idle.Call(t.Context(), &Call{API: APIObjStat, In: &DataObjInp{}})
	wantBroken(t, err, ErrClosed, false)
}

// TestGoodbye checks that Close tells the server.
func TestGoodbye(t *testing.T) {
	ended := make(chan error, 1)
	address := listen(t, func(ctx context.Context, nc net.Conn) {
		s, err := Accept(ctx, nc, ServerConfig{Password: func(string, string) (string, bool) { return testPassword, true }})
		if err == nil {
			_, err = s.Next()
		}
		ended <- err
	})
	if err := dial(t, config(address)).Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("the server saw %v", err)
	}
}

// TestGarbageReply answers a call with nonsense.
func TestGarbageReply(t *testing.T) {
	ok := func(h header, m Message) string {
		h.kind = typeAPIReply
		return string(appendFrame(nil, h, m, true))
	}
	for name, answer := range map[string]string{
		"nothing":          "",
		"text":             "hello, this is no reply",
		"huge header":      "\xff\xff\xff\xff",
		"negative message": string(appendHeader(nil, header{kind: typeAPIReply, msgLen: -5}, true)),
		"huge message":     string(appendHeader(nil, header{kind: typeAPIReply, msgLen: 2147483647}, true)),
		"missing message":  string(appendHeader(nil, header{kind: typeAPIReply, msgLen: 1 << 20}, true)) + "abc",
		"more bytes":       ok(header{bsLen: 11}, nil) + strings.Repeat("x", 11),
		"fewer bytes":      ok(header{bsLen: 10}, nil) + "xxx",
		"other message":    ok(header{}, &INT{Value: 1}),
		"cut":              ok(header{}, &STR{Text: "text"})[:150],
		"bad error part":   ok(header{errLen: 3}, nil) + "abc",
		"another type":     string(appendFrame(nil, header{kind: typeVersion}, &Version{}, true)),
		"rule":             ok(header{intInfo: statusMsiRequest}, nil),
		"bad progress":     ok(header{intInfo: statusCollStat}, &STR{}),
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
				_, _ = io.WriteString(s.nc, answer)
				return io.EOF
			})))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var out STR
			_, err := c.Call(ctx, &Call{API: APIDataObjRead, In: &OpenedDataObjInp{}, Out: &out, Into: make([]byte, 10)})
			wantBroken(t, err, nil, true)
			if !c.Broken() || ctx.Err() != nil {
				t.Errorf("broken: %v, %v", c.Broken(), ctx.Err())
			}
		})
	}
}

// TestProgress runs a removal with progress messages: the client must answer each.
func TestProgress(t *testing.T) {
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		for n := 10; n <= 30; n += 10 {
			if err := s.Progress(CollOprStat{Files: n, LastPath: "/z/\r"}); err != nil {
				return err
			}
		}
		return s.Reply(0, &CollOprStat{Files: 33}, nil)
	})))
	var seen []int
	var out CollOprStat
	call := &Call{API: APIRmColl, In: &CollInp{Name: "/z"}, Out: &out, OnProgress: func(stat CollOprStat) {
		if stat.LastPath != "/z/\r" {
			t.Errorf("progress %+v", stat)
		}
		seen = append(seen, stat.Files)
	}}
	if _, err := c.Call(t.Context(), call); err != nil || out.Files != 33 || len(seen) != 3 {
		t.Errorf("%v, %+v, %v", seen, out, err)
	}
	call.OnProgress = nil
	if _, err := c.Call(t.Context(), call); err != nil {
		t.Error(err)
	}
}

// TestProgressRefused checks the server's end when the client answers with something
// else.
func TestProgressRefused(t *testing.T) {
	result := make(chan error, 1)
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		result <- s.Progress(CollOprStat{})
		return io.EOF
	})))
	frame := appendFrame(nil, header{kind: typeAPIReq, intInfo: APIRmColl}, &CollInp{}, false)
	if err := c.write(append(frame, 0, 0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != ErrNoAnswer {
		t.Error(err)
	}
}

// TestUnreadBody checks that a handler may leave a byte stream unread, and must reply.
func TestUnreadBody(t *testing.T) {
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error { return s.Reply(r.Size, nil, nil) })))
	for range 3 {
		reply, err := c.Call(t.Context(), &Call{API: APIDataObjPut, In: &DataObjInp{}, Data: make([]byte, 300_000)})
		if err != nil || reply.Status != 300_000 {
			t.Fatalf("%+v, %v", reply, err)
		}
	}
	c = dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		if _, err := s.Next(); err == nil || err == io.EOF {
			t.Errorf("Next without Reply: %v", err)
		}
		return io.EOF
	})))
	_, err := c.Call(t.Context(), &Call{API: APIObjStat})
	wantBroken(t, err, io.ErrUnexpectedEOF, true)
}
