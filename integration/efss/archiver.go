package efss

import (
	"archive/tar"
	"archive/zip"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"time"
)

// The bounds of one archive, unless Options has others.
const (
	archiveFiles = 10_000
	archiveBytes = 1 << 30
)

// archiverDoc is what OpenCloud's capabilities say of the archiver.
func (q *request) archiverDoc() []object {
	files, bytes := q.s.archiveLimits()
	return []object{{"archiver_url": "/archiver", "enabled": true, "formats": []string{"tar", "zip"},
		"max_num_files": strconv.FormatInt(files, 10), "max_size": strconv.FormatInt(bytes, 10), "version": "2.0.0"}}
}

func (s *Server) archiveLimits() (files, bytes int64) {
	files, bytes = archiveFiles, archiveBytes
	if s.opts.ArchiveFiles > 0 {
		files = s.opts.ArchiveFiles
	}
	if s.opts.ArchiveBytes > 0 {
		bytes = s.opts.ArchiveBytes
	}
	return files, bytes
}

// errArchiveFull ends an archive: nobody is told.
var errArchiveFull = errors.New("the archive is full")

// archiver answers GET of /archiver: the entries of these ids, with all that is below
// them. Only the tar of a folder was measured. An archive beyond the limits just ends,
// without the end that a tar has.
func (q *request) archiver() error {
	ask := q.r.URL.Query()
	var tops []info
	for _, id := range ask["id"] {
		e, ok := q.byID(id)
		if !ok {
			return q.notFound(id)
		}
		tops = append(tops, e)
	}
	if len(tops) == 0 {
		return fail(http.StatusBadRequest, "file list is empty")
	}
	format := "tar"
	if ask.Get("output-format") == "zip" {
		format = "zip"
	}
	q.set("Content-Disposition", `attachment; filename="download.`+format+`"`)
	q.set("Content-Transfer-Encoding", "binary")
	q.set("Content-Type", "application/octet-stream")
	q.w.WriteHeader(http.StatusOK)
	a := &archive{q: q}
	a.files, a.bytes = q.s.archiveLimits()
	end := a.open(format)
	for _, e := range tops {
		err := a.add(e, e.Name)
		if errors.Is(err, errArchiveFull) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return end()
}

// byID finds an entry of the user by its oc:id.
func (q *request) byID(id string) (info, bool) {
	var find func(e info) (info, bool)
	find = func(e info) (info, bool) {
		if q.fileID(e) == id {
			return e, true
		}
		for _, n := range q.s.store.children(q.user, e.Path) {
			if child, ok := q.s.store.infoOf(n, e.Path); ok {
				if found, ok := find(child); ok {
					return found, true
				}
			}
		}
		return info{}, false
	}
	root, err := q.s.store.lookup(q.user, "/")
	if err != nil {
		return info{}, false
	}
	return find(root)
}

// archive is one archive on its way.
type archive struct {
	q            *request
	files, bytes int64 // that it may still hold
	dir          func(name string, mtime time.Time) error
	file         func(name string, mtime time.Time, size int64) (io.Writer, error)
}

// open sets the way of writing, and returns what writes the end.
func (a *archive) open(format string) (end func() error) {
	if format == "zip" {
		w := zip.NewWriter(a.q.w)
		a.dir = func(name string, mtime time.Time) error {
			_, err := w.CreateHeader(&zip.FileHeader{Name: name + "/", Modified: mtime})
			return err
		}
		a.file = func(name string, mtime time.Time, _ int64) (io.Writer, error) {
			return w.CreateHeader(&zip.FileHeader{Name: name, Modified: mtime})
		}
		return w.Close
	}
	w := tar.NewWriter(a.q.w)
	a.dir = func(name string, mtime time.Time) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: mtime})
	}
	a.file = func(name string, mtime time.Time, size int64) (io.Writer, error) {
		return w, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: mtime, Size: size})
	}
	return w.Close
}

// add writes an entry and what is below it.
func (a *archive) add(e info, name string) error {
	if !e.Dir {
		return a.addFile(e.Path, name)
	}
	if err := a.dir(name, e.MTime.Truncate(time.Second)); err != nil {
		return err
	}
	for _, n := range a.q.s.store.children(a.q.user, e.Path) {
		if child, ok := a.q.s.store.infoOf(n, e.Path); ok {
			if err := a.add(child, path.Join(name, child.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *archive) addFile(at, name string) error {
	f, e, err := a.q.s.store.open(a.q.user, at)
	if errors.Is(err, errNotFound) || errors.Is(err, errIsDir) {
		return nil // it went away meanwhile
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if a.files--; a.files < 0 || a.bytes < e.Size {
		return errArchiveFull
	}
	a.bytes -= e.Size
	w, err := a.file(name, e.MTime.Truncate(time.Second), e.Size)
	if err != nil {
		return err
	}
	_, err = io.CopyN(w, f, e.Size)
	return err
}
