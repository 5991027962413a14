package efss

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Server is the handler of one embedded server. Make it with New.
type Server struct {
	opts  Options
	b     *behaviour
	log   *slog.Logger
	store *store

	users  map[string]User
	locks  *lockTable
	busy   *busyTable
	flows  *loginFlows
	nonces *nonceTable
	tus    *tusTable

	faults      atomic.Pointer[func(*http.Request) *Fault]
	requests    requestLog
	maintenance atomic.Bool
	authFailed  atomic.Int64

	life    sync.Mutex // guards closed and the growth of running
	closed  bool
	running sync.WaitGroup
}

// New opens the data below opts.Dir, makes what is missing and settles the catalog
// against the disk.
func New(opts Options) (*Server, error) {
	opts.setDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("efss: %w", err)
	}
	s := &Server{
		opts: opts, b: row(opts.Dialect), log: opts.Log, users: map[string]User{},
		locks: newLockTable(), busy: newBusyTable(), flows: newLoginFlows(), nonces: newNonceTable(), tus: newTusTable(),
	}
	var names []string
	for _, u := range opts.Users {
		s.users[u.Name] = u
		names = append(names, u.Name)
	}
	var err error
	s.store, err = openStore(opts.Dir, names, s.b, opts.Now, opts.Log)
	if err != nil {
		return nil, fmt.Errorf("efss: %w", err)
	}
	return s, nil
}

// Close refuses new requests, waits for those that run and ends the catalog. The
// connections are the http.Server's: close it first, or a stalled client holds Close
// up.
func (s *Server) Close() error {
	s.life.Lock()
	again := s.closed
	s.closed = true
	s.life.Unlock()
	if again {
		return nil
	}
	s.running.Wait()
	return s.store.close()
}

func (s *Server) enter() bool {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	}
	defer s.running.Done()
	seen := s.requests.start(r, s.opts.Now())
	rec := &recorder{ResponseWriter: w}
	defer func() { s.requests.finish(seen, rec) }()
	s.inject(rec, r, s.serve)
	s.log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status)
}

// serve answers a request that no fault has dealt with.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	q := &request{s: s, w: w, r: r}
	h := w.Header()
	h.Set("Date", s.opts.Now().UTC().Format(http.TimeFormat))
	for _, kv := range s.b.every {
		addRaw(h, kv[0], kv[1])
	}
	if err := q.dispatch(); err != nil {
		if w.(interface{ started() bool }).started() {
			panic(http.ErrAbortHandler) // the answer is spoilt: the client must notice
		}
		q.fail(err)
	}
}

// SetMaintenance switches maintenance mode: every DAV request is answered with 503
// and status.php says so.
func (s *Server) SetMaintenance(on bool) { s.maintenance.Store(on) }

// SetReadOnly marks what is at path, or lifts the mark: oc:permissions then grants
// reading only, and changing it, or making and removing entries in it, is refused
// with 403. It does not extend to what is below.
func (s *Server) SetReadOnly(user, path string, on bool) error {
	_, err := s.store.edit(user, path, true, func(n *node) { n.ReadOnly = on })
	return err
}

// Scan settles the catalog of a user against the disk, as an administrator does
// after changing files behind the server's back. It returns the number of
// differences found.
func (s *Server) Scan(user string) (int, error) {
	if _, ok := s.users[user]; !ok {
		return 0, fmt.Errorf("efss: no user %q", user)
	}
	return s.store.rescan(user)
}

// Disk returns the directory with a user's plain files.
func (s *Server) Disk(user string) string { return s.store.userDir(user) }

// DAVPath returns the URL path of a user's root collection, with a slash at the end.
func (s *Server) DAVPath(user string) string {
	if !strings.Contains(s.b.root, "%s") {
		return "/"
	}
	return fmt.Sprintf(s.b.root, escapePath(user)) + "/"
}

// AuthFailures returns how many requests brought credentials that were refused.
func (s *Server) AuthFailures() int { return int(s.authFailed.Load()) }

// Locks returns the number of DAV locks in force.
func (s *Server) Locks() int { return s.locks.count(s.opts.Now()) }

// request is one request under way.
type request struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	user string // who is logged in
	app  bool   // with an app password or token
	base string // URL path of the addressed tree's root, unescaped, without slash at the end
	path string // below that root, clean, rooted
}

func (q *request) b() *behaviour  { return q.s.b }
func (q *request) now() time.Time { return q.s.opts.Now() }

// header returns a request header.
func (q *request) header(name string) string { return q.r.Header.Get(name) }

// set sets an answer's header under exactly that spelling.
func (q *request) set(name, value string) { q.w.Header()[name] = []string{value} }

// reply ends an answer without a body.
func (q *request) reply(status int) error {
	h := q.w.Header()
	if q.b().errors == errorsSabre && h.Get("Content-Type") == "" && status != http.StatusNoContent {
		h.Set("Content-Type", "text/html; charset=UTF-8")
	}
	body := ""
	if status != http.StatusNoContent {
		switch q.b().errors {
		case errorsApache:
			body = apachePage(status, "Resource "+q.path)
			h.Set("Content-Type", "text/html; charset=ISO-8859-1")
		case errorsText:
			body = http.StatusText(status)
			h.Set("Content-Type", "text/plain; charset=utf-8")
		}
		h.Set("Content-Length", fmt.Sprint(len(body)))
	}
	q.w.WriteHeader(status)
	_, err := q.w.Write([]byte(body))
	if errors.Is(err, http.ErrBodyNotAllowed) {
		return nil
	}
	return err
}
