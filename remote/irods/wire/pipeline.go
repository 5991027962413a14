package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Result is the answer to one call of a Pipeline.
type Result struct {
	Reply
	Err error // an *Error if the server refused the call, else nil
}

// Pipeline makes calls at the cost of one round trip: it sends all requests while it
// reads the replies, which come in the order of the requests (measured on iRODS 5.0.2,
// which carries them out one after the other). A refused call has its *Error in its
// Result, and the calls behind it are made nevertheless.
//
// A *BrokenError is about the first call without reply, calls[len(results)]: Sent tells
// whether the server may have carried out that one and, unless false, any behind it.
// The results before it stand. The other errors are those of Call.
//
// The requests of calls behind one that reports progress (APIRmColl, or OnProgress is
// set) go out after its reply, because the protocol has the client answer in between.
// A Source is read in another goroutine, which ends before Pipeline returns; so it must
// not wait for anything longer than ctx.
func (c *Conn) Pipeline(ctx context.Context, calls []*Call) ([]Result, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	if !c.busy.CompareAndSwap(false, true) {
		if c.closed.Load() { // Close stays busy
			return nil, &BrokenError{API: calls[0].API, Err: ErrClosed}
		}
		return nil, ErrBusy
	}
	defer c.busy.Store(false)
	if c.broken.Load() {
		return nil, &BrokenError{API: calls[0].API, Err: ErrClosed}
	}
	p := &pipeline{c: c, calls: calls, results: make([]Result, 0, len(calls))}
	if err := c.guard(ctx, p.run); err != nil {
		k := len(p.results)
		if k == len(calls) { // every reply came, whatever else broke
			return p.results, nil
		}
		return p.results, &BrokenError{API: calls[k].API, Sent: p.sent > k, Err: err}
	}
	return p.results, nil
}

// pipeline is a Pipeline under way. The results belong to the reader, head, ends and
// taken to the writer; sent is right when the writer has ended.
type pipeline struct {
	c       *Conn
	calls   []*Call
	results []Result

	head  []byte  // frames that wait to go out together
	end   int64   // bytes of all requests begun
	ends  []int64 // where each request begun ends
	taken int64   // bytes that the network has taken
	sent  int     // requests whose last byte the network has taken
}

// run makes the calls, up to one that reports progress at a time.
func (p *pipeline) run() error {
	var one sync.Mutex
	tick := p.c.tick
	p.c.tick = func() { one.Lock(); defer one.Unlock(); tick() }
	for first, i := 0, 0; i < len(p.calls); i++ {
		if p.calls[i].reports() || i == len(p.calls)-1 {
			if err := p.section(p.calls[first : i+1]); err != nil {
				return err
			}
			first = i + 1
		}
	}
	return nil
}

// reports tells whether the server may send messages in the middle of the call.
func (call *Call) reports() bool { return call.API == APIRmColl || call.OnProgress != nil }

// section sends calls and reads their replies. Who fails first breaks the connection,
// which ends the other one, and its error counts.
func (p *pipeline) section(calls []*Call) error {
	var first error
	var once sync.Once
	fail := func(err error) { once.Do(func() { first = err; p.c.abort() }) }
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := p.send(calls); err != nil {
			fail(err)
		}
	})
	for i, call := range calls {
		if i == len(calls)-1 {
			writer.Wait() // the connection is the reader's now, to answer progress
		}
		if err := p.receive(call); err != nil {
			fail(err)
			break
		}
	}
	writer.Wait()
	return first
}

func (p *pipeline) receive(call *Call) error {
	reply, err := p.c.receive(call)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	p.results = append(p.results, Result{reply, err})
	return nil
}

// send writes requests. Small ones share a Write.
func (p *pipeline) send(calls []*Call) error {
	defer func() {
		for p.sent < len(p.ends) && p.ends[p.sent] <= p.taken {
			p.sent++
		}
	}()
	for _, call := range calls {
		if err := p.request(call); err != nil {
			return err
		}
		if len(p.head) >= small {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return p.flush()
}

func (p *pipeline) request(call *Call) error {
	h := header{kind: typeAPIReq, intInfo: call.API, bsLen: len(call.Data)}
	if call.Data == nil && call.Source != nil {
		h.bsLen = call.SourceLen
	}
	before := len(p.head)
	p.head = appendFrame(p.head, h, call.In, false)
	p.end += int64(len(p.head) - before + h.bsLen)
	p.ends = append(p.ends, p.end)
	switch {
	case call.Data == nil && call.Source != nil:
		return p.source(call)
	case len(call.Data) <= small:
		p.head = append(p.head, call.Data...)
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.write(call.Data)
}

// source sends what the call's Source gives, except what comes with an error.
func (p *pipeline) source(call *Call) error {
	if err := p.flush(); err != nil {
		return err
	}
	buffer := make([]byte, min(piece, call.SourceLen))
	for left := call.SourceLen; left > 0; {
		n, err := call.Source.Read(buffer[:min(left, len(buffer))])
		left -= n
		switch {
		case err == io.EOF && left > 0:
			return fmt.Errorf("source ended after %d of %d bytes: %w", call.SourceLen-left, call.SourceLen, io.ErrUnexpectedEOF)
		case err != nil && err != io.EOF:
			return err
		}
		if err := p.write(buffer[:n]); err != nil {
			return err
		}
	}
	return nil
}

func (p *pipeline) flush() error {
	err := p.write(p.head)
	p.head = p.head[:0]
	return err
}

// write counts what the network takes, also if it fails then.
func (p *pipeline) write(b []byte) error {
	for len(b) > 0 {
		n, err := p.c.nc.Write(b[:min(len(b), piece)])
		p.taken += int64(n)
		if err != nil {
			return err
		}
		b = b[n:]
		p.c.tick()
	}
	return nil
}
