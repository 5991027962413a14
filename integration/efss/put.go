package efss

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// put answers PUT.
func (q *request) put() error {
	if err := q.putForm(); err != nil {
		return err
	}
	if q.b().busy {
		free, ok := q.s.busy.write(q.user, q.path, true)
		if !ok {
			return q.locked()
		}
		defer free()
	}
	e, exists := q.present(q.path)
	if err := q.putAllowed(e, exists); err != nil {
		return err
	}
	mtime, err := q.clientTime(e)
	if err != nil {
		return err
	}
	if q.header("Content-Range") != "" && q.b().contRange == rangePutPartial {
		return q.putRange(exists)
	}
	h := newHasher(q.wantedHashes()...)
	made, fresh, err := q.receive(exists, mtime, h)
	if err != nil {
		return q.storeFailed(err)
	}
	return q.putDone(made, fresh, h)
}

// putForm refuses requests that the dialect cannot take whatever is there.
func (q *request) putForm() error {
	if q.header("Content-Range") != "" {
		switch q.b().contRange {
		case rangePutRefuse:
			return fail(http.StatusBadRequest, "Content-Range on PUT requests are forbidden.")
		case rangePutUnknown:
			return &failure{status: http.StatusNotImplemented}
		}
	}
	if q.r.ContentLength < 0 && !q.b().noLength {
		return &failure{status: http.StatusBadRequest, message: "Content-Length is missing", bare: true}
	}
	return nil
}

// putAllowed looks at all that can forbid the PUT, in the order in which the
// servers look.
func (q *request) putAllowed(e info, exists bool) error {
	if exists && e.Dir {
		return &failure{status: q.b().putOnDir, message: "PUT is not allowed on non-files.", bare: true}
	}
	if err := q.checkPut(e, exists); err != nil {
		return err
	}
	if !exists {
		if err := q.makePlace(q.path); err != nil {
			return err
		}
	}
	if err := q.checkAccess(e, exists); err != nil {
		return err
	}
	if err := q.checkLock(q.path, !exists); err != nil {
		return err
	}
	return q.checkQuota(max(q.r.ContentLength, q.number("OC-Total-Length"), q.number("X-Expected-Entity-Length")))
}

// makePlace checks name and parent of a file to be made, and makes the parent where
// the dialect does.
func (q *request) makePlace(path string) error {
	if err := q.checkName(path); err != nil {
		return err
	}
	_, err := q.s.store.parentOf(q.user, path)
	if err == nil {
		return nil
	}
	dir, _ := splitPath(path)
	if q.b().putNoDir == 0 || q.b().services && q.header("X-NC-WebDAV-Auto-Mkcol") == "1" {
		if err := q.s.store.mkdirAll(q.user, dir); err != nil {
			return fail(http.StatusConflict, "The parent is not a collection")
		}
		return nil
	}
	return q.noParent(q.b().putNoDir, dir)
}

// noParent is the answer for a missing parent collection.
func (q *request) noParent(status int, dir string) *failure {
	f := &failure{status: status, message: "File with name " + dir + " could not be located", bare: true}
	if status == http.StatusConflict {
		f.message = "Parent node does not exist"
	}
	return f
}

// checkAccess refuses what SetReadOnly forbids.
func (q *request) checkAccess(e info, exists bool) error {
	if exists && e.ReadOnly {
		return forbidden()
	}
	if !exists {
		if dir, err := q.s.store.parentOf(q.user, q.path); err == nil && dir.ReadOnly {
			return forbidden()
		}
	}
	return nil
}

func forbidden() *failure {
	return fail(http.StatusForbidden, "You are not allowed to do this")
}

// checkQuota answers 507 if length more bytes do not fit.
func (q *request) checkQuota(length int64) error {
	free := q.free()
	if free >= 0 && length > free {
		return fail(http.StatusInsufficientStorage, "Insufficient space in %s, %d required, %d available", strings.TrimPrefix(q.path, "/"), length, free)
	}
	return nil
}

// number returns a header as a number, -1 if there is none.
func (q *request) number(header string) int64 {
	n, err := strconv.ParseInt(q.header(header), 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// clientTime reads X-OC-Mtime by the dialect's rule and announces that it was
// accepted. It is zero if the server's time is to be used.
func (q *request) clientTime(old info) (time.Time, error) {
	text := q.header("X-OC-Mtime")
	if text == "" || q.b().mtime == mtimeIgnored {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	t := time.Unix(int64(seconds), 0)
	switch q.b().mtime {
	case mtimeNextcloud:
		if err != nil || seconds <= 86400 {
			return t, fail(http.StatusInternalServerError, "X-OC-MTime header must be a valid positive integer")
		}
		q.set("X-OC-MTime", "accepted")
		return t, nil
	case mtimeOcis:
		if err != nil {
			return t, fail(http.StatusBadRequest, "invalid mtime")
		}
		if old.Puts >= 2 && old.MTime.Equal(t) {
			// The name of the kept version is made of the mtime: it is there already.
			return t, fail(http.StatusInternalServerError, "")
		}
		q.set("X-Oc-Mtime", "accepted")
		return t, nil
	}
	q.set("X-Oc-Mtime", "accepted")
	return time.Time{}, nil
}

// wantedHashes are the digests to compute while the body comes in.
func (q *request) wantedHashes() []string {
	switch {
	case q.b().sums == sumsComputed:
		return []string{"sha1", "md5", "adler32"}
	case q.b().etag == etagContent:
		return []string{"md5"}
	case q.b().services && q.header("X-Hash") == "all":
		return []string{"md5", "sha1", "sha256"}
	case q.b().services:
		return []string{strings.ToLower(q.header("X-Hash"))}
	}
	return nil
}

// receive stores the body, in the way of the dialect.
func (q *request) receive(exists bool, mtime time.Time, h *hasher) (info, bool, error) {
	mode := q.b().put
	if mode == putOverlay {
		mode = putSpool
		if exists {
			return q.overwrite(mtime, h)
		}
	}
	if mode == putInPlace {
		if err := q.s.store.create(q.user, q.path); err != nil {
			return info{}, false, err
		}
		made, _, err := q.overwrite(mtime, h)
		return made, !exists, err
	}
	return q.spooled(mtime, h, mode == putSalvage)
}

// spooled receives elsewhere and puts in place what came in whole. With salvage a
// cut body is put in place as well.
func (q *request) spooled(mtime time.Time, h *hasher, salvage bool) (info, bool, error) {
	f, err := q.s.store.spool()
	if err != nil {
		return info{}, false, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	n, err := io.Copy(io.MultiWriter(f, h), q.r.Body)
	closed := f.Close()
	if err != nil && salvage {
		_, _, again := q.s.store.commit(q.user, q.path, content{tmp: f.Name(), size: n})
		return info{}, false, errors.Join(err, again)
	}
	if err = errors.Join(err, closed); err != nil {
		return info{}, false, err
	}
	sum, err := q.checksum(h)
	if err != nil {
		return info{}, false, err
	}
	if err := q.checkLate(n); err != nil {
		return info{}, false, err
	}
	return q.s.store.commit(q.user, q.path, content{tmp: f.Name(), size: n, mtime: mtime, sum: sum, md5: h.hex("md5")})
}

// checkLate is the quota for bodies whose length was not announced.
func (q *request) checkLate(n int64) error {
	if q.r.ContentLength >= 0 {
		return nil
	}
	return q.checkQuota(n)
}

// overwrite writes into the file that is there. When the body is cut, what arrived
// stays and the old content is gone.
func (q *request) overwrite(mtime time.Time, h *hasher) (info, bool, error) {
	f, err := os.OpenFile(q.s.store.disk(q.user, q.path), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return info{}, false, err
	}
	n, err := io.Copy(io.MultiWriter(f, h), q.r.Body)
	err = errors.Join(err, f.Close())
	c := content{size: n, md5: h.hex("md5")}
	if err == nil {
		c.mtime = mtime
		c.sum, err = q.checksum(h)
	}
	made, fresh, stored := q.s.store.commit(q.user, q.path, c)
	return made, fresh, errors.Join(err, stored)
}

// checksum returns what oc:checksums will say, or refuses a body that does not have
// the announced one.
func (q *request) checksum(h *hasher) (string, error) {
	sent := q.header("OC-Checksum")
	switch q.b().sums {
	case sumsAsSent:
		return sent, nil
	case sumsComputed:
		if name, sum, ok := splitChecksum(sent); sent != "" && (!ok || h.hex(name) != sum) {
			return "", fail(http.StatusBadRequest, "The computed checksum does not match the one received from the client.")
		}
		return h.ocis(), nil
	}
	return "", nil
}

// putRange writes a part of a file, as mod_dav does for PUT with Content-Range.
func (q *request) putRange(exists bool) error {
	var from, to int64
	spec, _, _ := strings.Cut(q.header("Content-Range"), "/")
	if n, err := fmt.Sscanf(spec, "bytes %d-%d", &from, &to); n != 2 || err != nil || from < 0 || to < from {
		return fail(http.StatusBadRequest, "Malformed Content-Range header for PUT.")
	}
	disk := q.s.store.disk(q.user, q.path)
	f, err := os.OpenFile(disk, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.NewOffsetWriter(f, from), io.LimitReader(q.r.Body, to-from+1))
	err = errors.Join(err, f.Close())
	fi, statErr := os.Stat(disk)
	if statErr != nil {
		return statErr
	}
	made, fresh, stored := q.s.store.commit(q.user, q.path, content{size: fi.Size()})
	if err := errors.Join(err, stored); err != nil {
		return err
	}
	return q.putDone(made, fresh && !exists, newHasher())
}

// storeFailed words the store's errors for a PUT.
func (q *request) storeFailed(err error) error {
	switch {
	case errors.Is(err, errNoParent), errors.Is(err, errNotDir):
		dir, _ := splitPath(q.path)
		return q.noParent(max(q.b().putNoDir, http.StatusConflict), dir)
	case errors.Is(err, errIsDir):
		return &failure{status: q.b().putOnDir, message: "PUT is not allowed on non-files.", bare: true}
	}
	return err
}

// putDone writes the answer to a PUT that worked.
func (q *request) putDone(e info, fresh bool, h *hasher) error {
	q.headers(q.b().putHeaders, e)
	switch q.b().putHeaders {
	case headersNextcloud:
		q.set("X-NC-OwnerId", q.user)
		q.set("X-NC-Permissions", q.permissions(e))
		q.set("ETag", q.b().quoted(e, q.now()))
		for name := range h.sums {
			q.set("X-Hash-"+strings.ToUpper(name), h.hex(name))
		}
	case headersOcis:
		q.set("Last-Modified", e.MTime.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	}
	status := q.b().putOver
	if fresh {
		status = q.b().putNew
	}
	if fresh {
		q.location()
	}
	return q.reply(status)
}

// location tells where the new resource is, as Apache does.
func (q *request) location() {
	if q.b().errors == errorsApache {
		q.set("Location", "http://"+q.r.Host+escapePath(q.url(q.path, false)))
	}
}

// patch answers PATCH: Nextcloud recalculates a checksum, nobody else knows it.
func (q *request) patch() error {
	name := strings.ToLower(q.header("X-Recalculate-Hash"))
	if !q.b().services || name == "" {
		return q.unknownMethod()
	}
	e, exists := q.present(q.path)
	if !exists || e.Dir {
		return q.notFound(q.path)
	}
	sum, err := hashFile(q.s.store.disk(q.user, q.path), name)
	if err != nil {
		return fail(http.StatusBadRequest, "unknown hash %q", name)
	}
	text := fmt.Sprintf("%s:%x", strings.ToUpper(name), sum)
	e, err = q.s.store.edit(q.user, q.path, false, func(n *node) { n.Sum = text })
	if err != nil {
		return err
	}
	q.set("OC-Checksum", text)
	q.headers(headersNextcloud, e)
	return q.reply(http.StatusNoContent)
}
