package zone

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// extract is call 665: unpacks an archive into a collection, which is made if it is
// missing, and registers what came out, where the archive lies. Its failures are the real
// server's, measured on 5.0.2 and by its source:
//
//   - A truncated archive is a success, its last member has the announced size and wrong
//     bytes; so have all for which the storage has no room.
//   - A name that exists on this storage is an error without force, but all others are
//     registered. With the bulk option they are registered by fifties, and one that
//     exists in another way is the end of the fifty that it is in.
//   - A symbolic link is an error, nothing is registered and an orphan is left in the vault.
//   - No checksums, no times. The permission bits of members count, but for those of umask.
//   - The archive stays. Nothing is undone, and the work goes on, if the client goes away.
func (a *agent) extract(in *wire.StructFileExtAndRegInp) (answer, error) {
	if err := a.prepareExtract(in.Collection); err != nil {
		return answer{}, err
	}
	members, dir, resc, err := a.unpack(in)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what was not registered
	return answer{}, a.registerAll(in, resc, members)
}

// prepareExtract makes the collection, and asks for more than is needed to put into it.
func (a *agent) prepareExtract(path string) error {
	if err := checkPath(path); err != nil {
		return err
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	x := a.z.cat.collAt(path)
	if x == nil || !a.seesColl(x) {
		var err error
		if x, err = a.makeColl(path, true); err != nil {
			return err
		}
	}
	return a.may(x.Access, levelDelete)
}

// member is a file or directory of an archive.
type member struct {
	path string // relative and clean
	dir  bool
	mode int64
	size int64
	data string // file in the vault with the bytes
}

// unpack writes the members of the archive into a directory of the vault, which is left
// behind on error, as by the real server.
func (a *agent) unpack(in *wire.StructFileExtAndRegInp) (members []member, dir string, resc int64, err error) {
	a.z.mu.Lock()
	d, err := a.openObject(&wire.DataObjInp{Path: in.Path})
	a.z.mu.Unlock()
	if err != nil {
		return nil, "", 0, err
	}
	defer func() { _, _ = a.close(&wire.OpenedDataObjInp{Desc: d.fd}) }()
	dir = d.file.Name() + ".dir"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", 0, errnoCode(wire.CodeUnixMkdir, err)
	}
	room := int64(math.MaxInt64)
	if a.extraction.Room > 0 {
		room = a.extraction.Room
	}
	members, err = readArchive(d.file, dir, room)
	return members, dir, d.replica.Resc, err
}

// umask is that of usual servers.
const umask = 0o022

// readArchive unpacks into dir. The end of a truncated archive is no error, nor is the end
// of the room.
func readArchive(f io.Reader, dir string, room int64) ([]member, error) {
	r := bufio.NewReader(f)
	var in io.Reader = r
	if magic, err := r.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		if in, err = gzip.NewReader(r); err != nil {
			return nil, code(wire.CodeInvalidInput)
		}
	}
	var members []member
	for archive := tar.NewReader(in); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return members, nil
		}
		if err != nil {
			return nil, code(wire.CodeInvalidInput)
		}
		path, ok := memberPath(h.Name)
		switch {
		case h.Typeflag == tar.TypeSymlink || h.Typeflag == tar.TypeLink:
			return nil, code(wire.CodeNullInput)
		case !ok || (h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir):
			continue
		}
		m := member{path: path, dir: h.Typeflag == tar.TypeDir, mode: h.Mode & 0o777 &^ umask}
		if !m.dir {
			m.data = filepath.Join(dir, strconv.Itoa(len(members)))
			m.size = h.Size
			if err := writeMember(m.data, io.LimitReader(archive, room), h.Size); err != nil {
				return nil, err
			}
			room = max(room-h.Size, 0)
		}
		members = append(members, m)
	}
}

// memberPath makes a name relative. Names with ".." are dropped without a word.
func memberPath(name string) (string, bool) {
	var parts []string
	for _, part := range strings.Split(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return "", false
		default:
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/"), len(parts) > 0
}

// writeMember writes size bytes; those that are missing are zero.
func writeMember(path string, from io.Reader, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return errnoCode(wire.CodeUnixCreate, err)
	}
	_, err = io.Copy(f, from)
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = f.Truncate(size)
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return errnoCode(wire.CodeUnixWrite, err)
	}
	return nil
}

// bundle is call 666: makes an archive of a collection.
func (a *agent) bundle(in *wire.StructFileExtAndRegInp) (answer, error) {
	type entry struct {
		name, file string
		mode, size int64
	}
	var entries []entry
	a.z.mu.Lock()
	x := a.z.cat.collAt(in.Collection)
	if checkPath(in.Collection) != nil || x == nil || !a.seesColl(x) {
		a.z.mu.Unlock()
		return answer{}, code(wire.CodeUnknownCollection)
	}
	top := x.path() + "/"
	_ = x.walk(func(o *object) error {
		if a.seesObject(o) && o.writing == nil {
			r := o.best()
			entries = append(entries, entry{strings.TrimPrefix(o.path(), top), a.z.cat.file(o, r), number(o.Mode), r.Size})
		}
		return nil
	}, func(*coll) error { return nil })
	a.z.mu.Unlock()
	d, err := a.openForPut(&wire.DataObjInp{Path: in.Path, CreateMode: 0o644, Cond: in.Cond})
	if err != nil {
		return answer{}, err
	}
	w := tar.NewWriter(d.file)
	for _, e := range entries {
		err = w.WriteHeader(&tar.Header{Name: e.name, Mode: e.mode, Size: e.size, Format: tar.FormatPAX})
		if err == nil {
			err = copyInto(w, e.file, e.size)
		}
		if err != nil {
			break
		}
	}
	err = errors.Join(err, w.Close())
	if _, closing := a.close(&wire.OpenedDataObjInp{Desc: d.fd}); err == nil {
		err = closing
	}
	if err != nil {
		return answer{}, errnoCode(wire.CodeUnixWrite, err)
	}
	return answer{}, nil
}

func copyInto(w io.Writer, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.CopyN(w, f, size)
	return err
}
