package efss

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// present returns the entry at the request's path and whether there is one.
func (q *request) present(path string) (info, bool) {
	e, err := q.s.store.lookup(q.user, path)
	return e, err == nil
}

// matches tells whether tag is in the list of a condition header. With weak, a weak
// tag matches its strong form.
func matches(list, tag string, weak bool) bool {
	if weak {
		tag = strings.TrimPrefix(tag, "W/")
	}
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if weak {
			part = strings.TrimPrefix(part, "W/")
		}
		if part == tag && tag != "" && (weak || !strings.HasPrefix(tag, "W/")) {
			return true
		}
	}
	return false
}

// ifMatch tells whether the If-Match header holds for what is there.
func (q *request) ifMatch(e info, exists bool) bool {
	want := strings.TrimSpace(q.header("If-Match"))
	switch {
	case want == "":
		return true
	case !exists:
		return false
	case want == "*":
		return true
	}
	return matches(want, q.tagOf(e), false)
}

// tagOf is the entity tag that conditions are compared with. sabre has none for
// collections: a condition with a tag never holds there.
func (q *request) tagOf(e info) string {
	if e.Dir && q.b().fileTags {
		return ""
	}
	return q.b().quoted(e, q.now())
}

// ifNoneMatch tells whether the If-None-Match header holds for what is there.
func (q *request) ifNoneMatch(e info, exists bool) bool {
	want := strings.TrimSpace(q.header("If-None-Match"))
	switch {
	case want == "" || !exists:
		return true
	case want == "*":
		return false
	}
	return !matches(want, q.b().quoted(e, q.now()), true)
}

func (q *request) matchFailed(e info, exists bool) *failure {
	f := preconditionFailed("If-Match", "An If-Match header was specified, but none of the specified ETags matched.")
	switch {
	case !exists:
		f.message = "An If-Match header was specified and the resource did not exist"
	case q.b().errors == errorsSabre:
		f.headers = [][2]string{{"ETag", q.b().quoted(e, q.now())}}
	}
	return f
}

func noneMatchFailed() *failure {
	return preconditionFailed("If-None-Match", "An If-None-Match header was specified, but the ETag matched (or * was specified).")
}

// checkGet looks at the conditions of a GET. It returns errNotModified for a 304.
func (q *request) checkGet(e info) error {
	if !q.b().getConds {
		return nil
	}
	if !q.ifMatch(e, true) {
		return q.matchFailed(e, true)
	}
	if !q.ifNoneMatch(e, true) {
		return errNotModified
	}
	if since, ok := q.httpDate("If-Modified-Since"); ok && q.header("If-None-Match") == "" &&
		!e.MTime.Truncate(time.Second).After(since) {
		return errNotModified
	}
	if since, ok := q.httpDate("If-Unmodified-Since"); ok && q.header("If-Match") == "" &&
		e.MTime.Truncate(time.Second).After(since) {
		return preconditionFailed("If-Unmodified-Since", "An If-Unmodified-Since header was specified, but the entity has been changed since the specified date.")
	}
	return q.checkIf()
}

var errNotModified = errors.New("not modified")

func (q *request) httpDate(header string) (time.Time, bool) {
	t, err := http.ParseTime(q.header(header))
	return t, err == nil
}

// checkPut looks at the conditions of a PUT.
func (q *request) checkPut(e info, exists bool) error {
	if rc := q.b().putIfMatch; rc != 0 && !q.ifMatch(e, exists) {
		star := strings.TrimSpace(q.header("If-Match")) == "*"
		if exists || !star || q.b().putMatchGone {
			f := q.matchFailed(e, exists)
			f.status = rc
			return f
		}
	}
	if q.b().putIfNone && !q.ifNoneMatch(e, exists) {
		return noneMatchFailed()
	}
	return q.checkIf()
}

// checkOther looks at the conditions of DELETE, MOVE, COPY and PROPPATCH.
func (q *request) checkOther(e info, exists bool) error {
	if q.b().otherConds && !q.ifMatch(e, exists) {
		return q.matchFailed(e, exists)
	}
	if q.b().otherConds && !q.ifNoneMatch(e, exists) {
		return noneMatchFailed()
	}
	return q.checkIf()
}

// ifList is one parenthesised list of an If header: all conditions must hold.
type ifList struct {
	path  string // of the resource it is about
	conds []ifCond
}

type ifCond struct {
	not         bool
	token, etag string // one of them
}

// parseIf reads an If header (RFC 4918, section 10.4). Lists about resources outside
// the tree keep an empty path.
func (q *request) parseIf() ([]ifList, error) {
	bad := fail(http.StatusBadRequest, "The If header is malformed")
	var lists []ifList
	path := q.path
	for rest := strings.TrimSpace(q.header("If")); rest != ""; rest = strings.TrimSpace(rest) {
		if rest[0] == '<' {
			tag, after, ok := strings.Cut(rest[1:], ">")
			if !ok {
				return nil, bad
			}
			path, rest = q.taggedPath(tag), after
			continue
		}
		inner, after, ok := cutList(rest)
		if !ok {
			return nil, bad
		}
		conds, ok := parseConds(inner)
		if !ok {
			return nil, bad
		}
		lists, rest = append(lists, ifList{path, conds}), after
	}
	return lists, nil
}

func (q *request) taggedPath(tag string) string {
	u, err := url.Parse(tag)
	if err != nil || u.Host != "" && u.Host != q.r.Host {
		return ""
	}
	_, names, err := q.locate(u.EscapedPath())
	if err != nil {
		return ""
	}
	return q.clean(names)
}

// cutList splits "(...) rest"; brackets may hold parentheses.
func cutList(s string) (inner, rest string, ok bool) {
	if s[0] != '(' {
		return "", "", false
	}
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ')' && !quoted:
			return s[1:i], s[i+1:], true
		}
	}
	return "", "", false
}

func parseConds(s string) ([]ifCond, bool) {
	var conds []ifCond
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		var c ifCond
		if len(s) > 3 && strings.EqualFold(s[:3], "not") {
			c.not, s = true, strings.TrimSpace(s[3:])
		}
		if s == "" {
			return nil, false
		}
		var ok bool
		switch s[0] {
		case '<':
			c.token, s, ok = strings.Cut(s[1:], ">")
		case '[':
			c.etag, s, ok = strings.Cut(s[1:], "]")
		}
		if !ok {
			return nil, false
		}
		conds = append(conds, c)
	}
	return conds, len(conds) > 0
}

// checkIf evaluates the If header: for each resource named, one of its lists must
// hold.
func (q *request) checkIf() error {
	if q.header("If") == "" || q.b().ifHeader == ifIgnored {
		return nil
	}
	lists, err := q.parseIf()
	if err != nil {
		return err
	}
	held := map[string]bool{}
	for _, l := range lists {
		held[l.path] = held[l.path] || q.holds(l)
	}
	for path, ok := range held {
		if !ok {
			return preconditionFailed("If", "Failed to find a valid token/etag combination for "+strings.TrimPrefix(path, "/"))
		}
	}
	return nil
}

func (q *request) holds(l ifList) bool {
	if q.b().ifHeader == ifTokens {
		return slices.ContainsFunc(l.conds, func(c ifCond) bool { return q.s.locks.holds(c.token, l.path, q.now()) })
	}
	e, exists := q.present(l.path)
	for _, c := range l.conds {
		var ok bool
		if c.token != "" {
			ok = q.s.locks.holds(c.token, l.path, q.now())
		} else {
			ok = exists && matches(c.etag, q.tagOf(e), true)
		}
		if ok == c.not {
			return false
		}
	}
	return true
}

// tokens returns the lock tokens that the request submits.
func (q *request) tokens() []string {
	lists, err := q.parseIf()
	if err != nil {
		return nil
	}
	var out []string
	for _, l := range lists {
		for _, c := range l.conds {
			if c.token != "" && !c.not {
				out = append(out, c.token)
			}
		}
	}
	return out
}
