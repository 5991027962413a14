package httpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Options configure a server. The zero value is an open server without login.
type Options struct {
	// User and Password guard the server; without them everybody may do all.
	User, Password string
	// Digest asks for digest in place of basic authentication. Apache only.
	Digest bool
	// DepthInfinity allows PROPFIND with Depth infinity, which Apache refuses by
	// default. Apache only.
	DepthInfinity bool
	// TLS serves https with a certificate that is signed by itself (Server.CAFile) and
	// HTTP/2, unless NoHTTP2 is set. Apache only.
	TLS, NoHTTP2 bool
}

// Server is a running WebDAV server. Its root collection is at URL.
type Server struct {
	URL string // http[s]://127.0.0.1:port/, with a slash at the end
	Dir string // the directory whose files are served
	Pid int    // of the server's main process
	// CAFile is the PEM file of the certificate, "" without TLS.
	CAFile string

	process *process
	home    string // everything of the server; removed by Close
}

// errMissing tells people what to do about a program that is not installed.
func errMissing(program string) error {
	return fmt.Errorf("httpd: %s is not installed: run `make deps`", program)
}

// newServer makes the directories. Other users may walk into them, because Apache
// gives up root's rights.
func newServer() (*Server, error) {
	home, err := os.MkdirTemp("", "httpd-")
	if err != nil {
		return nil, err
	}
	s := &Server{home: home, Dir: filepath.Join(home, "files")}
	if err := errors.Join(os.Chmod(home, 0o755), os.Mkdir(s.Dir, 0o755)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(home))
	}
	return s, nil
}

// startTime is how long a server may take to accept connections.
const startTime = 4 * time.Minute

// run starts the program and waits until it accepts connections at addr.
func (s *Server) run(cmd *exec.Cmd, addr string) error {
	var err error
	if s.process, err = launch(cmd); err != nil {
		return err
	}
	s.Pid = cmd.Process.Pid
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		if err := s.process.ended(); err != nil {
			return err
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("no answer at %s: %s", addr, s.process.out), s.process.stop())
		case <-s.process.done:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Close ends the server, waits for it and removes its directories.
func (s *Server) Close() error {
	err := s.process.stop()
	return errors.Join(err, os.RemoveAll(s.home))
}

// freeAddr returns a loopback address that nobody listens on at the moment.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// startTries is how often a server is started anew when somebody else took its port.
const startTries = 3

// start tries to run the command that build makes for an address.
func start(build func(s *Server, addr string) (*exec.Cmd, error)) (*Server, error) {
	var failed error
	for range startTries {
		s, err := newServer()
		if err != nil {
			return nil, fmt.Errorf("httpd: %w", err)
		}
		addr, err := freeAddr()
		if err == nil {
			var cmd *exec.Cmd
			if cmd, err = build(s, addr); err == nil {
				err = s.run(cmd, addr)
			}
		}
		if err == nil {
			s.URL = "http://" + addr + "/"
			if s.CAFile != "" {
				s.URL = "https://" + addr + "/"
			}
			return s, nil
		}
		failed = errors.Join(err, os.RemoveAll(s.home))
	}
	return nil, fmt.Errorf("httpd: %w", failed)
}

// TB is the part of testing.TB that Run needs.
type TB interface {
	Helper()
	Fatal(args ...any)
	Error(args ...any)
	Cleanup(func())
}

// Run starts a server for a test and stops it at the test's end:
//
//	s := httpd.Run(t, httpd.Start, httpd.Options{})
func Run(t TB, start func(Options) (*Server, error), opts Options) *Server {
	t.Helper()
	s, err := start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
