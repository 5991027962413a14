package efss

import (
	"errors"
	"net/http"
	"strings"
)

// mkcol answers MKCOL.
func (q *request) mkcol() error {
	if q.r.ContentLength > 0 {
		return fail(http.StatusUnsupportedMediaType, "The request body for the MKCOL request must have an xml Content-Type")
	}
	e, exists := q.present(q.path)
	if exists {
		return q.mkcolAgain(e.Dir)
	}
	if err := q.checkName(q.path); err != nil {
		return err
	}
	dir, _ := splitPath(q.path)
	if q.b().mkcolDeep {
		if err := q.s.store.mkdirAll(q.user, dir); err != nil {
			return fail(http.StatusConflict, "Parent is not a collection")
		}
	}
	if err := errors.Join(q.checkIf(), q.checkAccess(info{}, false), q.checkLock(q.path, true)); err != nil {
		return err
	}
	e, err := q.s.store.mkdir(q.user, q.path)
	switch {
	case errors.Is(err, errExists):
		return q.mkcolAgain(true)
	case errors.Is(err, errNotDir) && q.b().dialect == Rclone:
		return q.mkcolAgain(false)
	case errors.Is(err, errNoParent), errors.Is(err, errNotDir):
		return q.noParent(http.StatusConflict, dir)
	case err != nil:
		return err
	}
	if q.b().services {
		q.set("OC-FileId", q.fileID(e))
	}
	q.location()
	return q.reply(http.StatusCreated)
}

// mkcolAgain is the answer to MKCOL where a collection, or else a file, is already.
func (q *request) mkcolAgain(dir bool) error {
	status := q.b().mkcolAgain
	if status == http.StatusCreated {
		if dir || q.b().dialect == XRootD {
			return q.reply(http.StatusCreated)
		}
		status = http.StatusMethodNotAllowed
	}
	f := fail(status, "The resource you tried to create already exists")
	if q.b().errors == errorsSabre || q.b().errors == errorsApache {
		f.headers = q.allow()
	}
	return f
}

// delete answers DELETE: directories go with all that is in them.
func (q *request) delete() error {
	e, exists := q.present(q.path)
	if !exists {
		return q.notFound(q.path)
	}
	if q.path == "/" {
		return forbidden()
	}
	if err := q.checkLeave(e); err != nil {
		return err
	}
	if err := q.s.store.remove(q.user, q.path); err != nil {
		return err
	}
	q.s.locks.forget(q.user, q.path)
	return q.reply(http.StatusNoContent)
}

// checkLeave looks at all that can forbid taking e away from its place.
func (q *request) checkLeave(e info) error {
	if err := q.checkOther(e, true); err != nil {
		return err
	}
	dir, err := q.s.store.parentOf(q.user, e.Path)
	if e.ReadOnly || err == nil && dir.ReadOnly {
		return forbidden()
	}
	if err := q.checkBusy(e.Path); err != nil {
		return err
	}
	return q.checkLockTree(e.Path)
}

// move answers MOVE.
func (q *request) move() error {
	e, exists := q.present(q.path)
	if !exists && !q.b().dstFirst {
		return q.notFound(q.path)
	}
	dst, err := q.destination()
	if err != nil {
		return err
	}
	if q.b().dstFirst {
		if err := q.targetFirst(dst, exists); err != nil {
			return err
		}
	}
	if q.path == "/" {
		return forbidden()
	}
	if err := q.checkLeave(e); err != nil {
		return err
	}
	if err := q.checkArrive(e, dst); err != nil {
		return err
	}
	if err := q.wreck(e, dst); err != nil {
		return err
	}
	cleared, err := q.clear(dst)
	if err != nil {
		return err
	}
	made, replaced, err := q.s.store.move(q.user, q.path, dst, q.overwrites())
	if err != nil {
		return q.moveFailed(err, dst)
	}
	q.s.locks.forget(q.user, q.path)
	return q.moved(made, cleared || replaced)
}

// clear deletes what is at dst, where the dialect takes it away before it puts
// something else in its place. It tells whether there was something.
func (q *request) clear(dst string) (bool, error) {
	old, there := q.present(dst)
	if !q.b().moveGap || !q.overwrites() || !there || dst == q.path || isBelow(q.path, dst) || isBelow(dst, q.path) {
		return false, nil
	}
	q.s.locks.forget(q.user, old.Path)
	err := q.s.store.remove(q.user, dst)
	if errors.Is(err, errNotFound) {
		return false, nil
	}
	return true, err
}

// targetFirst is the order in which Go's WebDAV package looks at a MOVE.
func (q *request) targetFirst(dst string, exists bool) error {
	if dst == q.path {
		return q.moveFailed(errSame, dst)
	}
	if _, there := q.present(dst); there && !q.overwrites() {
		return q.moveFailed(errExists, dst)
	}
	if !exists {
		f := q.notFound(q.path)
		f.status = q.b().moveNoSrc
		return f
	}
	return nil
}

// wreck is for changes that fail on the real server after the target is gone:
// mod_dav and rclone delete what is to be replaced even if the source is a file in
// it, and rclone even if a file then cannot take a full directory's place.
func (q *request) wreck(e info, dst string) error {
	old, there := q.present(dst)
	status := 0
	switch {
	case q.b().dialect == Rclone && q.r.Method == "COPY" && isBelow(dst, e.Path):
		return fail(http.StatusInternalServerError, "")
	case !there || !q.overwrites() || dst == "/":
	case q.b().dialect == ModDAV && isBelow(e.Path, dst):
		if e.Dir {
			return forbidden() // only a file takes the directory that it is in with it
		}
		status = http.StatusInternalServerError
	case q.b().dialect == Rclone && q.r.Method == "COPY" && isBelow(e.Path, dst):
		return fail(http.StatusInternalServerError, "")
	case q.b().dialect == Rclone && q.r.Method == "MOVE" && (isBelow(e.Path, dst) || !e.Dir && old.Dir && len(q.s.store.children(q.user, dst)) > 0):
		status = http.StatusForbidden
	}
	if status == 0 {
		return nil
	}
	return errors.Join(fail(status, ""), q.s.store.remove(q.user, dst))
}

// checkArrive looks at all that can forbid putting e at dst.
func (q *request) checkArrive(e info, dst string) error {
	if err := q.checkName(dst); err != nil {
		return err
	}
	dir, _ := splitPath(dst)
	parent, err := q.s.store.parentOf(q.user, dst)
	if err != nil {
		switch {
		case q.below(dst):
			return fail(q.b().belowFile, "The destination is below a file")
		case q.b().dialect == ModDAV && e.Dir && (q.r.Method == "COPY" || isBelow(dst, e.Path)):
			return forbidden()
		case q.b().moveNoDir != 0 && q.r.Method == "COPY":
			return &failure{status: http.StatusConflict, message: "The destination node is not found"}
		case q.b().moveNoDir != 0:
			return &failure{status: q.b().moveNoDir, message: "The destination node is not found"}
		}
		if err := q.s.store.mkdirAll(q.user, dir); err != nil {
			return fail(http.StatusConflict, "The destination is not in a collection")
		}
	}
	old, there := q.present(dst)
	if parent.ReadOnly && !there || old.ReadOnly {
		return forbidden()
	}
	if there && !q.overwrites() {
		return preconditionFailed("Overwrite", "The destination node already exists, and the overwrite header is set to false")
	}
	if there && old.Dir && q.b().moveFull != 0 && len(q.s.store.children(q.user, dst)) > 0 {
		return fail(q.b().moveFull, "The destination is not empty")
	}
	if err := q.checkBusy(dst); err != nil {
		return err
	}
	if there {
		return q.checkLockTree(dst)
	}
	return q.checkLock(dst, true)
}

// overwrites is what the Overwrite header says, by the dialect's reading.
func (q *request) overwrites() bool {
	if q.b().ignoreF {
		return true
	}
	switch strings.ToUpper(strings.TrimSpace(q.header("Overwrite"))) {
	case "T":
		return true
	case "F":
		return false
	}
	return q.b().absentOver
}

func (q *request) moveFailed(err error, dst string) error {
	switch {
	case errors.Is(err, errNoParent), errors.Is(err, errNotDir):
		return &failure{status: max(q.b().moveNoDir, http.StatusConflict), message: "The destination node is not found"}
	case errors.Is(err, errExists):
		return preconditionFailed("Overwrite", "The destination node already exists, and the overwrite header is set to false")
	case errors.Is(err, errSame):
		return fail(http.StatusForbidden, "Source and destination uri are identical.")
	case errors.Is(err, errInside):
		return fail(http.StatusForbidden, "Cannot move or copy %s into itself", dst)
	}
	return err
}

// moved writes the answer to a MOVE or COPY that worked.
func (q *request) moved(e info, replaced bool) error {
	q.headers(q.b().moveHeader, e)
	if q.b().ids == idPath {
		// Here, and only here, Reva leaves the space out of the id.
		q.set("Oc-Fileid", strings.Replace(q.fileID(e), "$F5UG63LF", "", 1))
	}
	if replaced {
		return q.reply(http.StatusNoContent)
	}
	q.path = e.Path
	q.location()
	return q.reply(http.StatusCreated)
}

// copy answers COPY.
func (q *request) copy() error {
	if rc := q.b().copyRC; rc != 0 {
		return fail(rc, "COPY does not work here")
	}
	e, exists := q.present(q.path)
	if !exists && !q.b().dstFirst {
		return q.notFound(q.path)
	}
	dst, err := q.destination()
	if err != nil {
		return err
	}
	if q.b().dstFirst && dst == q.path {
		return q.moveFailed(errSame, dst)
	}
	if !exists {
		return q.notFound(q.path)
	}
	if err := errors.Join(q.checkOther(e, true), q.checkBusy(q.path)); err != nil {
		return err
	}
	if err := q.checkArrive(e, dst); err != nil {
		return err
	}
	if err := q.checkQuota(e.Size); err != nil {
		return err
	}
	shallow := e.Dir && q.b().copyDepth && q.header("Depth") == "0"
	if err := q.wreck(e, dst); err != nil {
		return err
	}
	cleared, err := q.clear(dst)
	if err != nil {
		return err
	}
	made, replaced, err := q.s.store.copy(q.user, q.path, dst, q.overwrites(), shallow)
	if err != nil {
		return q.moveFailed(err, dst)
	}
	return q.moved(made, cleared || replaced)
}
