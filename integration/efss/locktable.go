package efss

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"
)

// davLock is one WebDAV lock.
type davLock struct {
	token   string
	key     string // user and path
	path    string
	user    string
	deep    bool
	shared  bool
	owner   string // XML
	timeout time.Duration
	since   time.Time
}

func (l *davLock) covers(key string) bool {
	return l.key == key || l.deep && isBelow(key, l.key)
}

func (l *davLock) expired(now time.Time) bool { return now.After(l.since.Add(l.timeout)) }

func isBelow(key, top string) bool {
	return strings.HasPrefix(key, strings.TrimSuffix(top, "/")+"/") && key != top
}

// lockTable holds the WebDAV locks. They do not survive a restart.
type lockTable struct {
	mu    sync.Mutex
	locks map[string]*davLock // by token
}

func newLockTable() *lockTable { return &lockTable{locks: map[string]*davLock{}} }

// purge forgets what has expired. Call with mu held.
func (t *lockTable) purge(now time.Time) {
	for token, l := range t.locks {
		if l.expired(now) {
			delete(t.locks, token)
		}
	}
}

// add takes a lock unless it is in conflict with another.
func (t *lockTable) add(l davLock, now time.Time) (davLock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purge(now)
	for _, other := range t.locks {
		if (other.covers(l.key) || l.covers(other.key)) && !(l.shared && other.shared) {
			return davLock{}, false
		}
	}
	var id [16]byte
	_, _ = rand.Read(id[:])
	l.token, l.since = "opaquelocktoken:"+uuid(hex.EncodeToString(id[:])), now
	t.locks[l.token] = &l
	return l, true
}

// refresh starts a lock's time anew.
func (t *lockTable) refresh(tokens []string, key string, timeout time.Duration, now time.Time) (davLock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purge(now)
	for _, token := range tokens {
		if l := t.locks[token]; l != nil && l.covers(key) {
			l.since, l.timeout = now, timeout
			return *l, true
		}
	}
	return davLock{}, false
}

// remove ends a lock that covers key.
func (t *lockTable) remove(token, key string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purge(now)
	l := t.locks[token]
	if l == nil || !l.covers(key) {
		return false
	}
	delete(t.locks, token)
	return true
}

// forget ends the locks of a path and of what is below it.
func (t *lockTable) forget(user, path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := user + path
	for token, l := range t.locks {
		if l.key == key || isBelow(l.key, key) {
			delete(t.locks, token)
		}
	}
}

// on returns the locks that cover key.
func (t *lockTable) on(key string, now time.Time) []davLock {
	return t.find(now, func(l *davLock) bool { return l.covers(key) })
}

// under returns the locks of what is below key.
func (t *lockTable) under(key string, now time.Time) []davLock {
	return t.find(now, func(l *davLock) bool { return isBelow(l.key, key) })
}

func (t *lockTable) find(now time.Time, want func(*davLock) bool) []davLock {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purge(now)
	var out []davLock
	for _, l := range t.locks {
		if want(l) {
			out = append(out, *l)
		}
	}
	slices.SortFunc(out, func(a, b davLock) int { return strings.Compare(a.token, b.token) })
	return out
}

// holds tells whether token is that of a lock which covers path.
func (t *lockTable) holds(token, path string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purge(now)
	l := t.locks[token]
	return l != nil && l.covers(l.user+path)
}

func (t *lockTable) count(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.purge(now)
	return len(t.locks)
}

// satisfied tells whether the submitted tokens open all of the locks: each exclusive
// one, and one of the shared ones of a place.
func satisfied(locks []davLock, tokens []string) bool {
	open := map[string]bool{}
	for _, l := range locks {
		if slices.Contains(tokens, l.token) {
			open[l.key] = true
		}
	}
	for _, l := range locks {
		if !open[l.key] {
			return false
		}
	}
	return true
}
