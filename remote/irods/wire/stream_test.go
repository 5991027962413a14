package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
)

// batches returns a next that gives lists of calls, one after the other.
func batches(lists ...[]*Call) func(context.Context) []*Call {
	return func(context.Context) []*Call {
		if len(lists) == 0 {
			return nil
		}
		first := lists[0]
		lists = lists[1:]
		return first
	}
}

// TestStream makes calls with bytes in both directions and wants the requests to go out
// before the first reply has come.
func TestStream(t *testing.T) {
	const n = 20
	var handedOut atomic.Int64
	all := make(chan struct{})
	var got [][]byte
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		<-all
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		got = append(got, data)
		return s.Reply(len(got), nil, data)
	})))
	want := make([][]byte, n)
	next := func(context.Context) []*Call {
		i := int(handedOut.Add(1)) - 1
		if i == n {
			close(all)
			return nil
		}
		want[i] = bytes.Repeat([]byte{byte(i)}, i*5000)
		return []*Call{{API: APIDataObjWrite, In: &OpenedDataObjInp{}, Data: want[i], Into: make([]byte, len(want[i]))}}
	}
	replies := 0
	err := c.Stream(t.Context(), next, func(call *Call, r Result) error {
		replies++
		if r.Err != nil || r.Status != replies || !bytes.Equal(call.Into[:r.N], want[replies-1]) {
			t.Errorf("reply %d: %+v", replies, r)
		}
		return nil
	})
	if err != nil || replies != n || c.Broken() || !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("%d replies, error %v, broken %v", replies, err, c.Broken())
	}
	if err := c.Stream(t.Context(), batches(), nil); err != nil || c.Broken() {
		t.Errorf("no calls: %v", err)
	}
}

// TestStreamRefusal wants a refusal to end the stream if the receiver says so, and the
// connection to be of use afterwards.
func TestStreamRefusal(t *testing.T) {
	var served atomic.Int64
	c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
		served.Add(1)
		if r.API == APIDataObjOpen {
			return s.Reply(CodeObjectNotExist, nil, nil)
		}
		return s.Reply(7, nil, nil)
	})))
	stat, open := &Call{API: APIObjStat, In: &DataObjInp{}}, &Call{API: APIDataObjOpen, In: &DataObjInp{}}
	seen := 0
	err := c.Stream(t.Context(), batches([]*Call{stat, open}, []*Call{open, stat}, []*Call{stat}), func(_ *Call, r Result) error {
		seen++
		return r.Err
	})
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CodeObjectNotExist || seen != 2 || c.Broken() {
		t.Fatalf("error %v after %d replies, broken %v", err, seen, c.Broken())
	}
	if reply, err := c.Call(t.Context(), stat); err != nil || reply.Status != 7 {
		t.Errorf("the next call: %+v, %v", reply, err)
	}
	refusals := 0
	err = c.Stream(t.Context(), batches([]*Call{open}, []*Call{open}, []*Call{stat}), func(_ *Call, r Result) error {
		if r.Err != nil {
			refusals++
		}
		return nil
	})
	if err != nil || refusals != 2 {
		t.Errorf("%d refusals that are no matter, error %v", refusals, err)
	}
}

// TestStreamHangUp has a server that hangs up after k replies while next waits for more
// to do: its context ends.
func TestStreamHangUp(t *testing.T) {
	for k := range 3 {
		count := 0
		c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
			if count == k {
				return io.EOF
			}
			count++
			return s.Reply(count, nil, nil)
		})))
		sent, seen := 0, 0
		err := c.Stream(t.Context(), func(ctx context.Context) []*Call {
			if sent == 3 {
				<-ctx.Done()
				return nil
			}
			sent++
			return []*Call{{API: APIObjStat, In: &DataObjInp{}}}
		}, func(*Call, Result) error { seen++; return nil })
		if seen > k || !c.Broken() {
			t.Errorf("after %d replies: %d seen, broken %v", k, seen, c.Broken())
		}
		wantBroken(t, err, nil, true)
	}
}

// TestStreamCancel ends the context while a reply is due, and while none is.
func TestStreamCancel(t *testing.T) {
	for _, due := range []bool{true, false} {
		release := make(chan struct{})
		c := dial(t, config(serve(t, ServerConfig{}, func(s *Session, r *Request) error {
			if due {
				<-release
			}
			return s.Reply(0, nil, nil)
		})))
		ctx, cancel := context.WithCancel(t.Context())
		sent, idle := false, make(chan struct{})
		err := c.Stream(ctx, func(ctx context.Context) []*Call {
			if !sent {
				sent = true
				return []*Call{{API: APIDataObjUnlink, In: &DataObjInp{}}}
			}
			if !due {
				<-idle
			}
			cancel()
			<-ctx.Done()
			return nil
		}, func(*Call, Result) error { close(idle); return nil })
		close(release)
		if due {
			wantBroken(t, err, context.Canceled, true)
		} else if err != nil {
			t.Errorf("no reply was due: %v", err)
		}
		if !c.Broken() {
			t.Error("the connection of an ended context is not broken")
		}
		wantBroken(t, c.Stream(t.Context(), batches(), nil), ErrClosed, false)
	}
}

// TestStreamBusy makes other calls meanwhile.
func TestStreamBusy(t *testing.T) {
	c := dial(t, config(serve(t, ServerConfig{}, echo)))
	stat := []*Call{{API: APIObjStat, In: &DataObjInp{}}}
	err := c.Stream(t.Context(), batches(stat), func(*Call, Result) error {
		if _, err := c.Call(t.Context(), stat[0]); err != ErrBusy {
			t.Errorf("a call from within: %v", err)
		}
		if err := c.Stream(t.Context(), batches(stat), nil); err != ErrBusy {
			t.Errorf("a stream from within: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
