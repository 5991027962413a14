package efss

import (
	"crypto/rand"
	"strings"
	"sync"
	"time"
)

// nonceTime is how long a nonce may be used.
const nonceTime = 5 * time.Minute

// nonceTable knows the nonces that were given out for digest authentication.
type nonceTable struct {
	mu    sync.Mutex
	given map[string]time.Time
}

func newNonceTable() *nonceTable { return &nonceTable{given: map[string]time.Time{}} }

func (t *nonceTable) give(now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for nonce, at := range t.given {
		if now.Sub(at) > nonceTime {
			delete(t.given, nonce)
		}
	}
	nonce := rand.Text()
	t.given[nonce] = now
	return nonce
}

func (t *nonceTable) valid(nonce string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, ok := t.given[nonce]
	return ok && now.Sub(at) <= nonceTime
}

// digestAuth is authenticate for RFC 7616 digest with MD5 and qop=auth, as mod_auth_digest
// offers it.
func (q *request) digestAuth() error {
	text, tried := strings.CutPrefix(q.header("Authorization"), "Digest ")
	stale := ""
	if tried {
		p := digestParams(text)
		fresh := q.s.nonces.valid(p["nonce"], q.now())
		if u, ok := q.s.users[p["username"]]; ok && q.digestMatches(u, p) {
			if fresh {
				q.user = u.Name
				return nil
			}
			stale, tried = ", stale=true", false
		}
	}
	challenge := `Digest realm="dav", nonce="` + q.s.nonces.give(q.now()) + `", algorithm=MD5, qop="auth"` + stale
	return q.unauthorized(tried, []string{challenge})
}

// digestMatches computes the response and compares.
func (q *request) digestMatches(u User, p map[string]string) bool {
	if p["qop"] != "auth" || p["uri"] != q.r.RequestURI || p["realm"] != "dav" {
		return false
	}
	ha1 := hashed(u.Name + ":dav:" + u.Password)
	ha2 := hashed(q.r.Method + ":" + p["uri"])
	return p["response"] == hashed(strings.Join([]string{ha1, p["nonce"], p["nc"], p["cnonce"], p["qop"], ha2}, ":"))
}

// digestParams reads key="value", key=value pairs; a comma may stand in quotes.
func digestParams(text string) map[string]string {
	out := map[string]string{}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimLeft(text, ", ") {
		key, rest, ok := strings.Cut(text, "=")
		if !ok {
			break
		}
		var value string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			value, rest, _ = strings.Cut(quoted, `"`)
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		out[strings.TrimSpace(key)] = strings.TrimSpace(value)
		text = rest
	}
	return out
}
