package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Server answers on a control socket.
type Server struct {
	name   string
	made   os.FileInfo // of the socket
	http   *http.Server
	target Target
	log    *slog.Logger
	owner  int // user that may talk to it, besides root
	ended  sync.WaitGroup
	cancel context.CancelFunc // of the context of all requests

	answering sync.RWMutex // held for reading while a request is answered
	closed    bool         // guarded by answering
}

// Bounds of what a client may do to the server.
const (
	maxBody    = 64 << 10 // bytes; a path has at most 4 KiB
	readTime   = 10 * time.Second
	closePause = time.Second // for requests that are being answered
)

// Listen makes a socket with that name, in place of what a process that has died may
// have left there, and answers on it until Close. log gets a line for what cannot be
// told to a client, nil for none.
func Listen(name string, t Target, log *slog.Logger) (*Server, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	listener, made, err := bind(name)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{name: name, made: made, target: t, log: log, owner: os.Geteuid(), cancel: cancel}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathRefresh, s.refresh)
	mux.HandleFunc("GET "+pathStats, s.stats)
	s.handleChanges(mux)
	s.http = &http.Server{
		Handler: s.guard(mux), ReadTimeout: readTime, MaxHeaderBytes: maxBody,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: withPeer, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	s.ended.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the control socket has failed", "socket", name, "err", err)
		}
	})
	return s, nil
}

// bind makes the socket under another name and renames it when only its owner can use it.
func bind(name string) (*net.UnixListener, os.FileInfo, error) {
	temporary := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, err
	}
	p, err := locate(temporary)
	if err != nil {
		return nil, nil, err
	}
	defer p.close()
	listener, err := net.ListenUnix("unix", p.addr)
	if err != nil {
		return nil, nil, err
	}
	listener.SetUnlinkOnClose(false)
	made, err := publish(temporary, name)
	if err != nil {
		return nil, nil, errors.Join(err, os.Remove(temporary), listener.Close())
	}
	return listener, made, nil
}

func publish(temporary, name string) (os.FileInfo, error) {
	if err := os.Chmod(temporary, 0o600); err != nil {
		return nil, err
	}
	made, err := os.Lstat(temporary)
	if err != nil {
		return nil, err
	}
	return made, os.Rename(temporary, name)
}

// Close ends the server, waits for its goroutines and removes the socket, if it still
// is its own. Requests that are being answered get a moment to end.
func (s *Server) Close() error {
	var errs []error
	if now, err := os.Lstat(s.name); err == nil && os.SameFile(now, s.made) {
		errs = append(errs, os.Remove(s.name))
	}
	ctx, cancel := context.WithTimeout(context.Background(), closePause)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		errs = append(errs, s.http.Close())
	}
	s.cancel()
	s.ended.Wait()
	s.answering.Lock()
	defer s.answering.Unlock()
	s.closed = true
	return errors.Join(errs...)
}

type peerKey struct{}

// peerUser is who is at the other end of a connection.
type peerUser struct {
	uid int
	err error
}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	who := peerUser{-1, errPeer}
	if unix, ok := conn.(*net.UnixConn); ok {
		who.uid, who.err = peer(unix)
	}
	return context.WithValue(ctx, peerKey{}, who)
}

// guard refuses other users.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.answering.RLock()
		defer s.answering.RUnlock()
		if s.closed {
			s.fail(w, &remote.Error{Op: "control", Kind: remote.Unavailable, Err: errors.New("the mount is ending")})
			return
		}
		who, ok := r.Context().Value(peerKey{}).(peerUser)
		if !ok || who.err != nil || !trusted(s.owner, who.uid) {
			s.log.Warn("a process of another user was refused at the control socket", "uid", who.uid)
			s.fail(w, &remote.Error{Op: "control", Kind: remote.Permission, Err: errPeer})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// read takes a request's body into request, or answers what is wrong with it.
func (s *Server) read(w http.ResponseWriter, r *http.Request, op string, request any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(request); err != nil {
		s.fail(w, &remote.Error{Op: op, Kind: remote.Invalid, Err: err})
		return false
	}
	return true
}

// readPath takes the path out of a request's body, or answers what is wrong with it.
func (s *Server) readPath(w http.ResponseWriter, r *http.Request, op string) (string, bool) {
	var request pathRequest
	if !s.read(w, r, op, &request) {
		return "", false
	}
	if err := remote.CheckPath(op, request.Path); err != nil {
		s.fail(w, err)
		return "", false
	}
	return request.Path, true
}

func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	path, ok := s.readPath(w, r, "refresh")
	if !ok {
		return
	}
	if err := s.target.Refresh(r.Context(), path); err != nil {
		s.fail(w, err)
		return
	}
	s.answer(w, http.StatusOK, struct{}{})
}

func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	stats, err := s.target.Stats(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	s.answer(w, http.StatusOK, stats)
}

// statuses are the kinds of errors that have a status of HTTP to themselves.
var statuses = map[remote.Kind]int{
	remote.NotExist: http.StatusNotFound, remote.Permission: http.StatusForbidden, remote.Invalid: http.StatusBadRequest,
	remote.Unavailable: http.StatusServiceUnavailable, remote.Unsupported: http.StatusNotImplemented,
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, err error) {
	kind := remote.KindOf(err)
	status, ok := statuses[kind]
	if !ok {
		status = http.StatusInternalServerError
	}
	s.answer(w, status, failureOf(err))
}

// failureOf tells an error to a client.
func failureOf(err error) failure {
	body := failure{Kind: remote.KindOf(err).String(), Message: err.Error()}
	if e, ok := errors.AsType[*remote.Error](err); ok {
		body.Path, body.Message = e.Path, ""
		if e.Err != nil {
			body.Message = e.Err.Error()
		}
	}
	return body
}

func (s *Server) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.log.Debug("a client of the control socket went away", "err", err)
	}
}
