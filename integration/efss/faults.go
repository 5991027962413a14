package efss

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Fault says what goes wrong with one request. The zero value changes nothing;
// fields may be combined. Positions count bytes of a body from 0 and are used when
// the Cut, Stall or Flip before them is true.
type Fault struct {
	Delay time.Duration // before anything else

	// Status, if not 0, is answered at once, with Header and Body; the request is
	// not carried out.
	Status int
	Header http.Header
	Body   string

	// Abort closes the connection and carries nothing out.
	Abort bool
	// Hang takes the request and does not answer, until the client gives up. Nothing is
	// carried out.
	Hang bool
	// LoseReply carries the request out and closes the connection in place of the
	// answer.
	LoseReply bool

	// GiveUp, if not 0, is answered at once, as by a gateway that has waited long enough;
	// behind it the request is carried out, after Behind.
	GiveUp int
	Behind time.Duration

	// CutRequest makes the server see the client die at RequestAt of the request's
	// body. The connection is closed afterwards.
	CutRequest bool
	RequestAt  int64

	// CutReply closes the connection at ReplyAt of the answer's body; Stall stops
	// sending there until the client gives up, or until Resume (if not nil) is closed.
	CutReply, Stall bool
	ReplyAt         int64
	Resume          <-chan struct{}
	// Flip inverts the lowest bit of the byte at FlipAt of the answer's body.
	Flip   bool
	FlipAt int64
	// LengthDelta is added to the Content-Length of the answer. The body stays as
	// it is: it is cut, or the connection ends early.
	LengthDelta int64
	// PerSecond limits the answer's body to that many bytes a second.
	PerSecond int64

	// Responses are written, as they are, into a multistatus answer after the real
	// entries: hostile or broken listings.
	Responses []string
}

// SetFaults installs a function that is asked at each request whether and how it is
// to fail (nil: it is not). nil takes the function out. The function is called from
// many goroutines and must not read the body.
func (s *Server) SetFaults(hook func(*http.Request) *Fault) {
	if hook == nil {
		s.faults.Store(nil)
		return
	}
	s.faults.Store(&hook)
}

type faultKey struct{}

// inject runs next under the fault that the hook returns.
func (s *Server) inject(rec *recorder, r *http.Request, next func(http.ResponseWriter, *http.Request)) {
	var f *Fault
	if hook := s.faults.Load(); hook != nil {
		f = (*hook)(r)
	}
	if f == nil {
		next(rec, r)
		return
	}
	if !sleep(r.Context(), f.Delay) || f.Abort {
		hangUp(rec)
	}
	if f.Hang {
		// The end of a connection is noticed only once the body has been read.
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	}
	if f.Status != 0 {
		f.answer(rec)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), faultKey{}, f))
	if f.GiveUp != 0 {
		f.giveUp(rec, r, next)
		return
	}
	if f.CutRequest {
		r.Body = &cutBody{r.Body, f.RequestAt}
	}
	if f.LoseReply {
		next(&lostReply{header: http.Header{}}, r)
		panic(http.ErrAbortHandler)
	}
	next(&faultyWriter{recorder: rec, f: f, r: r, room: -1}, r)
	if f.CutRequest || f.LengthDelta > 0 {
		_ = http.NewResponseController(rec).Flush()
		panic(http.ErrAbortHandler)
	}
}

// hangUp closes the connection at once. A handler that only ends in a panic has the rest
// of the body read first, however long that takes to come.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil { // not of HTTP/2
		_ = conn.Close() // that is the fault
	}
	panic(http.ErrAbortHandler)
}

func (f *Fault) answer(w http.ResponseWriter) {
	for name, values := range f.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, f.Body)
}

// giveUp answers like a gateway and goes on behind it. The client needs another
// connection meanwhile.
func (f *Fault) giveUp(rec *recorder, r *http.Request, next func(http.ResponseWriter, *http.Request)) {
	rec.Header().Set("Connection", "close")
	rec.Header().Set("Content-Length", "0")
	rec.WriteHeader(f.GiveUp)
	_ = http.NewResponseController(rec).Flush()
	ctx := context.WithoutCancel(r.Context())
	sleep(ctx, f.Behind)
	next(&lostReply{header: http.Header{}}, r.WithContext(ctx))
}

// extraResponses writes what the fault adds to a listing.
func (q *request) extraResponses(l *listWriter) {
	if f, ok := q.r.Context().Value(faultKey{}).(*Fault); ok {
		for _, text := range f.Responses {
			_, _ = l.out.WriteString(text)
		}
	}
}

// sleep waits and tells whether the context still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// cutBody is a request body that ends too early.
type cutBody struct {
	io.ReadCloser
	left int64
}

func (b *cutBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// lostReply takes an answer that nobody will see.
type lostReply struct{ header http.Header }

func (l *lostReply) Header() http.Header         { return l.header }
func (l *lostReply) Write(p []byte) (int, error) { return len(p), nil }
func (l *lostReply) WriteHeader(int)             {}
func (l *lostReply) started() bool               { return false }

// recorder notes what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) started() bool { return r.status != 0 }

// faultyWriter spoils the body of an answer.
type faultyWriter struct {
	*recorder
	f    *Fault
	r    *http.Request
	room int64 // bytes that a false Content-Length leaves, -1 for no limit
}

func (w *faultyWriter) WriteHeader(status int) {
	h := w.Header()
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && w.f.LengthDelta != 0 {
		w.room = max(0, n+w.f.LengthDelta)
		h.Set("Content-Length", strconv.FormatInt(w.room, 10))
	}
	w.recorder.WriteHeader(status)
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	if !w.started() {
		w.WriteHeader(http.StatusOK)
	}
	total := 0
	for len(p) > 0 {
		n, err := w.some(p)
		total, p = total+n, p[n:]
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// some writes a piece up to the next thing that goes wrong.
func (w *faultyWriter) some(p []byte) (int, error) {
	at := w.bytes
	if w.room >= 0 {
		if at == w.room {
			return len(p), nil
		}
		p = p[:min(int64(len(p)), w.room-at)]
	}
	if w.f.CutReply || w.f.Stall {
		if at >= w.f.ReplyAt {
			w.stop()
		} else {
			p = p[:min(int64(len(p)), w.f.ReplyAt-at)]
		}
	}
	if w.f.PerSecond > 0 {
		p = p[:min(int64(len(p)), max(1, w.f.PerSecond/20))]
		if !sleep(w.r.Context(), time.Duration(len(p))*time.Second/time.Duration(w.f.PerSecond)) {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = http.NewResponseController(w.recorder).Flush() }()
	}
	if i := w.f.FlipAt - at; w.f.Flip && i >= 0 && i < int64(len(p)) {
		q := append([]byte(nil), p...)
		q[i] ^= 1
		p = q
	}
	return w.recorder.Write(p)
}

// stop ends the answer where it is, or returns when it may go on.
func (w *faultyWriter) stop() {
	_ = http.NewResponseController(w.recorder).Flush()
	if w.f.Stall {
		select {
		case <-w.f.Resume:
			return
		case <-w.r.Context().Done():
		}
	}
	panic(http.ErrAbortHandler)
}

// Request is one request that was answered.
type Request struct {
	Method string
	Path   string // escaped, as it came
	Header http.Header
	Status int   // 0 if the connection was closed without an answer
	Sent   int64 // bytes of the answer's body
	At     time.Time
}

// maxRequests is how many requests are kept. The counters go on beyond.
const maxRequests = 100_000

// requestLog remembers what was asked.
type requestLog struct {
	mu    sync.Mutex
	all   []Request
	count map[string]int
}

func (l *requestLog) start(r *http.Request, now time.Time) Request {
	h := r.Header.Clone()
	h.Del("Authorization")
	return Request{Method: r.Method, Path: r.URL.EscapedPath(), Header: h, At: now}
}

func (l *requestLog) finish(seen Request, rec *recorder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen.Status, seen.Sent = rec.status, rec.bytes
	if l.count == nil {
		l.count = map[string]int{}
	}
	l.count[seen.Method]++
	if len(l.all) < maxRequests {
		l.all = append(l.all, seen)
	}
}

// Requests returns the requests since the start or the last ResetRequests, in the
// order in which they ended; the first 100,000 of them. Credentials are left out.
func (s *Server) Requests() []Request {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	return append([]Request(nil), s.requests.all...)
}

// Count returns how many requests of a method were answered since the start or the
// last ResetRequests; "" counts all.
func (s *Server) Count(method string) int {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	if method != "" {
		return s.requests.count[method]
	}
	total := 0
	for _, n := range s.requests.count {
		total += n
	}
	return total
}

// ResetRequests forgets all requests.
func (s *Server) ResetRequests() {
	s.requests.mu.Lock()
	defer s.requests.mu.Unlock()
	s.requests.all, s.requests.count = nil, nil
}
