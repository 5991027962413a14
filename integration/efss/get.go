package efss

import (
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// get answers GET and HEAD.
func (q *request) get() error {
	if q.b().busy {
		free, ok := q.s.busy.read(q.user, q.path)
		if _, exists := q.present(q.path); exists && !ok {
			return q.locked()
		}
		defer free()
	}
	f, e, err := q.s.store.open(q.user, q.path)
	if errors.Is(err, errIsDir) {
		if done, err := q.getFolder(e); done {
			return err
		}
		return q.getDir(e)
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if q.b().put == putInPlace {
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		e.Size = fi.Size()
	}
	switch err := q.checkGet(e); {
	case errors.Is(err, errNotModified):
		q.validators(e, http.StatusNotModified)
		q.w.WriteHeader(http.StatusNotModified)
		return nil
	case err != nil:
		if q.b().errors == errorsApache || q.b().errors == errorsText {
			q.validators(e, http.StatusPreconditionFailed)
			q.w.WriteHeader(http.StatusPreconditionFailed)
			return nil
		}
		return err
	}
	return q.serveFile(f, e)
}

// validators writes what an answer without the file tells of it.
func (q *request) validators(e info, status int) {
	if tag := q.b().quoted(e, q.now()); tag != "" {
		q.set("ETag", tag)
	}
	if q.b().etag == etagApache || status != http.StatusNotModified {
		q.set("Last-Modified", httpTime(e.MTime))
	}
	if q.b().dialect == ModDAV {
		q.set("Accept-Ranges", "bytes")
	}
}

// getDir answers GET on a collection.
func (q *request) getDir(e info) error {
	rc := q.b().dirGetRC
	if rc != http.StatusOK {
		return fail(rc, "%s", http.StatusText(rc))
	}
	if q.b().dirGetTyp != "" {
		q.set("Content-Type", q.b().dirGetTyp)
	}
	body := ""
	if q.b().dirGetTyp != "" {
		body = "<!DOCTYPE html><html><head><title>" + e.Name + "</title></head><body></body></html>\n"
	}
	q.set("Content-Length", fmt.Sprint(len(body)))
	_, err := io.WriteString(q.w, body)
	return err
}

// fileHeaders writes what a GET tells of a file besides length and range.
func (q *request) fileHeaders(e info, disk string) error {
	q.headers(q.b().getHeaders, e)
	typ, name := contentType(e), e.Name
	q.set("Content-Type", typ)
	switch q.b().dialect {
	case Nextcloud:
		delete(q.w.Header(), "OC-FileId")
		q.set("ETag", q.b().quoted(e, q.now()))
		q.set("X-Accel-Buffering", "no")
		if strings.HasSuffix(name, ".bin") {
			q.set("Content-Type", "application/x-bin")
		}
		if e.Sum != "" {
			q.set("OC-Checksum", e.Sum)
		}
	case OpenCloud:
		q.set("Accept-Ranges", "bytes")
		sum, _, _ := strings.Cut(e.Sum, " ")
		q.set("Oc-Checksum", sum)
		q.set("Content-Type", typ+"; charset=UTF-8")
	case ModDAV, Rclone, Generic:
		q.set("Accept-Ranges", "bytes")
	case XRootD:
		if want := q.header("Want-Digest"); want != "" {
			digest, err := wantDigest(want, disk)
			if err != nil {
				return err
			}
			q.set("Digest", digest)
		}
	}
	if q.b().ids != idNone {
		q.set("Content-Disposition", fmt.Sprintf("attachment; filename*=UTF-8''%s; filename=%q", url.PathEscape(name), name))
	}
	if q.b().moveHeader == headersOcis {
		q.set("Last-Modified", e.MTime.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	} else if q.b().dialect != XRootD {
		q.set("Last-Modified", httpTime(e.MTime))
	}
	return nil
}

// serveFile sends the file, or the parts that were asked for.
func (q *request) serveFile(f *os.File, e info) error {
	if err := q.fileHeaders(e, f.Name()); err != nil {
		return err
	}
	want := q.header("Range")
	if want != "" && q.b().ranges == rangesRefuse {
		return q.rangeFailed(e, 0)
	}
	if want != "" && !q.rangeHolds(e) {
		want = ""
	}
	if want != "" && q.b().ranges == rangesXRootD {
		return q.serveXRootD(f, e, want)
	}
	parts, ok := parseRange(want, e.Size)
	switch {
	case want != "" && !ok && q.b().dialect == Rclone:
		err := q.rangeFailed(e, 0)
		q.w.Header().Del("Content-Range")
		return err
	case !ok || want == "":
		return q.sendWhole(f, e)
	case len(parts) > 1 || strings.Contains(want, ","):
		if !q.b().multi {
			return q.sendWhole(f, e)
		}
	case e.Size == 0 && q.b().emptyRC == http.StatusOK:
		return q.sendWhole(f, e)
	}
	if len(parts) == 0 {
		return q.rangeFailed(e, firstOffset(want))
	}
	if len(parts) == 1 {
		return q.sendPart(f, e, parts[0])
	}
	return q.sendParts(f, e, parts)
}

// rangeHolds looks at If-Range.
func (q *request) rangeHolds(e info) bool {
	want := q.header("If-Range")
	if want == "" || q.b().ifRange == ifRangeIgnored {
		return true
	}
	if t, err := http.ParseTime(want); err == nil {
		return e.MTime.Truncate(time.Second).Equal(t)
	}
	return matches(want, q.b().quoted(e, q.now()), false)
}

func (q *request) rangeFailed(e info, start int64) error {
	f := fail(http.StatusRequestedRangeNotSatisfiable, "The start offset (%d) exceeded the size of the entity (%d)", start, e.Size)
	f.bare = true
	h := q.w.Header()
	for name := range h {
		switch name {
		case "ETag", "Etag", "Last-Modified", "Date", "Vary", "Server", "X-User-Id":
		default:
			delete(h, name)
		}
	}
	switch q.b().errors {
	case errorsOcis, errorsReva, errorsApache:
		for _, name := range []string{"ETag", "Etag", "Last-Modified"} {
			delete(h, name)
		}
		for _, kv := range q.b().every {
			h[kv[0]] = []string{kv[1]}
		}
	}
	if q.b().dialect == OpenCloud || q.b().errors == errorsText {
		q.set("Content-Range", fmt.Sprintf("bytes */%d", e.Size))
	}
	return f
}

func (q *request) sendWhole(f io.Reader, e info) error {
	q.set("Content-Length", fmt.Sprint(e.Size))
	if q.b().dialect == ModDAV && !q.hasType(e) {
		q.w.Header()["Content-Type"] = nil
	}
	q.w.WriteHeader(http.StatusOK)
	if q.r.Method == http.MethodHead {
		return nil
	}
	_, err := io.CopyN(q.w, f, e.Size)
	return err
}

// byteRange is a part of a file: from inclusive, to exclusive.
type byteRange struct{ from, to int64 }

func (p byteRange) header(size int64) string {
	return fmt.Sprintf("bytes %d-%d/%d", p.from, p.to-1, size)
}

func (q *request) sendPart(f io.ReaderAt, e info, p byteRange) error {
	q.set("Content-Range", p.header(e.Size))
	q.set("Content-Length", fmt.Sprint(p.to-p.from))
	q.w.WriteHeader(http.StatusPartialContent)
	if q.r.Method == http.MethodHead {
		return nil
	}
	_, err := io.CopyN(q.w, io.NewSectionReader(f, p.from, p.to-p.from), p.to-p.from)
	return err
}

func (q *request) sendParts(f io.ReaderAt, e info, parts []byteRange) error {
	mw := multipart.NewWriter(q.w)
	q.set("Content-Type", "multipart/byteranges; boundary="+mw.Boundary())
	q.w.WriteHeader(http.StatusPartialContent)
	for _, p := range parts {
		w, err := mw.CreatePart(textproto.MIMEHeader{
			"Content-Type": {contentType(e)}, "Content-Range": {p.header(e.Size)},
		})
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, io.NewSectionReader(f, p.from, p.to-p.from)); err != nil {
			return err
		}
	}
	return mw.Close()
}

// serveXRootD answers a range as XRootD 5.5 does: only a-b within the file works.
func (q *request) serveXRootD(f *os.File, e info, want string) error {
	first, last, _ := strings.Cut(strings.TrimPrefix(want, "bytes="), "-")
	a, errA := strconv.ParseInt(first, 10, 64)
	b, errB := strconv.ParseInt(last, 10, 64)
	if errA != nil || errB != nil || a >= e.Size {
		q.set("Content-Range", fmt.Sprintf("bytes %d--1/%d", e.Size-max(0, e.Size-a), e.Size))
		q.set("Content-Length", "0")
		q.w.WriteHeader(http.StatusPartialContent)
		return nil
	}
	if b >= e.Size {
		// The wrong length is announced and the rest never comes.
		q.set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", a, b, e.Size))
		q.set("Content-Length", fmt.Sprint(b-a+1))
		q.w.WriteHeader(http.StatusPartialContent)
		_, _ = io.Copy(q.w, io.NewSectionReader(f, a, e.Size-a))
		_ = http.NewResponseController(q.w).Flush()
		<-q.r.Context().Done()
		return q.r.Context().Err()
	}
	return q.sendPart(f, e, byteRange{a, b + 1})
}

// parseRange reads a Range header. Ranges outside the file are left out; ok is false
// if the header is not a range of bytes at all and is to be ignored.
func parseRange(want string, size int64) (parts []byteRange, ok bool) {
	list, ok := strings.CutPrefix(want, "bytes=")
	if !ok {
		return nil, false
	}
	for spec := range strings.SplitSeq(list, ",") {
		first, last, ok := strings.Cut(strings.TrimSpace(spec), "-")
		if !ok {
			return nil, false
		}
		from, errFrom := strconv.ParseInt(first, 10, 64)
		to, errTo := strconv.ParseInt(last, 10, 64)
		switch {
		case first == "" && errTo == nil && to >= 0:
			from, to = max(0, size-to), size
		case errFrom == nil && last == "":
			to = size
		case errFrom == nil && errTo == nil && to >= from && from >= 0:
			to = min(to+1, size)
		default:
			return nil, false
		}
		if from < to {
			parts = append(parts, byteRange{from, to})
		}
	}
	return parts, true
}

func firstOffset(want string) int64 {
	first, _, _ := strings.Cut(strings.TrimPrefix(want, "bytes="), "-")
	n, _ := strconv.ParseInt(first, 10, 64)
	return n
}
