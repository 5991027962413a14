package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/studio-b12/gowebdav"

	"github.com/meshmount/meshmount/remote"
)

// authorizer puts credentials on requests. The schemes themselves are gowebdav's
// (basic, digest) and a bearer of ours. Around them it keeps a promise: a secret that
// the server has refused is never sent again, and a new secret is first tried by one
// request alone, so that a wrong password is one failed login and not as many as
// there are connections. Nextcloud punishes the whole cluster's address otherwise.
type authorizer struct {
	user   string
	source remote.SecretSource // nil: no credentials
	bearer bool
	tls    bool

	trial chan struct{} // held by the request that tries something unproven

	mu     sync.Mutex // guards what follows
	state  secretState
	secret remote.Secret       // the one in use, or refused last
	serial int                 // counts secrets
	scheme gowebdav.Authorizer // makes the header for secret; nil: to be built
	asked  challenge           // what the server asks for; no scheme: not known
	open   bool                // the server has answered without credentials
}

type secretState uint8

const (
	secretNone    secretState = iota // not fetched yet
	secretNew                        // fetched, not answered yet
	secretProven                     // accepted at least once
	secretRefused                    // refused: ask the source for another
)

func newAuthorizer(o Options) *authorizer {
	a := &authorizer{user: o.User, source: o.Password, tls: o.URL.Scheme == "https", trial: make(chan struct{}, 1)}
	if o.Token != nil {
		a.source, a.bearer = o.Token, true
		a.asked = challenge{scheme: "bearer", header: "Bearer"}
	}
	return a
}

// method names the scheme in use, for Info.
func (a *authorizer) method() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.source == nil || a.state == secretNone {
		return "none"
	}
	return a.asked.scheme
}

// realm is what the server called itself when it asked for a login.
func (a *authorizer) realm() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked.params["realm"]
}

// expectBasic lets basic credentials go out before the server has asked for them: it
// is known to take them.
func (a *authorizer) expectBasic() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked.scheme == "" {
		a.asked = challenge{scheme: "basic", header: "Basic"}
	}
}

var (
	errNoLogin  = errors.New("the server wants a login, and none was given: give a user and a password, or a token")
	errRefused  = errors.New("the server refused the password or token; it is not tried again until it changes")
	errNoSecret = errors.New("the password or token is empty")
)

func authError(cause error) error { return &remote.Error{Op: "login", Kind: remote.Auth, Err: cause} }

// pass is one request's leave to go out, with or without credentials. It is given
// back by settle or release.
type pass struct {
	a      *authorizer
	auth   gowebdav.Authenticator // nil: goes without
	serial int
	trial  bool
}

// admit waits until a request may go out. It fails, without a request, if the only
// secret there is was refused.
func (a *authorizer) admit(ctx context.Context) (*pass, error) {
	if a.source == nil {
		return &pass{a: a}, nil
	}
	if p := a.ready(); p != nil {
		return p, nil
	}
	select {
	case a.trial <- struct{}{}:
	case <-ctx.Done():
		return nil, remote.ContextErr(ctx)
	}
	// Another trial may have ended well while this one waited.
	p := a.ready()
	var err error
	if p == nil {
		p, err = a.tryOut(ctx)
	}
	if p == nil || !p.trial {
		<-a.trial
	}
	return p, err
}

// ready returns a pass if nothing is left to be tried, otherwise nil.
func (a *authorizer) ready() *pass {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.state == secretProven && a.scheme != nil:
		return a.newPass(false)
	case a.open && a.asked.scheme == "":
		return &pass{a: a}
	}
	return nil
}

// tryOut returns a pass for the holder of the trial.
func (a *authorizer) tryOut(ctx context.Context) (*pass, error) {
	a.mu.Lock()
	asked, state := a.asked.scheme, a.state
	a.mu.Unlock()
	if asked == "" {
		return &pass{a: a, trial: true}, nil // let the server say first what it wants
	}
	if state == secretNone || state == secretRefused {
		if err := a.fetch(ctx); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.build(); err != nil {
		return nil, err
	}
	return a.newPass(true), nil
}

// fetch asks the source for a secret and takes it, if it is not the refused one.
func (a *authorizer) fetch(ctx context.Context) error {
	secret, err := a.source(ctx)
	if err != nil {
		if cerr := remote.ContextErr(ctx); cerr != nil {
			return cerr
		}
		return authError(fmt.Errorf("cannot get the password or token: %w", err))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case secret.IsZero():
		return authError(errNoSecret)
	case a.state == secretRefused && secret == a.secret:
		return authError(errRefused)
	}
	a.secret, a.state, a.scheme = secret, secretNew, nil
	a.serial++
	return nil
}

// build makes the scheme for the present secret. mu is held.
func (a *authorizer) build() (err error) {
	switch {
	case a.scheme != nil:
	case a.bearer:
		a.scheme = gowebdav.NewPreemptiveAuth(bearer{a.secret})
	default:
		a.scheme, err = passwordScheme(a.user, a.secret, a.asked)
	}
	return err
}

// passwordScheme makes gowebdav settle on one scheme, by an answer that asks for
// nothing else: left to itself it tries all that the server offers, one wrong login
// each.
func passwordScheme(user string, secret remote.Secret, asked challenge) (gowebdav.Authorizer, error) {
	scheme := gowebdav.NewAutoAuth(user, secret.Reveal())
	auth, _ := scheme.NewAuthenticator(nil)
	answer := &http.Response{StatusCode: http.StatusUnauthorized, Header: http.Header{}}
	answer.Header.Set("Www-Authenticate", asked.header)
	if _, err := auth.Verify(nil, answer, ""); err != nil {
		return nil, authError(fmt.Errorf("cannot log in by %s: %w", asked.scheme, err))
	}
	return scheme, auth.Close()
}

// newPass returns a pass with credentials. mu is held and scheme is there.
func (a *authorizer) newPass(trial bool) *pass {
	auth, _ := a.scheme.NewAuthenticator(nil)
	return &pass{a: a, auth: auth, serial: a.serial, trial: trial}
}

// stamp puts the credentials on req.
func (p *pass) stamp(client *http.Client, req *http.Request) error {
	if p.auth == nil {
		return nil
	}
	// gowebdav puts a GetBody of its own in place, which gives no body at all: the
	// transport would crash when it sends a request again over another connection.
	defer func(ours func() (io.ReadCloser, error)) { req.GetBody = ours }(req.GetBody)
	return p.auth.Authorize(client, req, req.URL.RequestURI())
}

// release gives a pass back whose request had no answer, or after settle.
func (p *pass) release() {
	if p.auth != nil {
		_ = p.auth.Close() // holds nothing that could fail
		p.auth = nil
	}
	if p.trial {
		p.trial = false
		<-p.a.trial
	}
}

// settle gives the pass back with the answer to its request. again means that the
// same request may go out once more, with another pass.
func (p *pass) settle(resp *http.Response) (again bool, err error) {
	defer p.release()
	switch a := p.a; {
	case a.source == nil && resp.StatusCode == http.StatusUnauthorized:
		return false, authError(errNoLogin)
	case a.source == nil:
		return false, nil
	case resp.StatusCode == http.StatusUnauthorized && p.auth == nil:
		return true, a.learn(resp)
	case resp.StatusCode == http.StatusForbidden && p.auth == nil && a.closed():
		a.expectBasic() // some servers refuse strangers without a word of what they want
		return true, nil
	case resp.StatusCode == http.StatusUnauthorized:
		a.refuse(p, resp)
		return true, nil // the next pass is refused unless there is another secret or nonce
	default:
		a.accept(p, resp.StatusCode)
		return false, nil
	}
}

// closed tells whether the server has never answered without credentials.
func (a *authorizer) closed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.open
}

// accept notes that the server takes the secret, or takes requests without any. An
// error of the server's own proves nothing.
func (a *authorizer) accept(p *pass, status int) {
	if status >= 500 || status == http.StatusTooManyRequests {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case p.auth == nil:
		a.open = true
	case p.serial == a.serial && a.state == secretNew:
		a.state = secretProven
	}
}

// learn takes up what the server asks for.
func (a *authorizer) learn(resp *http.Response) error {
	asked, ok := pick(resp.Header.Values("Www-Authenticate"), a.tls)
	if !ok {
		return authError(fmt.Errorf("the server asks for a login by %q, which is not supported",
			bounded(resp.Header.Get("Www-Authenticate"), 100)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked.scheme == "" || a.asked.scheme == asked.scheme {
		a.asked = asked
	}
	return nil
}

// refuse notes that the server does not take the secret of p, or only a nonce that
// is too old.
func (a *authorizer) refuse(p *pass, resp *http.Response) {
	asked, ok := pick(resp.Header.Values("Www-Authenticate"), a.tls)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case p.serial != a.serial:
		return // another secret is in use already
	case ok && a.asked.scheme == "digest" && asked.stale():
		a.asked, a.scheme = asked, nil
		if a.state == secretProven {
			a.state = secretNew
		}
	default:
		a.state, a.scheme = secretRefused, nil
	}
}

// bearer is a gowebdav.Authenticator for tokens.
type bearer struct{ token remote.Secret }

// Authorize implements gowebdav.Authenticator.
func (b bearer) Authorize(_ *http.Client, req *http.Request, _ string) error {
	req.Header.Set("Authorization", "Bearer "+b.token.Reveal())
	return nil
}

// Verify implements gowebdav.Authenticator.
func (b bearer) Verify(_ *http.Client, resp *http.Response, path string) (bool, error) {
	if resp.StatusCode == http.StatusUnauthorized {
		return false, gowebdav.NewPathError("Authorize", path, resp.StatusCode)
	}
	return false, nil
}

// Clone implements gowebdav.Authenticator.
func (b bearer) Clone() gowebdav.Authenticator { return b }

// Close implements gowebdav.Authenticator.
func (b bearer) Close() error { return nil }
