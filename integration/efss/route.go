package efss

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// dispatch finds what the URL names and runs the handler.
func (q *request) dispatch() error {
	path := q.r.URL.EscapedPath()
	if done, err := q.document(path); done {
		return err
	}
	if err := q.authenticate(); err != nil {
		return err
	}
	if q.s.maintenance.Load() {
		return &failure{status: http.StatusServiceUnavailable, message: "System is in maintenance mode.",
			exception: `Sabre\DAV\Exception\ServiceUnavailable`, hangUp: true}
	}
	if q.b().services {
		q.set("X-User-Id", q.user)
		if rest, ok := strings.CutPrefix(path, "/remote.php/dav/uploads/"); ok {
			return q.uploads(rest)
		}
		if path == bulkPath && q.r.Method == http.MethodPost {
			if q.s.opts.NoBulk {
				return q.unknownMethod()
			}
			return q.bulk()
		}
	}
	if path == "/archiver" && q.b().status == statusOpenCloud && q.r.Method == http.MethodGet {
		return q.archiver()
	}
	base, names, err := q.locate(path)
	if err != nil {
		return err
	}
	if q.b().names == namesApache && slices.Contains(names, ".DAV") {
		return forbidden() // mod_dav keeps its properties there
	}
	q.base, q.path = base, q.clean(names)
	if q.below(q.path) && q.r.Method != http.MethodGet && q.r.Method != http.MethodHead {
		return fail(q.b().belowFile, "The path goes on below a file")
	}
	return q.method()
}

// locate splits a URL path into the root of the tree it lies in and the names below.
func (q *request) locate(escaped string) (base string, names []string, err error) {
	for _, root := range append([]string{q.b().root}, q.b().aliases...) {
		root = strings.TrimSuffix(root, "/")
		if whose, ok := strings.CutSuffix(root, "%s"); ok {
			rest, ok := strings.CutPrefix(escaped, whose)
			if !ok {
				continue
			}
			names, err = splitURL(rest)
			if err != nil {
				return "", nil, err
			}
			if len(names) == 0 || names[0] != q.user {
				return "", nil, q.notFound("/" + strings.Join(names, "/"))
			}
			return whose + names[0], names[1:], nil
		}
		if rest, ok := strings.CutPrefix(escaped, root); ok && (rest == "" || rest[0] == '/') {
			names, err = splitURL(rest)
			return root, names, err
		}
	}
	return "", nil, q.notFound(escaped)
}

// splitURL returns the names in a URL path, unescaped. Empty names are left out.
func splitURL(escaped string) ([]string, error) {
	var names []string
	for part := range strings.SplitSeq(escaped, "/") {
		if part == "" {
			continue
		}
		name, err := url.PathUnescape(part)
		if err != nil || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return nil, fail(http.StatusBadRequest, "Invalid path")
		}
		names = append(names, name)
	}
	return names, nil
}

// clean joins names to a path as the dialect stores them.
func (q *request) clean(names []string) string {
	for i, name := range names {
		if q.b().nfc {
			names[i] = composeNFC(name)
		}
		if q.b().names == namesXRootD {
			names[i] = misread(name)
		}
	}
	return "/" + strings.Join(names, "/")
}

// misread is what XRootD makes of a name: it cuts it at a question mark and decodes
// escapes once too often.
func misread(name string) string {
	name, _, _ = strings.Cut(name, "?")
	if twice, err := url.PathUnescape(name); err == nil && twice != "" && !strings.ContainsAny(twice, "/\x00") && twice != "." && twice != ".." {
		return twice
	}
	return name
}

// destination returns the path that the Destination header names, which must lie in
// the same tree.
func (q *request) destination() (string, error) {
	text := q.header("Destination")
	if text == "" {
		return "", fail(http.StatusBadRequest, "The destination header was not supplied")
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fail(http.StatusBadRequest, "The destination header is not a URL")
	}
	if u.Host == "" && q.b().pathDest != 0 {
		return "", fail(q.b().pathDest, "Destination URI had an error.")
	}
	if u.Host != "" && u.Host != q.r.Host && !q.b().anyHost {
		return "", fail(http.StatusBadGateway, "The destination is on another server")
	}
	_, names, err := q.locate(u.EscapedPath())
	if err != nil {
		return "", fail(http.StatusBadGateway, "The destination is not in this tree")
	}
	return q.clean(names), nil
}

// url returns the URL path of what is at path, unescaped, with a slash at the end of
// collections.
func (q *request) url(path string, dir bool) string {
	if path == "/" {
		return q.base + "/"
	}
	if dir {
		path += "/"
	}
	return q.base + path
}

// below tells whether path lies below a file, on dialects that take note of it.
func (q *request) below(path string) bool {
	for q.b().belowFile != 0 && path != "/" {
		path, _ = splitPath(path)
		if e, exists := q.present(path); exists {
			return !e.Dir
		}
	}
	return false
}

// requestPath is the addressed path with the slash at its end, if it came with one.
func (q *request) requestPath() string {
	if q.path != "/" && strings.HasSuffix(q.r.URL.Path, "/") {
		return q.path + "/"
	}
	return q.path
}

// method runs the handler of a DAV method.
func (q *request) method() error {
	switch q.r.Method {
	case http.MethodOptions:
		return q.optionsMethod()
	case http.MethodGet, http.MethodHead:
		return q.get()
	case http.MethodPut:
		return q.put()
	case http.MethodDelete:
		return q.delete()
	case "MKCOL":
		return q.mkcol()
	case "MOVE":
		return q.move()
	case "COPY":
		return q.copy()
	case "PROPFIND":
		return q.propfind()
	case "PROPPATCH":
		return q.proppatch()
	case "LOCK":
		return q.lock()
	case "UNLOCK":
		return q.unlock()
	case http.MethodPatch:
		return q.patch()
	case http.MethodPost:
		if q.b().tus {
			return q.tusCreate()
		}
		if q.b().errors == errorsApache || q.b().dialect == Rclone {
			return q.get()
		}
	}
	return q.unknownMethod()
}

// unknownMethod is the answer to a method that the dialect does not have.
func (q *request) unknownMethod() error {
	f := fail(q.b().unknown, "There was no handler found for this %q method", q.r.Method)
	if q.b().errors == errorsApache && q.r.Method == http.MethodPatch {
		f.status = http.StatusMethodNotAllowed
	}
	if f.status == http.StatusMethodNotAllowed || q.b().errors == errorsApache {
		f.headers = q.allow()
	}
	return f
}

// allow returns the Allow header of the dialect.
func (q *request) allow() [][2]string {
	for _, kv := range q.b().options {
		if kv[0] == "Allow" {
			return [][2]string{kv}
		}
	}
	return nil
}

func (q *request) optionsMethod() error {
	for _, kv := range q.b().options {
		addRaw(q.w.Header(), kv[0], kv[1])
	}
	q.w.Header().Set("Content-Length", "0")
	q.w.WriteHeader(q.b().optionsRC)
	return nil
}
