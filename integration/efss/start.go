package efss

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"
)

// StartOptions say how Start listens.
type StartOptions struct {
	Addr string // default 127.0.0.1:0, any free port
	// TLS serves https, with HTTP/2, under a certificate of the server's own
	// authority, which lies in Options.Dir and stays the same over restarts.
	TLS bool
	// NotAfter is when the certificate expires, by default a year from now. A time
	// in the past makes an expired one.
	NotAfter time.Time
}

// Running is a server that listens on a socket.
type Running struct {
	*Server
	BaseURL string // scheme://host:port
	CAFile  string // PEM file with the authority's certificate, "" without TLS

	http  *http.Server
	done  sync.WaitGroup
	serve error // set before done
}

// Start makes a Server and serves it. Stop it with Close.
func Start(opts Options, start StartOptions) (*Running, error) {
	s, err := New(opts)
	if err != nil {
		return nil, err
	}
	r, err := listen(s, start)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("efss: %w", err), s.Close())
	}
	return r, nil
}

func listen(s *Server, start StartOptions) (*Running, error) {
	if start.Addr == "" {
		start.Addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", start.Addr)
	if err != nil {
		return nil, err
	}
	r := &Running{Server: s, BaseURL: "http://" + l.Addr().String()}
	r.http = &http.Server{Handler: s, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	serve := func() error { return r.http.Serve(l) }
	if start.TLS {
		cert, ca, err := serverCertificate(filepath.Join(s.opts.Dir, "tls"), start.NotAfter)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		r.BaseURL, r.CAFile = "https://"+l.Addr().String(), ca
		r.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		serve = func() error { return r.http.ServeTLS(l, "", "") }
	}
	r.done.Go(func() { r.serve = serve() })
	return r, nil
}

// DAVURL returns the URL of a user's root collection, with a slash at the end.
func (r *Running) DAVURL(user string) string { return r.BaseURL + r.DAVPath(user) }

// Close cuts all connections, waits for what runs and closes the Server.
func (r *Running) Close() error {
	err := r.http.Close()
	r.done.Wait()
	if !errors.Is(r.serve, http.ErrServerClosed) {
		err = errors.Join(err, r.serve)
	}
	return errors.Join(err, r.Server.Close())
}
