package webdav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/meshmount/meshmount/remote"
)

// statusKinds is the one table from HTTP status to Kind. What a status means beyond
// it depends on the request (conflict below) or can only be told by a look at what
// is there (explain in look.go): servers answer 400, 403, 404, 405, 409 and 500 for
// the same missing parent.
var statusKinds = map[int]remote.Kind{
	http.StatusBadRequest:                   remote.Invalid, // forbidden name (sabre: InvalidPath)
	http.StatusUnauthorized:                 remote.Auth,
	http.StatusPaymentRequired:              remote.NoSpace,
	http.StatusForbidden:                    remote.Permission,
	http.StatusNotFound:                     remote.NotExist,
	http.StatusMethodNotAllowed:             remote.Unsupported,
	http.StatusNotAcceptable:                remote.Unsupported,
	http.StatusProxyAuthRequired:            remote.Auth,
	http.StatusRequestTimeout:               remote.Unavailable,
	http.StatusConflict:                     remote.NotExist, // RFC 4918: a parent is missing
	http.StatusGone:                         remote.NotExist,
	http.StatusLengthRequired:               remote.Unsupported,
	http.StatusPreconditionFailed:           remote.Conflict,
	http.StatusRequestEntityTooLarge:        remote.TooLarge,
	http.StatusRequestURITooLong:            remote.NameTooLong,
	http.StatusUnsupportedMediaType:         remote.Unsupported,
	http.StatusRequestedRangeNotSatisfiable: remote.Corrupt,
	http.StatusMisdirectedRequest:           remote.Unavailable,
	http.StatusUnprocessableEntity:          remote.Invalid,
	http.StatusLocked:                       remote.Locked,      // by a lock or a transfer in progress
	http.StatusFailedDependency:             remote.Unavailable, // something else in the request failed
	http.StatusTooEarly:                     remote.Locked,      // oCIS: the upload is still being processed
	http.StatusTooManyRequests:              remote.Unavailable,
	http.StatusRequestHeaderFieldsTooLarge:  remote.NameTooLong,
	http.StatusUnavailableForLegalReasons:   remote.Permission,
	http.StatusInternalServerError:          remote.Unavailable,
	http.StatusNotImplemented:               remote.Unsupported,
	http.StatusBadGateway:                   remote.Unavailable,
	http.StatusServiceUnavailable:           remote.Unavailable, // maintenance, or storage away
	http.StatusGatewayTimeout:               remote.Unavailable,
	http.StatusInsufficientStorage:          remote.NoSpace,
	http.StatusLoopDetected:                 remote.Other,
}

// kindOf returns the Kind of a status that is an error.
func kindOf(status int) remote.Kind {
	if kind, ok := statusKinds[status]; ok {
		return kind
	}
	switch {
	case status >= 500:
		return remote.Unavailable
	case status >= 400:
		return remote.Other
	}
	return remote.Corrupt // a success or redirect that nobody expects here
}

// statusError is the cause of an error that a server answered.
type statusError struct {
	method  string
	status  int
	message string // the server's own words, bounded, in one line
}

// Error implements error.
func (e *statusError) Error() string {
	text := fmt.Sprintf("%s: %d %s", e.method, e.status, http.StatusText(e.status))
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

// statusOf returns the HTTP status that err came from, 0 if none.
func statusOf(err error) int {
	var e *statusError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

// ambiguous tells of a status that may mean several things when something is to be made:
// a look at what is there tells.
func ambiguous(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusConflict, http.StatusInternalServerError:
		return true
	}
	return false
}

// lost tells of a status that leaves open what became of the request: a gateway gave
// up waiting.
func lost(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return status >= 520 && status <= 524 // Cloudflare's forms of the same
}

// aboutQuota finds out that 413 is not about this file but about all of them.
var aboutQuota = regexp.MustCompile(`(?i)quota|insufficient (disk )?(space|storage)|(not enough|no) (free |more )?(disk )?(space|storage)|(space|storage) (is )?(full|exceeded)`)

// refusal makes an error of an answer and closes it.
func (c *call) refusal(r *request, resp *http.Response) error {
	defer closeBody(resp)
	kind, body := kindOf(resp.StatusCode), io.Reader(resp.Body)
	if resp.StatusCode == http.StatusRequestEntityTooLarge {
		text, _ := io.ReadAll(io.LimitReader(body, 4<<10)) // what there is will do
		if body = bytes.NewReader(text); aboutQuota.Match(text) {
			kind = remote.NoSpace
		}
	}
	return &remote.Error{
		Op: c.op, Path: c.path, Kind: kind,
		Err:        &statusError{r.method, resp.StatusCode, errorMessage(body)},
		Unsure:     r.changes && lost(resp.StatusCode) && r.body.complete(),
		RetryAfter: retryAfter(resp.Header),
	}
}

// fail makes an error of this call.
func (c *call) fail(kind remote.Kind, cause error) error {
	return &remote.Error{Op: c.op, Path: c.path, Kind: kind, Err: cause}
}

// failf makes an error of this call with a text.
func (c *call) failf(kind remote.Kind, format string, args ...any) error {
	return c.fail(kind, fmt.Errorf(format, args...))
}

const maxMessage = 200 // bytes of a server's message in our errors

// errorMessage finds the message in sabre's form of error document, which the oCIS
// family imitates: <d:error><s:message>. Other documents say nothing.
func errorMessage(body io.Reader) string {
	d := xml.NewDecoder(io.LimitReader(body, 64<<10))
	for depth := 0; depth >= 0; {
		tok, err := d.Token()
		if err != nil {
			return ""
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if depth++; depth == 1 && t.Name.Local != "error" {
				return ""
			}
			if strings.EqualFold(t.Name.Local, "message") {
				text, _ := d.Token()
				if chars, ok := text.(xml.CharData); ok {
					return bounded(string(chars), maxMessage)
				}
				return ""
			}
		case xml.EndElement:
			depth--
		}
	}
	return ""
}

// bounded makes foreign text fit for an error: one line, printable, not long.
func bounded(s string, limit int) string {
	var b strings.Builder
	for _, r := range strings.Join(strings.Fields(s), " ") {
		if !unicode.IsPrint(r) {
			r = '?'
		}
		if b.Len() >= limit {
			return b.String() + "..."
		}
		b.WriteRune(r)
	}
	return b.String()
}

// retryAfter reads the header in either of its forms; 0 if there is none.
func retryAfter(h http.Header) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if seconds, err := strconv.Atoi(text); err == nil {
		return max(0, min(time.Duration(seconds)*time.Second, 24*time.Hour))
	}
	when, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, min(when.Sub(now), 24*time.Hour))
}

// closeBody gives the connection back for the next request, unless too much of the
// body is left.
func closeBody(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // an error here only costs the connection
	_ = resp.Body.Close()
}
