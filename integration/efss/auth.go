package efss

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// authenticate finds out who sends the request, or returns the 401.
func (q *request) authenticate() error {
	if q.s.opts.Digest {
		return q.digestAuth()
	}
	tried := q.header("Authorization") != ""
	if name, password, ok := q.r.BasicAuth(); ok && q.basic(name, password) {
		return nil
	}
	if token, ok := strings.CutPrefix(q.header("Authorization"), "Bearer "); ok && q.bearer(token) {
		return nil
	}
	return q.unauthorized(tried, q.b().challenges)
}

// unauthorized is the 401 of the dialect.
func (q *request) unauthorized(tried bool, challenges []string) error {
	if tried {
		q.s.authFailed.Add(1)
	}
	f := &failure{status: http.StatusUnauthorized, message: "Authentication error"}
	for _, c := range challenges {
		f.headers = append(f.headers, [2]string{"Www-Authenticate", strings.ReplaceAll(c, "%s", q.r.Host)})
	}
	switch q.b().errors {
	case errorsSabre:
		f.message = "No public access to this resource., Username or password was incorrect, " +
			"No 'Authorization: Bearer' header found. Either the client didn't send one, or the server is mis-configured"
	case errorsOcis, errorsReva:
		f.exception = `Sabre\DAV\Exception\PermissionDenied`
		q.w.Header().Del("Vary")
	}
	return f
}

// basic checks a name with an app password or the login password.
func (q *request) basic(name, password string) bool {
	u, ok := q.s.users[name]
	if !ok || password == "" {
		q.payForPassword()
		return false
	}
	if password == u.AppPassword || q.s.store.owner(password) == name {
		q.user, q.app = name, true
		return true
	}
	q.payForPassword()
	if u.Password != password {
		return false
	}
	q.user = name
	return true
}

// payForPassword takes the time that a slow hash takes.
func (q *request) payForPassword() {
	if q.s.opts.PasswordCost <= 0 {
		return
	}
	t := time.NewTimer(q.s.opts.PasswordCost)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.r.Context().Done():
	}
}

// bearer checks a token, which may be an app password.
func (q *request) bearer(token string) bool {
	if token == "" {
		return false
	}
	for name, u := range q.s.users {
		if token == u.Token || token == u.AppPassword {
			q.user, q.app = name, true
			return true
		}
	}
	if name := q.s.store.owner(token); name != "" {
		q.user, q.app = name, true
		return true
	}
	return false
}

func hashSecret(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// owner returns the user that an app password made by this server belongs to.
func (s *store) owner(secret string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.secrets[hashSecret(secret)]
}

// grant keeps a new app password of a user.
func (s *store) grant(user, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[hashSecret(secret)] = user
	s.write(record{Op: opSecret, User: user, Text: hashSecret(secret)})
}

// revoke forgets an app password and tells whether there was one.
func (s *store) revoke(secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	hash := hashSecret(secret)
	_, ok := s.secrets[hash]
	if ok {
		delete(s.secrets, hash)
		s.write(record{Op: opRevoke, Text: hash})
	}
	return ok
}
