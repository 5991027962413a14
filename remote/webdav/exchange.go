package webdav

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// call is one operation of the Backend while it runs.
type call struct {
	b    *Backend
	op   string
	path string
}

// request is one HTTP request of a call.
type request struct {
	method  string
	url     string
	header  map[string]string
	body    *outgoing // nil: none
	changes bool      // a lost answer leaves open whether something was changed
	repeats bool      // harmless to send twice
	// work is how long the server may be at work before it answers, beyond the usual.
	work      time.Duration
	anonymous bool  // without credentials
	expects   int64 // bytes of the answer's body, if they are known to be many
}

// Limits on one request's ways around.
const (
	maxRedirects = 5
	maxLogins    = 5 // learning the scheme, a stale nonce, one secret refused, another tried
)

// send performs one request with login and redirects, and returns whatever answer
// comes. The caller closes its body.
func (c *call) send(ctx context.Context, r *request) (*http.Response, error) {
	target := r.url
	for hop := 0; ; hop++ {
		resp, err := c.login(ctx, r, target)
		if err != nil || !redirects(resp.StatusCode) {
			return resp, err
		}
		next, err := c.redirect(r, target, resp)
		closeBody(resp)
		if err != nil {
			return nil, err
		}
		if hop == maxRedirects {
			return nil, c.failf(remote.Unsupported, "the server redirects in circles")
		}
		target = next
	}
}

// login sends r to target until the server is content with the credentials or there
// are no others.
func (c *call) login(ctx context.Context, r *request, target string) (*http.Response, error) {
	for range maxLogins {
		p := &pass{a: c.b.noAuth}
		if c.b.ours(target) && !r.anonymous {
			var err error
			if p, err = c.b.auth.admit(ctx); err != nil {
				return nil, c.adopt(err)
			}
		}
		resp, err := c.once(ctx, r, target, p)
		if err != nil {
			p.release()
			return nil, err
		}
		again, err := p.settle(resp)
		if err == nil && !again {
			return resp, nil
		}
		closeBody(resp)
		if err != nil {
			return nil, c.adopt(err)
		}
	}
	return nil, c.fail(remote.Auth, errRefused)
}

// adopt gives an error of the login the name of this call.
func (c *call) adopt(err error) error {
	var e *remote.Error
	if !errors.As(err, &e) || e.Op != "login" {
		return err
	}
	return c.fail(e.Kind, e.Err)
}

// size returns how many bytes a request moves, as far as it is known.
func (r *request) size() int64 {
	switch {
	case r.body != nil && r.body.size < 0:
		return math.MaxInt64
	case r.body != nil:
		return max(r.expects, r.body.size)
	}
	return r.expects
}

// once sends r to target a single time, by the client that suits it.
func (c *call) once(ctx context.Context, r *request, target string, p *pass) (*http.Response, error) {
	w := c.b.wide
	if !w.takes(r.size()) {
		return c.onceOver(ctx, c.b.http, r, target, p, new(atomic.Bool))
	}
	var sent atomic.Bool
	resp, err := c.onceOver(ctx, w.client, r, target, p, &sent)
	if err == nil || sent.Load() || ctx.Err() != nil || remote.KindOf(err) != remote.Unavailable {
		return resp, err
	}
	c.b.opts.Logger.Debug("no way by HTTP/1.1", "why", err)
	if resp, err = c.onceOver(ctx, c.b.http, r, target, p, &sent); err == nil {
		w.faults.Add(1) // it is not that the server is away
	}
	return resp, err
}

// onceOver sends r to target by one client. sent tells whether any of it went out.
func (c *call) onceOver(ctx context.Context, over client, r *request, target string, p *pass, sent *atomic.Bool) (*http.Response, error) {
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(info httptrace.GotConnInfo) { r.body.follow(info.Conn) },
		WroteHeaders: func() { sent.Store(true) },
	})
	req, err := c.build(traced, r, target)
	if err != nil {
		return nil, c.sourceError(ctx, err)
	}
	if err := p.stamp(over.Client, req); err != nil {
		return nil, c.fail(remote.Auth, err)
	}
	resp, err := c.do(ctx, over, r, req)
	if r.body != nil {
		if berr := r.body.finish(); berr != nil {
			if err == nil {
				closeBody(resp)
			}
			return nil, c.sourceError(ctx, berr)
		}
	}
	if err != nil {
		return nil, c.broken(ctx, err, r.changes && sent.Load() && r.body.complete())
	}
	resp.Body = &incoming{ReadCloser: resp.Body, ctx: ctx}
	return resp, nil
}

// do sends req. While the server is at work on something long, nothing moves on the
// wire: that is progress as long as r.work allows.
func (c *call) do(ctx context.Context, over client, r *request, req *http.Request) (*http.Response, error) {
	if r.work <= 0 {
		return over.Do(req)
	}
	answered := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for end := time.Now().Add(r.work); time.Now().Before(end); {
			select {
			case <-answered:
				return
			case <-tick.C:
				remote.Progress(ctx)
			}
		}
	})
	defer wg.Wait()
	defer close(answered)
	return over.Do(req)
}

// build makes the http.Request.
func (c *call) build(ctx context.Context, r *request, target string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, target, nil)
	if err != nil {
		return nil, err
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", c.b.opts.UserAgent)
	if c.b.public() {
		// Nextcloud asks for it where its shares must not be mounted by other sites.
		req.Header.Set("X-Requested-With", "XMLHttpRequest")
	}
	if r.repeats {
		// Not sent, but tells the transport to try again when the server closed an
		// idle connection under us.
		req.Header["Idempotency-Key"] = []string{}
	}
	if r.body != nil {
		return req, r.body.attach(ctx, req)
	}
	return req, nil
}

// broken makes an error of a failed exchange. unsure says that the server may have
// acted on the request.
func (c *call) broken(ctx context.Context, err error, unsure bool) error {
	if cerr := remote.ContextErr(ctx); cerr != nil {
		var e *remote.Error
		if !errors.As(cerr, &e) {
			return cerr
		}
		return &remote.Error{Op: c.op, Path: c.path, Kind: e.Kind, Err: cerr, Unsure: unsure || e.Unsure}
	}
	// The URL around the cause may hold a share's token.
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return &remote.Error{Op: c.op, Path: c.path, Kind: networkKind(err), Err: err, Unsure: unsure}
}

// sourceError marks a failure on our side of an upload. No retry helps against a
// source that is not what it says, so it is Invalid; a source's own *remote.Error
// stays.
func (c *call) sourceError(ctx context.Context, err error) error {
	if cerr := remote.ContextErr(ctx); cerr != nil {
		return cerr
	}
	return remote.E(c.op, c.path, remote.Invalid, err)
}

func redirects(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// redirect returns where to go on. The method and body stay what they are. Another
// host is followed for reading only, and gets no credentials (XRootD and dCache send
// readers to their data servers); TLS is never left.
func (c *call) redirect(r *request, from string, resp *http.Response) (string, error) {
	base, err := url.Parse(from)
	if err != nil {
		return "", c.fail(remote.Corrupt, err)
	}
	to, err := base.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return "", c.failf(remote.Corrupt, "%s: %d without a usable Location", r.method, resp.StatusCode)
	}
	if to.Path == base.Path+"/" && c.b.ours(from) {
		// mod_dir adds the slash of a directory, and a proxy in front may have made
		// scheme and host of the Location wrong.
		return from + "/", nil
	}
	to.User, to.Fragment = nil, ""
	switch {
	case to.Scheme != "https" && to.Scheme != "http" || to.Scheme == "http" && base.Scheme == "https":
		return "", c.failf(remote.Unsupported, "the server redirects from TLS to %s://%s", to.Scheme, to.Host)
	case c.b.ours(to.String()):
		return to.String(), nil
	case r.method == http.MethodGet:
		return to.String(), nil
	}
	return "", c.failf(remote.Unsupported, "the server redirects to another host; give that address instead: %s://%s%s",
		to.Scheme, to.Host, bounded(to.EscapedPath(), 200))
}

// origin is scheme, host and port, the port written out.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// ours tells whether credentials may be sent to a URL.
func (b *Backend) ours(target string) bool {
	u, err := url.Parse(target)
	return err == nil && origin(u) == b.origin
}

// expect returns the answer if its status is one of want, else the error it stands
// for.
func (c *call) expect(ctx context.Context, r *request, want ...int) (*http.Response, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	for _, status := range want {
		if resp.StatusCode == status {
			c.b.sweep()
			return resp, nil
		}
	}
	return nil, c.refusal(r, resp)
}

// incoming tells of progress on the body of an answer.
type incoming struct {
	io.ReadCloser
	ctx context.Context
}

// Read implements io.Reader.
func (r *incoming) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		remote.Progress(r.ctx)
	}
	return n, err
}
