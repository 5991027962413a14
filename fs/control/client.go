package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
)

// Client talks to the server behind a control socket. Its methods may be called from
// many goroutines. Their errors are *remote.Error: NotExist if nobody listens there,
// Permission if it is another user's, Unavailable if there is no proper answer, and
// otherwise what the server says; or the error of the context.
type Client struct {
	name string
	http *http.Client
	own  int // user of this process
}

// NewClient returns a client for the socket of that name. It does nothing yet.
func NewClient(name string) *Client {
	c := &Client{name: name, own: os.Geteuid()}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }, DisableKeepAlives: true,
	}}
	return c
}

// Refresh has the mount forget what it remembers of a path within it, and below that.
func (c *Client) Refresh(ctx context.Context, path string) error {
	if err := checkText("refresh", path); err != nil {
		return err
	}
	return c.post(ctx, "refresh", pathRefresh, pathRequest{Path: path}, new(struct{}))
}

// checkText refuses a name that JSON would change.
func checkText(op, path string) error {
	if utf8.ValidString(path) {
		return nil
	}
	return &remote.Error{Op: op, Path: path, Kind: remote.Invalid, Err: errors.New("the name is not UTF-8")}
}

// Stats returns what the mount has done.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var s Stats
	err := c.call(ctx, "stats", http.MethodGet, pathStats, nil, &s)
	return s, err
}

// dial connects, and looks who is there.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	p, err := locate(c.name)
	if err != nil {
		return nil, err
	}
	defer p.close()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", p.addr.Name)
	if err != nil {
		return nil, err
	}
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errPeer, conn.Close())
	}
	uid, err := peer(unix)
	if err == nil && c.own != 0 && !trusted(c.own, uid) {
		err = errPeer
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// post sends a request with a body and reads the answer into result.
func (c *Client) post(ctx context.Context, op, path string, request, result any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.call(ctx, op, http.MethodPost, path, body, result)
}

// call sends a request and reads the answer into result.
func (c *Client) call(ctx context.Context, op, method, path string, body []byte, result any) error {
	answer, err := c.send(ctx, op, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	if err := json.NewDecoder(io.LimitReader(answer, maxAnswer)).Decode(result); err != nil {
		return c.failed(ctx, op, err)
	}
	return nil
}

// send sends a request and returns the body of the answer, to be closed, or the error
// that the answer tells.
func (c *Client) send(ctx context.Context, op, method, path string, body []byte) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://meshmount"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.failed(ctx, op, err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer func() { _ = response.Body.Close() }()
	var f failure
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&f); err != nil || f.Kind == "" {
		return nil, c.failed(ctx, op, fmt.Errorf("the answer %s is not understood", response.Status))
	}
	return nil, f.error(op)
}

// failed makes the error of a request that got no proper answer.
func (c *Client) failed(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	kind := remote.Unavailable
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		kind = remote.NotExist
	case errors.Is(err, errPeer), errors.Is(err, fs.ErrPermission):
		kind = remote.Permission
	}
	if inner := errors.Unwrap(err); inner != nil { // without the request and its URL
		err = inner
	}
	return &remote.Error{Op: op, Kind: kind, Err: fmt.Errorf("control socket %s: %w", c.name, err)}
}

// error makes the error that the server meant.
func (f *failure) error(op string) error {
	e := &remote.Error{Op: op, Path: f.Path}
	for _, k := range remote.Kinds() {
		if k.String() == f.Kind {
			e.Kind = k
		}
	}
	if f.Message != "" {
		e.Err = errors.New(f.Message)
	}
	return e
}
