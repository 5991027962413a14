package webdav

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

var (
	errShort = errors.New("source ended before its size")
	errLong  = errors.New("source goes on after its size")
	errOver  = errors.New("the request is over")
	errGone  = errors.New("the server closed the connection before all was sent")
)

// outgoing is the body of a request: size bytes that can be read again from the
// start. The transport reads it in goroutines of its own; finish makes sure that
// the source is not touched afterwards.
type outgoing struct {
	size int64  // -1: as many as come
	text string // all of it, if it is in memory
	open func(context.Context) (io.ReadCloser, error)
	sums *digests // of what was sent, or nil

	// A body that grows is read by somebody who may wait for more: stop ends that, and
	// unfollow forgets the connection whose end is the end of it.
	stop     atomic.Pointer[context.CancelFunc]
	unfollow atomic.Pointer[func()]

	mu      sync.Mutex // guards what follows, and is held while the source is read
	current *outReader
	err     error // of the source
	whole   bool  // the last byte was given out: the server may have it all
}

// textBody is a small body in memory.
func textBody(s string) *outgoing {
	return &outgoing{size: int64(len(s)), text: s, whole: true, open: openText(s)}
}

// sourceBody is the whole of src.
func sourceBody(src remote.Source, sums *digests) *outgoing {
	return &outgoing{size: src.Size(), sums: sums, open: func(context.Context) (io.ReadCloser, error) { return src.Open() }}
}

// attach makes o the body of req.
func (o *outgoing) attach(ctx context.Context, req *http.Request) error {
	req.ContentLength = o.size
	if o.size == 0 {
		// With NoBody the length 0 is sent; a reader would be asked first.
		req.Body = http.NoBody
		return o.probeEmpty(ctx)
	}
	if o.text != "" {
		// net/http knows this reader, and sends head and body in one packet. If that finds
		// the connection closed, it takes another; with other readers it does not.
		req.GetBody = func() (io.ReadCloser, error) { return text(o.text).Open() }
		body, err := req.GetBody()
		req.Body = body
		return err
	}
	req.GetBody = func() (io.ReadCloser, error) { return o.start(ctx) }
	body, err := o.start(ctx)
	req.Body = body
	return err
}

// probeEmpty checks that a source of no bytes holds none.
func (o *outgoing) probeEmpty(ctx context.Context) error {
	r, err := o.start(ctx)
	if err != nil {
		return err
	}
	_, _ = r.Read(nil) // finish tells what was wrong
	return o.finish()
}

// start opens the source from its beginning. A reader that is still open is closed
// first.
func (o *outgoing) start(ctx context.Context) (io.ReadCloser, error) {
	o.halt()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut()
	waiting, stop := context.WithCancel(ctx)
	o.stop.Store(&stop)
	r, err := o.open(waiting)
	if err != nil {
		o.err = err
		return nil, err
	}
	if o.sums != nil {
		o.sums.Reset()
	}
	o.current = &outReader{o: o, ctx: ctx, stop: stop, r: r, left: o.size}
	return o.current, nil
}

// shut closes the open reader. mu is held.
func (o *outgoing) shut() {
	if o.current == nil {
		return
	}
	err := o.current.r.Close()
	if o.err == nil {
		o.err = err
	}
	o.current.over, o.current = true, nil
}

// halt ends the waiting for more of a body that grows: the request is over.
func (o *outgoing) halt() {
	if stop := o.stop.Load(); stop != nil {
		(*stop)()
	}
}

// follow halts a body that grows when conn is closed. The transport notices at once that
// the server has gone, but waits for the reader of the body, who may have to wait long.
func (o *outgoing) follow(conn net.Conn) {
	if o == nil || o.size >= 0 {
		return
	}
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn() // below TLS
	}
	if bulk, ok := conn.(*gatherConn); ok {
		o.unwatch(bulk.watch(o.halt))
	}
}

// unwatch forgets the connection before, and takes note of how to forget the next.
func (o *outgoing) unwatch(next func()) {
	if last := o.unfollow.Swap(&next); last != nil {
		(*last)()
	}
}

// finish ends all reading and returns what was wrong with the source, if anything.
func (o *outgoing) finish() error {
	o.unwatch(func() {})
	o.halt()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shut()
	return o.err
}

// complete tells whether the server may have got the whole of the body.
func (o *outgoing) complete() bool {
	if o == nil {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.whole || o.size == 0
}

// outReader is one pass over an outgoing. The fields that change are guarded by o.mu.
type outReader struct {
	o    *outgoing
	ctx  context.Context
	stop context.CancelFunc // of the context that r was opened with
	r    io.ReadCloser
	left int64
	// complete: all bytes were given, and the source ended there. over: the request
	// is, nothing more may be read.
	complete, over bool
}

// Read implements io.Reader. It gives exactly the size and then io.EOF.
func (r *outReader) Read(p []byte) (int, error) {
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	switch {
	case r.complete:
		// Also when the answer came before the transport asked for the end.
		return 0, io.EOF
	case r.over:
		return 0, errOver
	}
	if r.o.size >= 0 {
		p = p[:min(int64(len(p)), r.left)]
	}
	n, err := r.r.Read(p)
	r.left -= int64(n)
	if r.o.sums != nil {
		_, _ = r.o.sums.Write(p[:n]) // cannot fail
	}
	if n > 0 {
		remote.Progress(r.ctx)
	}
	switch {
	case r.o.size < 0:
		if err == io.EOF {
			r.complete, r.o.whole = true, true
		}
	case err == io.EOF && r.left > 0:
		err = errShort
	case (err == io.EOF || err == nil) && r.left == 0:
		// Asked before the last bytes are out, so that the server never has the
		// whole of a body that is wrong.
		if err = atEnd(r.r); err != nil {
			n = 0
		} else {
			r.complete, r.o.whole, err = true, true, io.EOF
		}
	}
	return n, r.o.wrong(err)
}

// WriteTo implements io.WriterTo, for bodies that are sent without a length.
func (r *outReader) WriteTo(w io.Writer) (int64, error) {
	return copyPieces(w, struct{ io.Reader }{r})
}

// wrong notes an error of the source.
func (o *outgoing) wrong(err error) error {
	if err != nil && err != io.EOF && err != errGone && o.err == nil {
		o.err = err
	}
	return err
}

// Close implements io.Closer.
func (r *outReader) Close() error {
	r.stop()
	r.o.mu.Lock()
	defer r.o.mu.Unlock()
	if !r.over {
		r.o.shut()
	}
	return nil
}
