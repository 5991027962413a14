package efss

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// uploadIdle is how long an upload lives without a new chunk.
const uploadIdle = 24 * time.Hour

// chunk is one stored part of an upload.
type chunk struct {
	number int
	name   string
	size   int64
	mtime  time.Time
}

// uploads answers requests below /remote.php/dav/uploads/: chunked upload v2 of
// Nextcloud. rest is the escaped path from the user's name on.
func (q *request) uploads(rest string) error {
	parts, err := splitURL(rest)
	if err != nil {
		return err
	}
	if len(parts) == 1 && parts[0] == q.user && q.r.Method == "PROPFIND" {
		return q.listUploads()
	}
	if len(parts) < 2 || len(parts) > 3 || parts[0] != q.user {
		return q.notFound("/" + strings.Join(parts, "/"))
	}
	q.base, q.path = "/remote.php/dav/files/"+q.user, "/"+strings.Join(parts[1:], "/")
	dir := filepath.Join(q.s.opts.Dir, "uploads", q.user, parts[1])
	q.expireUploads(filepath.Dir(dir))
	if len(parts) == 2 {
		return q.uploadFolder(dir)
	}
	switch {
	case q.r.Method == "MOVE" && parts[2] == ".file":
		return q.assemble(dir)
	case q.r.Method == http.MethodPut:
		return q.putChunk(dir, parts[2])
	case q.r.Method == http.MethodDelete && parts[2] != ".file":
		if err := os.Remove(filepath.Join(dir, parts[2])); err != nil {
			return q.notFound(q.path)
		}
		return q.reply(http.StatusNoContent)
	}
	return q.unknownMethod()
}

// listUploads answers PROPFIND on the home of a user's uploads.
func (q *request) listUploads() error {
	want, err := q.propfindBody()
	if err != nil {
		return err
	}
	home := filepath.Join(q.s.opts.Dir, "uploads", q.user)
	q.expireUploads(home)
	folders, _ := os.ReadDir(home) // none yet
	if q.header("Depth") == "0" {
		folders = nil
	}
	base, out := "/remote.php/dav/uploads/"+q.user+"/", q.multistatus()
	entry := func(path string, a attrs) error {
		found, missing := q.chunkProps(a, want)
		return out.list.response(q.b().list.href(path), propstat{http.StatusOK, found}, propstat{http.StatusNotFound, missing})
	}
	err = entry(base, attrs{Dir: true, MTime: q.now()})
	for _, d := range folders {
		if fi, ierr := d.Info(); ierr == nil {
			err = errors.Join(err, entry(base+d.Name()+"/", attrs{Dir: true, MTime: fi.ModTime()}))
		}
	}
	return errors.Join(err, out.end())
}

// uploadFolder answers requests about the folder of one upload.
func (q *request) uploadFolder(dir string) error {
	switch q.r.Method {
	case "MKCOL":
		if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
			return q.mkcolAgain(true)
		} else if err != nil {
			return err
		}
		return q.reply(http.StatusCreated)
	case "PROPFIND":
		return q.listChunks(dir)
	case http.MethodDelete:
		if _, err := os.Stat(dir); err != nil {
			return q.notFound(q.path)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		return q.reply(http.StatusNoContent)
	}
	return q.unknownMethod()
}

// expireUploads removes the folders below parent that have been idle for too long.
func (q *request) expireUploads(parent string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && q.now().Sub(fi.ModTime()) > uploadIdle {
			_ = os.RemoveAll(filepath.Join(parent, e.Name()))
		}
	}
}

// putChunk stores one chunk. One that was cut short is not kept.
func (q *request) putChunk(dir, name string) error {
	number, err := strconv.Atoi(name)
	if err != nil || number < 1 || number > 10000 {
		return fail(http.StatusBadRequest, "Invalid chunk name, must be numeric between 1 and 10000")
	}
	if _, err := os.Stat(dir); err != nil {
		return q.notFound(q.path)
	}
	if err := q.checkQuota(max(q.r.ContentLength, q.number("OC-Total-Length"))); err != nil {
		return err
	}
	f, err := q.s.store.spool()
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = io.Copy(f, q.r.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(dir, name))
	again := err == nil
	now, at := q.now(), filepath.Join(dir, name)
	if err := errors.Join(os.Chtimes(f.Name(), now, now), os.Rename(f.Name(), at), os.Chtimes(dir, now, now)); err != nil {
		return err
	}
	if again {
		return q.reply(http.StatusNoContent)
	}
	return q.reply(http.StatusCreated)
}

// chunks returns the parts in the order of their numbers, and their sum.
func (q *request) chunks(dir string) ([]chunk, int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, 0, q.notFound(q.path)
	}
	var out []chunk
	var total int64
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			return nil, 0, err
		}
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		out = append(out, chunk{number, e.Name(), fi.Size(), fi.ModTime()})
		total += fi.Size()
	}
	slices.SortFunc(out, func(a, b chunk) int { return a.number - b.number })
	return out, total, nil
}

// listChunks answers PROPFIND on an upload: the folder, the file to be, the chunks.
func (q *request) listChunks(dir string) error {
	want, err := q.propfindBody()
	if err != nil {
		return err
	}
	parts, total, err := q.chunks(dir)
	if err != nil {
		return err
	}
	if want.all {
		want = wanted{all: true, names: names(nsDAV, "getlastmodified", "getcontentlength", "resourcetype", "getetag", "getcontenttype")}
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return q.notFound(q.path)
	}
	base := "/remote.php/dav/uploads/" + q.user + q.path
	out := q.multistatus()
	entry := func(path string, a attrs) error {
		found, missing := q.chunkProps(a, want)
		return out.list.response(q.b().list.href(path), propstat{http.StatusOK, found}, propstat{http.StatusNotFound, missing})
	}
	err = entry(base+"/", attrs{Dir: true, MTime: fi.ModTime()})
	if q.header("Depth") != "0" {
		err = errors.Join(err, entry(base+"/.file", attrs{Size: total, MTime: fi.ModTime(), ETag: q.fileTag(fi.ModTime())}))
		for _, c := range parts {
			tag := hashed(fmt.Sprint(c.name, c.mtime.Unix(), c.size))
			err = errors.Join(err, entry(base+"/"+c.name, attrs{Size: c.size, MTime: c.mtime, ETag: tag}))
		}
	}
	return errors.Join(err, out.end())
}

func (q *request) fileTag(t time.Time) string {
	us := t.UnixMicro()
	return fmt.Sprintf("%08x%05x", us/1e6, us%1e6)
}

// chunkProps are the few properties that the entries of an upload have.
func (q *request) chunkProps(a attrs, want wanted) (found, missing []string) {
	st := &q.b().list
	for _, name := range want.names {
		var value string
		ok := name.Space == nsDAV
		switch name.Local {
		case "getlastmodified":
			value = httpTime(a.MTime)
		case "resourcetype":
			if a.Dir {
				value = "<d:collection/>"
			}
		case "getcontentlength":
			value, ok = fmt.Sprint(a.Size), ok && !a.Dir
		case "getetag":
			value, ok = st.text(`"`+a.ETag+`"`), ok && !a.Dir
		case "getcontenttype":
			value, ok = "application/octet-stream", ok && !a.Dir
		default:
			ok = false
		}
		if ok {
			found = append(found, st.element(name, value))
		} else if !want.all {
			missing = append(missing, st.element(name, ""))
		}
	}
	return found, missing
}

// assemble answers MOVE of ID/.file: the chunks become the file at Destination, in
// one step that no reader sees half done. An existing target keeps its id.
func (q *request) assemble(dir string) error {
	parts, total, err := q.chunks(dir)
	if err != nil {
		return err
	}
	dst, err := q.destination()
	if err != nil {
		return err
	}
	if want := q.number("OC-Total-Length"); want >= 0 && want != total {
		return &failure{status: http.StatusBadRequest, hangUp: true,
			message: fmt.Sprintf("Chunks on server do not sum up to %d but to %d bytes", want, total)}
	}
	if m := q.header("If-Match"); m != "" && m != "*" {
		// Preconditions are about the source, whose ETag nobody knows.
		return q.matchFailed(info{}, false)
	}
	upload := q.path
	q.path = dst
	free, ok := q.s.busy.write(q.user, dst, q.s.opts.ReadLocks)
	if !ok {
		return q.locked()
	}
	defer free()
	old, exists := q.present(dst)
	if err := q.assembleAllowed(old, exists, total); err != nil {
		return err
	}
	mtime, err := q.clientTime(old)
	if err != nil {
		return err
	}
	made, fresh, err := q.joinChunks(dir, parts, mtime)
	if err != nil {
		q.path = upload
		return q.storeFailed(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	q.headers(headersNextcloud, made)
	q.set("ETag", q.b().quoted(made, q.now()))
	if fresh {
		return q.reply(http.StatusCreated)
	}
	return q.reply(http.StatusNoContent)
}

// assembleAllowed looks at all that can forbid the target.
func (q *request) assembleAllowed(old info, exists bool, total int64) error {
	if exists && old.Dir {
		return &failure{status: q.b().putOnDir, message: "PUT is not allowed on non-files."}
	}
	if exists && !q.overwrites() {
		return preconditionFailed("Overwrite", "The destination node already exists, and the overwrite header is set to false")
	}
	if err := q.checkIf(); err != nil {
		return err
	}
	if err := q.checkName(q.path); err != nil {
		return err
	}
	if _, err := q.s.store.parentOf(q.user, q.path); err != nil {
		return &failure{status: http.StatusConflict, message: "The destination node is not found"}
	}
	if err := q.checkAccess(old, exists); err != nil {
		return err
	}
	if err := q.checkLock(q.path, !exists); err != nil {
		return err
	}
	return q.checkQuota(total)
}

// joinChunks writes the chunks one after the other and puts the result in place.
func (q *request) joinChunks(dir string, parts []chunk, mtime time.Time) (info, bool, error) {
	f, err := q.s.store.spool()
	if err != nil {
		return info{}, false, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	var size int64
	for _, c := range parts {
		n, err := appendFile(f, filepath.Join(dir, c.name))
		if err != nil {
			return info{}, false, errors.Join(err, f.Close())
		}
		size += n
	}
	if err := f.Close(); err != nil {
		return info{}, false, err
	}
	return q.s.store.commit(q.user, q.path, content{tmp: f.Name(), size: size, mtime: mtime, sum: q.header("OC-Checksum")})
}

func appendFile(to io.Writer, from string) (int64, error) {
	f, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	return io.Copy(to, f)
}
