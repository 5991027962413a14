package irods

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// login keeps the secret between connections. One that the server has refused is never
// sent again: the source is asked for another, not too often.
type login struct {
	source remote.SecretSource // nil: the user needs none
	pause  time.Duration       // between two questions for another secret

	mu      sync.Mutex
	secret  remote.Secret
	state   secretState
	refusal error     // of the secret
	asked   time.Time // when the source had nothing new
}

// secretState is what is known of a secret.
type secretState uint8

const (
	secretNone    secretState = iota // it was not asked for yet
	secretNew                        // the server has not said yet
	secretProven                     // the server has taken it
	secretRefused                    // the server has refused it
)

// askPause is how long a source that had nothing new is left alone.
const askPause = time.Second

var errNoSource = errors.New("the server wants a password")

// attempt is one login.
type attempt struct {
	l      *login
	secret remote.Secret
	used   bool // the server has seen to it
	proven bool // it had been good before
}

// begin begins an attempt. It fails if the server has refused the only secret there is.
func (l *login) begin(ctx context.Context) (*attempt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != secretRefused {
		return &attempt{l: l}, nil
	}
	if time.Since(l.asked) < l.pause {
		return nil, l.refusal
	}
	old := l.secret
	if err := l.ask(ctx); err != nil {
		return nil, err
	}
	if l.secret.Reveal() == old.Reveal() {
		l.state, l.asked = secretRefused, time.Now()
		return nil, l.refusal
	}
	return &attempt{l: l}, nil
}

// ask asks the source. Guarded by mu.
func (l *login) ask(ctx context.Context) error {
	if l.source == nil {
		return remote.E("connect", "", remote.Auth, errNoSource)
	}
	secret, err := l.source(ctx)
	if err != nil {
		return remote.E("connect", "", remote.Auth, err)
	}
	l.secret, l.state = secret, secretNew
	return nil
}

// password returns the secret's text. The source is asked when the server wants it.
func (a *attempt) password(ctx context.Context) (string, error) {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == secretNone {
		if err := l.ask(ctx); err != nil {
			return "", err
		}
	}
	a.secret, a.used, a.proven = l.secret, true, l.state == secretProven
	return a.secret.Reveal(), nil
}

// succeeded notes that the server has taken the secret.
func (a *attempt) succeeded() {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.current() {
		l.state = secretProven
	}
}

// refused notes that the server has refused it, and tells whether another attempt makes
// sense at once: the secret had been good, or another connection has another one already.
func (a *attempt) refused(refusal error) bool {
	l := a.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if !a.used {
		return false
	}
	if !a.current() {
		return true
	}
	l.state, l.refusal, l.asked = secretRefused, refusal, time.Time{}
	if !a.proven {
		l.asked = time.Now() // the source has said just now
	}
	return a.proven
}

// current tells whether the secret is the one in use. Guarded by mu.
func (a *attempt) current() bool { return a.used && a.secret.Reveal() == a.l.secret.Reveal() }
