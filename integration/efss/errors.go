package efss

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
)

// failure is an answer that is an error. Each dialect words it in its own way.
type failure struct {
	status    int
	exception string // sabre's class below Sabre\DAV\Exception, "" for the usual one
	message   string
	about     string      // the header that was at fault, for sabre
	headers   [][2]string // further headers
	bare      bool        // no body on the oCIS family
	hangUp    bool        // the connection is closed afterwards
}

// Error returns the status and the message.
func (f *failure) Error() string { return fmt.Sprintf("%d %s", f.status, f.message) }

func fail(status int, format string, args ...any) *failure {
	return &failure{status: status, message: fmt.Sprintf(format, args...)}
}

func preconditionFailed(header, message string) *failure {
	return &failure{status: http.StatusPreconditionFailed, message: message, about: header, bare: true}
}

// sabreExceptions are the class names that go with a status.
var sabreExceptions = map[int]string{
	400: "BadRequest", 401: "NotAuthenticated", 403: "Forbidden", 404: "NotFound",
	405: "MethodNotAllowed", 409: "Conflict", 411: "LengthRequired", 412: "PreconditionFailed",
	415: "UnsupportedMediaType", 416: "RequestedRangeNotSatisfiable", 423: "Locked",
	501: "NotImplemented", 503: "ServiceUnavailable", 507: "InsufficientStorage",
}

func (f *failure) class() string {
	switch {
	case f.exception != "":
		return f.exception
	case sabreExceptions[f.status] != "":
		return `Sabre\DAV\Exception\` + sabreExceptions[f.status]
	}
	return `Sabre\DAV\Exception`
}

// fail answers with err. Errors that are not a *failure are faults of the disk or
// of the connection.
func (q *request) fail(err error) {
	var f *failure
	if !errors.As(err, &f) {
		f = q.unexpected(err)
	}
	h := q.w.Header()
	for _, kv := range f.headers {
		addRaw(h, kv[0], kv[1])
	}
	if f.hangUp {
		h.Set("Connection", "close")
	}
	body, typ := f.body(q)
	h.Set("Content-Type", typ)
	if body == "" {
		h.Del("Content-Type")
		h.Set("Content-Length", "0")
	}
	q.w.WriteHeader(f.status)
	if q.r.Method != http.MethodHead {
		_, _ = io.WriteString(q.w, body)
	}
}

// unexpected words an error that no handler foresaw.
func (q *request) unexpected(err error) *failure {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fail(http.StatusBadRequest, "The request was cut short")
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fail(http.StatusBadRequest, "Path is too long")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fail(http.StatusInsufficientStorage, "No space left")
	case errors.Is(err, os.ErrNotExist), errors.Is(err, errNotFound):
		return q.notFound(q.path)
	}
	q.s.log.Warn("request failed", "method", q.r.Method, "path", q.path, "error", err)
	return fail(http.StatusInternalServerError, "Internal Server Error")
}

// notFound is the 404 for a path, in the dialect's words.
func (q *request) notFound(path string) *failure {
	switch q.b().errors {
	case errorsOcis:
		return fail(http.StatusNotFound, "Resource not found")
	case errorsReva:
		return fail(http.StatusNotFound, "Resource /home%s not found", path)
	}
	return fail(http.StatusNotFound, "File with name %s could not be located", path)
}

// body returns the document and its type.
func (f *failure) body(q *request) (body, typ string) {
	esc := (&listStyle{quote: "&quot;"}).text
	switch q.b().errors {
	case errorsSabre:
		about := ""
		if f.about != "" {
			about = "\n  <s:header>" + f.about + "</s:header>"
		}
		return "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<d:error xmlns:d=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\">\n" +
			"  <s:exception>" + f.class() + "</s:exception>\n  <s:message>" + esc(f.message) + "</s:message>" + about +
			"\n</d:error>\n", "application/xml; charset=utf-8"
	case errorsOcis, errorsReva:
		if f.bare || f.message == "" {
			return "", ""
		}
		code := ""
		if q.b().errors == errorsOcis {
			code = "<s:errorcode></s:errorcode>"
		}
		return `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<d:error xmlns:d="DAV" xmlns:s="http://sabredav.org/ns"><s:exception>` +
			f.class() + `</s:exception><s:message>` + esc(f.message) + `</s:message>` + code + `</d:error>`, "text/xml; charset=utf-8"
	case errorsApache:
		return apachePage(f.status, f.message), "text/html; charset=iso-8859-1"
	}
	return http.StatusText(f.status), "text/plain; charset=utf-8"
}

// apachePage is a page of Apache httpd for a status.
func apachePage(status int, message string) string {
	text := http.StatusText(status)
	return strings.Join([]string{
		`<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01//EN" "http://www.w3.org/TR/html4/strict.dtd">`,
		"<html><head>", fmt.Sprintf("<title>%d %s</title>", status, text), "</head><body>",
		"<h1>" + text + "</h1>", "<p>" + html.EscapeString(message) + "</p>", "</body></html>", "",
	}, "\n")
}

// addRaw adds a header under exactly that spelling, as the real server writes it.
func addRaw(h http.Header, name, value string) {
	if strings.EqualFold(name, "Vary") {
		h.Set("Vary", value)
		return
	}
	h[name] = append(h[name], value)
}
