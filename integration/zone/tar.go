package zone

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// extract is call 665: unpacks an archive into a collection and registers what came
// out. Its failures are the real server's: a truncated archive is a success, its last
// member has the announced size and wrong bytes; a name that exists is an error without
// force, but all others are registered; a symbolic link is an error, nothing is
// registered and an orphan is left in the vault. No checksums, no times.
func (a *agent) extract(in *wire.StructFileExtAndRegInp) (answer, error) {
	members, dir, err := a.unpack(in)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what was not registered
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	resc, err := a.resourceFor(&in.Cond)
	if err != nil {
		return answer{}, err
	}
	if a.z.cat.collAt(in.Collection) == nil {
		if _, err := a.makeColl(in.Collection, true); err != nil {
			return answer{}, err
		}
	}
	var first error
	for _, m := range members {
		if err := a.register(in, resc, m); err != nil && first == nil {
			first = err
		}
	}
	return answer{}, first
}

// member is a file or directory of an archive.
type member struct {
	path string // relative and clean
	dir  bool
	mode int64
	data string // file in the vault with the bytes
}

// unpack writes the members of the archive into a directory of the vault, which is left
// behind on error, as by the real server.
func (a *agent) unpack(in *wire.StructFileExtAndRegInp) (members []member, dir string, err error) {
	if err := checkPath(in.Collection); err != nil {
		return nil, "", err
	}
	a.z.mu.Lock()
	d, err := a.openObject(&wire.DataObjInp{Path: in.Path})
	a.z.mu.Unlock()
	if err != nil {
		return nil, "", err
	}
	defer func() { _, _ = a.close(&wire.OpenedDataObjInp{Desc: d.fd}) }()
	dir = d.file.Name() + ".dir"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", errnoCode(wire.CodeUnixMkdir, err)
	}
	members, err = readArchive(d.file, dir)
	return members, dir, err
}

// readArchive unpacks into dir. The end of a truncated archive is no error.
func readArchive(f io.Reader, dir string) ([]member, error) {
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
		m := member{path: path, dir: h.Typeflag == tar.TypeDir, mode: h.Mode}
		if !m.dir {
			m.data = filepath.Join(dir, strconv.Itoa(len(members)))
			if err := writeMember(m.data, archive, h.Size); err != nil {
				return nil, err
			}
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

// writeMember writes size bytes; those that a truncated archive lacks are zero.
func writeMember(path string, from io.Reader, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return errnoCode(wire.CodeUnixCreate, err)
	}
	_, err = io.Copy(f, from)
	if errors.Is(err, io.ErrUnexpectedEOF) {
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

// register makes the object or collection of a member. The caller holds Zone.mu.
func (a *agent) register(in *wire.StructFileExtAndRegInp, resc *resource, m member) error {
	path := in.Collection + "/" + m.path
	if m.dir {
		if a.z.cat.collAt(path) != nil {
			return nil
		}
		_, err := a.makeColl(path, true)
		return err
	}
	dir, _ := split(path)
	if a.z.cat.collAt(dir) == nil {
		if _, err := a.makeColl(dir, true); err != nil {
			return err
		}
	}
	if old := a.z.cat.objectAt(path); old != nil {
		if !in.Cond.Has(wire.KwForce) {
			return code(wire.CodeCopyInResource)
		}
		if err := a.remove(old, true); err != nil {
			return err
		}
	}
	parent, name, err := a.parentFor(path)
	if err != nil {
		return err
	}
	if parent.subs[name] != nil {
		return code(wire.CodeExistsAsCollection)
	}
	info, err := os.Stat(m.data)
	if err != nil {
		return errnoCode(wire.CodeUnixStat, err)
	}
	now := a.z.now()
	o := a.z.cat.addObject(parent, name, a.user, strconv.FormatInt(m.mode&0o7777, 10), "generic")
	o.Replicas = []*replica{{Resc: resc.ID, Size: info.Size(), Status: good, Create: now, Modify: now}}
	if err := os.Rename(m.data, a.z.cat.file(o, o.Replicas[0])); err != nil {
		a.z.cat.dropObject(o, now)
		return errnoCode(wire.CodeUnixRename, err)
	}
	a.z.cat.save(record{Object: o})
	return nil // the registration of an archive's members leaves the collection's time alone
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
