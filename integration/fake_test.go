package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// fakeDAV is a server whose listing of the root is made up: it writes whatever the
// test wants, and knows every name of good as a file of some bytes.
type fakeDAV struct {
	*httptest.Server
	good map[string]string
	// list writes the children of the root, each as response does.
	list func(w io.Writer)
	// cut ends the listing without its end tag.
	cut atomic.Bool
	get http.HandlerFunc // if set, answers GET
	// refused and asked count requests with credentials.
	refuse  atomic.Bool
	refused atomic.Int64
}

const multistatus = `<?xml version="1.0" encoding="utf-8"?>` + "\n" + `<D:multistatus xmlns:D="DAV:">` + "\n"

// startFake starts the server. get may be nil.
func startFake(t *testing.T, good map[string]string, list func(w io.Writer), get http.HandlerFunc) *fakeDAV {
	t.Helper()
	f := &fakeDAV{good: good, list: list, get: get}
	return f.start(t, f)
}

// start starts the server with its handler or one around it.
func (f *fakeDAV) start(t *testing.T, handler http.Handler) *fakeDAV {
	f.Server = httptest.NewServer(handler)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeDAV) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if _, _, ok := r.BasicAuth(); ok && f.refuse.Load() {
		f.refused.Add(1)
	}
	name := strings.Trim(r.URL.Path, "/")
	content, isFile := f.good[name]
	switch {
	case f.refuse.Load():
		w.Header().Set("WWW-Authenticate", `Basic realm="fake"`)
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodOptions:
		w.Header().Set("DAV", "1")
		w.Header().Set("Allow", "OPTIONS, GET, HEAD, PROPFIND, PUT, DELETE, MKCOL, MOVE")
	case r.Method == "PROPFIND" && (name == "" || isFile):
		f.propfind(w, r, name)
	case r.Method == http.MethodGet && isFile && f.get != nil:
		f.get(w, r)
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && isFile:
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", longAgo, strings.NewReader(content))
	default:
		http.NotFound(w, r)
	}
}

func (f *fakeDAV) propfind(w http.ResponseWriter, r *http.Request, name string) {
	w.Header().Set("Content-Type", "application/xml; charset=utf-8")
	w.WriteHeader(http.StatusMultiStatus)
	_, _ = io.WriteString(w, multistatus)
	if content, ok := f.good[name]; ok {
		response(w, "/"+name, len(content))
	} else {
		response(w, "/", -1)
		if r.Header.Get("Depth") != "0" {
			f.list(w)
			if f.cut.Load() {
				return
			}
		}
	}
	_, _ = io.WriteString(w, "</D:multistatus>\n")
}

const longAgoText = "Tue, 04 Mar 2014 05:06:07 GMT"

// longAgo is the modification time of everything.
var longAgo = mustTime(longAgoText)

// response writes one element of a multistatus: a file of size bytes, or a
// collection if size is negative. href is written as it is.
func response(w io.Writer, href string, size int) {
	kind := "<D:resourcetype/>"
	if size < 0 {
		kind = "<D:resourcetype><D:collection/></D:resourcetype>"
	} else {
		kind += fmt.Sprintf(`<D:getcontentlength>%d</D:getcontentlength><D:getetag>"1"</D:getetag>`, size)
	}
	_, _ = fmt.Fprintf(w, "<D:response><D:href>%s</D:href><D:propstat><D:prop>%s<D:getlastmodified>%s</D:getlastmodified></D:prop>"+
		"<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>\n", href, kind, longAgoText)
}

// relay is a TCP proxy before a server that can be frozen: connections stay open
// and new ones are accepted, but no byte moves any more.
type relay struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	thawed   chan struct{} // closed while bytes may move
	conns    map[net.Conn]bool
	wait     sync.WaitGroup
}

// startRelay relays to target ("host:port").
func startRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target, thawed: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(r.thawed)
	r.wait.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.thawed = make(chan struct{})
}

func (r *relay) thaw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.thawed:
	default:
		close(r.thawed)
	}
}

func (r *relay) close() {
	_ = r.listener.Close()
	r.thaw()
	r.mu.Lock()
	for c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wait.Wait()
}

// keep notes a connection for close.
func (r *relay) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = true
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.keep(client)
		r.wait.Go(func() {
			server, err := net.Dial("tcp", r.target)
			if err != nil {
				_ = client.Close()
				return
			}
			r.keep(server)
			r.wait.Go(func() { r.copy(server, client) })
			r.copy(client, server)
		})
	}
}

// copy moves bytes while thawed and closes both ends when one is at its end.
func (r *relay) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		thawed := r.thawed
		r.mu.Unlock()
		<-thawed
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
