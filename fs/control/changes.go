package control

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// handleChanges adds what is about changes that are not on their servers yet.
func (s *Server) handleChanges(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathStatus, s.status)
	mux.HandleFunc("GET "+pathItems, s.items)
	mux.HandleFunc("GET "+pathProgress, s.progress)
	mux.HandleFunc("POST "+pathFlush, s.flush)
	mux.HandleFunc("POST "+pathRetry, s.retry)
	mux.HandleFunc("POST "+pathDrop, s.drop)
	mux.HandleFunc("POST "+pathExport, s.export)
	mux.HandleFunc("POST "+pathPause, func(w http.ResponseWriter, r *http.Request) { s.pause(w, r, true) })
	mux.HandleFunc("POST "+pathResume, func(w http.ResponseWriter, r *http.Request) { s.pause(w, r, false) })
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	items, err := strconv.Atoi(r.URL.Query().Get("items"))
	if err != nil || items < 0 {
		s.fail(w, &remote.Error{Op: "status", Kind: remote.Invalid, Err: errors.New("items is no number")})
		return
	}
	status, err := s.target.Status(r.Context(), min(items, MaxItems))
	s.reply(w, status, err)
}

func (s *Server) progress(w http.ResponseWriter, r *http.Request) {
	progress, err := s.target.Progress(r.Context())
	s.reply(w, progress, err)
}

func (s *Server) retry(w http.ResponseWriter, r *http.Request) {
	var request retryRequest
	if !s.read(w, r, "retry", &request) {
		return
	}
	if request.All == (request.ID != 0) {
		s.fail(w, &remote.Error{Op: "retry", Kind: remote.Invalid, Err: errors.New("either an id or all")})
		return
	}
	if request.All {
		count, err := s.target.RetryAll(r.Context())
		s.reply(w, retryAnswer{count}, err)
		return
	}
	s.reply(w, retryAnswer{1}, s.target.Retry(r.Context(), request.ID))
}

func (s *Server) drop(w http.ResponseWriter, r *http.Request) {
	var request dropRequest
	if !s.read(w, r, "drop", &request) {
		return
	}
	if !request.Lose {
		s.fail(w, &remote.Error{Op: "drop", Kind: remote.Invalid, Err: errors.New("the request does not say that data may be lost")})
		return
	}
	s.reply(w, struct{}{}, s.target.Drop(r.Context(), request.ID))
}

func (s *Server) pause(w http.ResponseWriter, r *http.Request, hold bool) {
	s.reply(w, struct{}{}, s.target.Pause(r.Context(), hold))
}

// reply answers with a body, or with the error if there is one.
func (s *Server) reply(w http.ResponseWriter, body any, err error) {
	if err != nil {
		s.fail(w, err)
		return
	}
	s.answer(w, http.StatusOK, body)
}

// lines begins an answer in lines. The function writes one, for one goroutine at a time;
// its error is that of a client that has gone away.
func lines(w http.ResponseWriter) func(line) error {
	control := http.NewResponseController(w)
	// The time to read a request must not end what waits for the answer.
	_ = control.SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	encoder := json.NewEncoder(w)
	return func(l line) error {
		if err := encoder.Encode(l); err != nil || l.Item != nil {
			return err // items come in numbers
		}
		return control.Flush()
	}
}

// end writes the last line.
func (s *Server) end(write func(line) error, err error, left *Leftovers) {
	last := line{End: true, Left: left}
	if err != nil {
		f := failureOf(err)
		last.Error = &f
	}
	if err := write(last); err != nil {
		s.log.Debug("a client of the control socket went away", "err", err)
	}
}

func (s *Server) items(w http.ResponseWriter, r *http.Request) {
	write := lines(w)
	err := s.target.Items(r.Context(), func(i Item) error { return write(line{Item: &i}) })
	s.end(write, err, nil)
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	var request exportRequest
	if !s.read(w, r, "export", &request) {
		return
	}
	if !filepath.IsAbs(request.Dir) {
		s.fail(w, &remote.Error{Op: "export", Kind: remote.Invalid, Err: errors.New("the directory's name is not absolute")})
		return
	}
	write := lines(w)
	err := s.target.Export(r.Context(), request.Dir, request.IDs, func(e Exported) error { return write(line{Exported: &e}) })
	s.end(write, err, nil)
}

// tellTime is how often progress is told.
const tellTime = time.Second

// flush waits for changes to be stored and tells how it goes.
func (s *Server) flush(w http.ResponseWriter, r *http.Request) {
	path, ok := s.readPath(w, r, "flush")
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	type outcome struct {
		left Leftovers
		err  error
	}
	done := make(chan outcome, 1)
	go func() { // waited for below
		left, err := s.target.Flush(ctx, path)
		done <- outcome{left, err}
	}()
	write, gone := lines(w), error(nil)
	tick := time.NewTicker(tellTime)
	defer tick.Stop()
	for {
		if progress, err := s.target.Progress(ctx); err == nil && gone == nil {
			gone = write(line{Progress: &progress})
		}
		if gone != nil {
			cancel()
		}
		select {
		case o := <-done:
			s.end(write, o.err, &o.left)
			return
		case <-tick.C:
		}
	}
}
