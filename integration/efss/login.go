package efss

import (
	"html"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// flowTime is how long a login may take.
const flowTime = 20 * time.Minute

// loginFlows are the logins (flow v2) that have been started.
type loginFlows struct {
	mu    sync.Mutex
	flows []*loginFlow
}

type loginFlow struct {
	poll, login string // tokens
	user        string // who granted it, "" so far
	begun       time.Time
}

func newLoginFlows() *loginFlows { return &loginFlows{} }

// begin starts a flow and forgets those that are too old.
func (l *loginFlows) begin(now time.Time) *loginFlow {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &loginFlow{poll: newSecret() + newSecret(), login: newSecret() + newSecret(), begun: now}
	kept := []*loginFlow{f}
	for _, old := range l.flows {
		if now.Sub(old.begun) < flowTime {
			kept = append(kept, old)
		}
	}
	l.flows = kept
	return f
}

// grant marks the flow of a login token as granted by user.
func (l *loginFlows) grant(login, user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.flows {
		if f.login == login && f.user == "" {
			f.user = user
			return true
		}
	}
	return false
}

// take returns the user who granted the flow of a poll token, once.
func (l *loginFlows) take(poll string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, f := range l.flows {
		if f.poll == poll && f.user != "" {
			l.flows = append(l.flows[:i], l.flows[i+1:]...)
			return f.user
		}
	}
	return ""
}

// loginFlow answers the requests of Nextcloud's login flow v2. rest is what follows
// /index.php/login/v2.
func (q *request) loginFlow(rest string) error {
	scheme := "http://"
	if q.r.TLS != nil {
		scheme = "https://"
	}
	base := scheme + q.r.Host
	switch {
	case rest == "" && q.r.Method == http.MethodPost:
		q.set("Cache-Control", "no-cache, no-store, must-revalidate")
		f := q.s.flows.begin(q.now())
		return q.sendJSON(http.StatusOK, object{
			"poll":  object{"token": f.poll, "endpoint": base + "/index.php/login/v2/poll"},
			"login": base + "/index.php/login/v2/flow/" + f.login,
		})
	case rest == "/poll" && q.r.Method == http.MethodPost:
		user := q.s.flows.take(q.form("token"))
		if user == "" {
			return q.sendJSON(http.StatusNotFound, []string{})
		}
		secret := newSecret()
		q.s.store.grant(user, secret)
		return q.sendJSON(http.StatusOK, object{"server": base, "loginName": user, "appPassword": secret})
	case strings.HasPrefix(rest, "/flow/"):
		return q.loginPage(strings.TrimPrefix(rest, "/flow/"))
	}
	return fail(http.StatusNotFound, "no such page")
}

// loginPage is what the user sees in the browser: a form for name and password.
func (q *request) loginPage(token string) error {
	q.set("Content-Type", "text/html; charset=utf-8")
	if q.r.Method == http.MethodPost {
		name, password := q.form("user"), q.form("password")
		if !q.basic(name, password) {
			q.s.authFailed.Add(1)
			return fail(http.StatusForbidden, "wrong name or password")
		}
		if !q.s.flows.grant(token, name) {
			return fail(http.StatusForbidden, "this login is over")
		}
		_, err := io.WriteString(q.w, "<!DOCTYPE html><p>Account connected. You can close this window.</p>\n")
		return err
	}
	_, err := io.WriteString(q.w, `<!DOCTYPE html><form method="post" action="`+html.EscapeString(q.r.URL.Path)+
		`"><input name="user"><input name="password" type="password"><button>Grant access</button></form>`+"\n")
	return err
}
