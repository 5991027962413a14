package efss

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxLock is the longest time that a lock is granted for, and the default.
const maxLock = 30 * time.Minute

// lock answers LOCK.
func (q *request) lock() error {
	switch {
	case q.s.opts.NoLocks:
		return q.unknownMethod()
	case q.b().locks == locksBad:
		return fail(http.StatusBadRequest, "Unsupported method")
	}
	want, err := q.lockBody()
	if err != nil {
		return err
	}
	if q.b().locks == locksDummy {
		want.token = "opaquelocktoken:00000000-0000-0000-0000-000000000000"
		return q.lockReply(http.StatusOK, want)
	}
	if want.owner == "refresh" {
		return q.lockRefresh()
	}
	if want.shared && q.b().locks == locksSingle {
		return &failure{status: http.StatusNotImplemented}
	}
	if want.shared && q.b().locks != locksReal {
		want.shared = false // granted, but what is granted is an exclusive lock
	}
	want.deep = q.header("Depth") != "0" && (q.b().locks == locksReal || q.b().locks == locksSingle)
	return q.lockNew(want)
}

// lockNew takes the lock, making an empty file where there is nothing.
func (q *request) lockNew(want davLock) error {
	e, exists := q.present(q.path)
	if !exists && q.b().lockNew == 0 {
		return fail(http.StatusInternalServerError, "")
	}
	if err := q.checkIf(); err != nil {
		return err
	}
	if !exists {
		if err := errors.Join(q.makePlace(q.path), q.checkAccess(e, false), q.checkLock(q.path, true)); err != nil {
			return err
		}
	}
	l, ok := q.s.locks.add(want, q.now())
	if !ok {
		return q.lockConflict()
	}
	status := http.StatusOK
	if !exists {
		status = q.b().lockNew
	}
	if !exists && !q.b().lockNull {
		if err := q.s.store.create(q.user, q.path); err != nil {
			q.s.locks.remove(l.token, l.key, q.now())
			return q.storeFailed(err)
		}
	}
	q.set("Lock-Token", "<"+l.token+">")
	return q.lockReply(status, l)
}

func (q *request) lockRefresh() error {
	l, ok := q.s.locks.refresh(q.tokens(), q.user+q.path, q.lockTime(), q.now())
	if !ok {
		return preconditionFailed("If", "There is no such lock to refresh")
	}
	return q.lockReply(http.StatusOK, l)
}

func (q *request) lockReply(status int, l davLock) error {
	body := `<?xml version="1.0" encoding="utf-8"?>` + "\n" + `<D:prop xmlns:D="DAV:"><D:lockdiscovery>` +
		q.activeLock("D", l) + `</D:lockdiscovery></D:prop>`
	q.set("Content-Type", "application/xml; charset=utf-8")
	q.set("Content-Length", fmt.Sprint(len(body)))
	q.w.WriteHeader(status)
	_, err := io.WriteString(q.w, body)
	return err
}

// unlock answers UNLOCK.
func (q *request) unlock() error {
	switch {
	case q.s.opts.NoLocks, q.b().locks == locksDummy:
		return &failure{status: http.StatusNotImplemented, bare: true}
	case q.b().locks == locksBad:
		return fail(http.StatusBadRequest, "Unsupported method")
	}
	token := strings.Trim(strings.TrimSpace(q.header("Lock-Token")), "<>")
	if token == "" {
		return fail(http.StatusBadRequest, "No lock token was supplied")
	}
	if !q.s.locks.remove(token, q.user+q.path, q.now()) {
		return fail(http.StatusConflict, "The locktoken that was supplied does not match a lock of this resource")
	}
	return q.reply(http.StatusNoContent)
}

// lockBody reads the lockinfo document. Without one the owner is "refresh".
func (q *request) lockBody() (davLock, error) {
	l := davLock{key: q.user + q.path, path: q.path, user: q.user, timeout: q.lockTime()}
	var doc lockInfo
	err := q.readXML(&doc)
	if errors.Is(err, io.EOF) {
		l.owner = "refresh"
		return l, nil
	}
	if err != nil {
		return l, fail(http.StatusBadRequest, "The request body is not a valid lockinfo: %v", err)
	}
	l.owner, l.shared = doc.owner, doc.shared
	return l, nil
}

// lockTime reads the Timeout header.
func (q *request) lockTime() time.Duration {
	for part := range strings.SplitSeq(q.header("Timeout"), ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(part), "Second-"); ok {
			if n, err := strconv.ParseInt(text, 10, 32); err == nil {
				return min(max(1, time.Duration(n))*time.Second, maxLock)
			}
		}
	}
	return maxLock
}

// lockInfo is a lockinfo element.
type lockInfo struct {
	shared bool
	owner  string
}

// UnmarshalXML keeps the owner as it is.
func (l *lockInfo) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	if start.Name != (xml.Name{Space: nsDAV, Local: "lockinfo"}) {
		return errors.New("not a lockinfo")
	}
	return eachChild(d, func(part xml.StartElement) (err error) {
		switch part.Name.Local {
		case "owner":
			l.owner, err = innerXML(d)
			return err
		case "lockscope":
			return eachChild(d, func(scope xml.StartElement) error {
				l.shared = l.shared || scope.Name.Local == "shared"
				return d.Skip()
			})
		}
		return d.Skip()
	})
}

// activeLock is one lock as XML.
func (q *request) activeLock(p string, l davLock) string {
	scope, depth := "exclusive", "0"
	if l.shared {
		scope = "shared"
	}
	if l.deep {
		depth = "infinity"
	}
	x := strings.NewReplacer("D:", p+":")
	root := ""
	if !q.b().lockNull { // a server that still has these does not know lockroot either
		e, exists := q.present(l.path)
		root = x.Replace("<D:lockroot><D:href>") + q.b().list.href(q.url(l.path, exists && e.Dir)) + x.Replace("</D:href></D:lockroot>")
	}
	return x.Replace("<D:activelock><D:lockscope><D:"+scope+"/></D:lockscope><D:locktype><D:write/></D:locktype><D:depth>"+depth+"</D:depth>") +
		x.Replace("<D:owner>") + l.owner + x.Replace("</D:owner><D:timeout>") + fmt.Sprintf("Second-%d", int(l.timeout.Seconds())) +
		x.Replace("</D:timeout><D:locktoken><D:href>") + l.token + x.Replace("</D:href></D:locktoken>") + root + x.Replace("</D:activelock>")
}

func (q *request) lockDiscovery(path string) (string, bool) {
	if q.b().locks == locksBad || q.b().locks == locksDummy || q.s.opts.NoLocks {
		return "", false
	}
	var out string
	for _, l := range q.s.locks.on(q.user+path, q.now()) {
		out += q.activeLock(q.b().list.p, l)
	}
	return out, true
}

func (q *request) supportedLock() (string, bool) {
	if q.b().locks == locksBad || q.b().locks == locksDummy || q.s.opts.NoLocks {
		return "", false
	}
	p := q.b().list.p
	entry := func(scope string) string {
		return strings.NewReplacer("D:", p+":").Replace("<D:lockentry><D:lockscope><D:" + scope +
			"/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>")
	}
	if q.b().locks == locksReal {
		return entry("exclusive") + entry("shared"), true
	}
	return entry("exclusive"), true
}

// lockProp is one of the nc:lock properties that files_lock adds.
func (q *request) lockProp(e info, local string) (string, bool) {
	if q.s.opts.NoLocks {
		return "", false
	}
	locks := q.s.locks.on(q.user+e.Path, q.now())
	if len(locks) == 0 {
		return "", local == "lock"
	}
	l := locks[0]
	switch local {
	case "lock":
		return "1", true
	case "lock-token":
		return l.token, true
	case "lock-owner":
		return q.b().list.text(l.user), true
	case "lock-time":
		return fmt.Sprint(l.since.Unix()), true
	}
	return fmt.Sprint(int(l.timeout.Seconds())), true
}

func (q *request) lockConflict() *failure {
	f := &failure{status: http.StatusLocked, message: "The resource is locked"}
	if q.b().services {
		f.exception = `Sabre\DAV\Exception\Locked`
	}
	return f
}

// nullEntries returns the names directly in dir, or dir itself, that are locked and
// do not exist: the lock-null resources of RFC 2518, which mod_dav still has.
func (q *request) nullEntries(dir string) []info {
	if !q.b().lockNull {
		return nil
	}
	var out []info
	locks := append(q.s.locks.on(q.user+dir, q.now()), q.s.locks.under(q.user+dir, q.now())...)
	for _, l := range locks {
		parent, name := splitPath(l.path)
		if _, exists := q.present(l.path); !exists && (parent == dir || l.path == dir) {
			out = append(out, info{Name: name, Path: l.path})
		}
	}
	return out
}

// checkLock refuses a change of path without the tokens of its locks. With member
// the change makes or removes path in its collection.
func (q *request) checkLock(path string, member bool) error {
	locks := q.s.locks.on(q.user+path, q.now())
	if dir, _ := splitPath(path); member && (q.b().locks == locksReal || q.b().locks == locksSingle) {
		locks = append(locks, q.s.locks.on(q.user+dir, q.now())...)
	}
	tokens := q.tokens()
	if q.b().locks == locksOcis && q.r.Method == http.MethodPut {
		tokens = nil // measured: not even the holder of the lock may write
	}
	if !satisfied(locks, tokens) {
		return q.lockConflict()
	}
	return nil
}

// checkLockTree is checkLock for taking away path with all that is below it.
func (q *request) checkLockTree(path string) error {
	if err := q.checkLock(path, true); err != nil {
		return err
	}
	if rc := q.b().treeLocked; rc != 0 && !satisfied(q.s.locks.under(q.user+path, q.now()), q.tokens()) {
		f := q.lockConflict()
		f.status = rc
		return f
	}
	return nil
}
