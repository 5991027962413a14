package efss

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// getFolder answers GET of a collection by a client that takes an archive of it, as
// Nextcloud does from version 31 on. It is false if this one does not.
func (q *request) getFolder(e info) (bool, error) {
	if q.b().dialect != Nextcloud || q.s.opts.NoFolders || q.r.Method != http.MethodGet {
		return false, nil
	}
	accept := strings.Split(q.header("Accept"), ",")
	if asked := q.r.URL.Query().Get("accept"); asked != "" {
		accept = strings.Split(asked, ",")
	}
	takes := func(names ...string) bool {
		return slices.ContainsFunc(accept, func(s string) bool { return slices.Contains(names, strings.ToLower(strings.TrimSpace(s))) })
	}
	zip := takes("application/zip", "zip")
	switch {
	case !zip && !takes("application/x-tar", "tar"):
		return false, nil
	case q.header("X-NC-Files") != "":
		return true, q.notFound(q.path + "/" + q.header("X-NC-Files"))
	case !zip:
		return true, q.brokenTar(e)
	}
	return true, q.zipFolder(e)
}

// folderName is the name of a folder in its archive.
func folderName(e info) string {
	if e.Path == "/" {
		return "files"
	}
	return e.Name
}

// folderHeaders begins the answer that is an archive.
func (q *request) folderHeaders(e info, typ, ending string) {
	name := folderName(e) + ending
	q.w.Header().Del("X-User-Id") // it was not there
	q.set("X-Accel-Buffering", "no")
	q.set("Pragma", "public")
	q.set("Expires", "0")
	q.set("Accept-Ranges", "bytes")
	q.set("Content-Disposition", fmt.Sprintf("attachment; filename*=UTF-8''%s; filename=%q", url.PathEscape(name), name))
	q.set("Content-Transfer-Encoding", "binary")
	q.set("Last-Modified", httpTime(q.now()))
	q.set("Content-Type", typ)
	q.w.WriteHeader(http.StatusOK)
}

// brokenTar is what Nextcloud 34.0.1 makes of a folder as tar: its own header, and then the
// error of the first file.
func (q *request) brokenTar(e info) error {
	q.set("Cache-Control", "public, must-revalidate")
	q.folderHeaders(e, "application/x-tar", ".tar")
	head := make([]byte, 512)
	copy(head, folderName(e)+"/")
	copy(head[100:], "0000777\x000")
	head[116] = '0'
	copy(head[124:], "00000000000\x00")
	copy(head[136:], fmt.Sprintf("%011o\x00", e.MTime.Unix()))
	copy(head[148:], "        5")
	copy(head[257:], "ustar\x0000")
	sum := 0
	for _, c := range head {
		sum += int(c)
	}
	copy(head[148:], fmt.Sprintf("%06o\x00 ", sum))
	if _, err := q.w.Write(head); err != nil {
		return err
	}
	return q.failInside(&failure{status: http.StatusInternalServerError, exception: "TypeError",
		message: "A type error occurred. For more details, please refer to the logs, which provide additional context about the type error."})
}

// failInside writes an error into an answer that has begun as a success, and ends it well:
// that is how PHP's servers say what goes wrong then.
func (q *request) failInside(f *failure) error {
	text, _ := f.body(q)
	_, err := io.WriteString(q.w, text)
	return err
}

// zipFolder sends a folder with all that is below it as a zip. What cannot be read ends it,
// with an error inside.
func (q *request) zipFolder(e info) error {
	q.folderHeaders(e, "application/zip", ".zip")
	z := &zipStream{w: q.w}
	err := q.zipTree(z, e, folderName(e))
	var f *failure
	if errors.As(err, &f) {
		return q.failInside(f)
	}
	if err != nil {
		return err
	}
	return z.end()
}

// zipTree sends a directory and what is in it, as it is at the moment.
func (q *request) zipTree(z *zipStream, dir info, name string) error {
	if err := z.dir(name+"/", dir.MTime); err != nil {
		return err
	}
	for _, n := range q.s.store.children(q.user, dir.Path) {
		e, ok := q.s.store.infoOf(n, dir.Path)
		if !ok {
			continue
		}
		var err error
		if e.Dir {
			err = q.zipTree(z, e, name+"/"+e.Name)
		} else {
			err = q.zipFile(z, e.Path, name+"/"+e.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// zipFile sends one file.
func (q *request) zipFile(z *zipStream, path, name string) error {
	free, ok := q.s.busy.read(q.user, path)
	if !ok {
		return (&request{s: q.s, path: path}).locked()
	}
	defer free()
	f, e, err := q.s.store.open(q.user, path)
	if errors.Is(err, errNotFound) || errors.Is(err, errIsDir) {
		return nil // it went away meanwhile
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return z.file(name, e.MTime, f)
}

// zipStream writes a zip as Nextcloud's library does: members stored, with ZIP64 sizes that
// follow each file, because they are not known before.
type zipStream struct {
	w       io.Writer
	at      int64
	central []byte
	n       int64
}

func (z *zipStream) write(p []byte) error {
	n, err := z.w.Write(p)
	z.at += int64(n)
	return err
}

// zipMember is what the headers of a member say.
type zipMember struct {
	name  string
	mtime time.Time
	flags uint16 // 8: the sizes follow
	attrs uint32
	crc   uint32
	size  uint64
	at    int64
}

var le = binary.LittleEndian

// extra is the ZIP64 field.
func (m *zipMember) extra() []byte {
	b := le.AppendUint16(nil, 1)
	b = le.AppendUint16(b, 28)
	b = le.AppendUint64(b, m.size)
	b = le.AppendUint64(b, m.size)
	b = le.AppendUint64(b, uint64(m.at))
	return le.AppendUint32(b, 0)
}

// common is what both headers have in the same order.
func (m *zipMember) common(b []byte) []byte {
	t := m.mtime.UTC()
	b = le.AppendUint16(b, 45)
	b = le.AppendUint16(b, m.flags)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint16(b, uint16(t.Hour()<<11|t.Minute()<<5|t.Second()/2))
	b = le.AppendUint16(b, uint16((t.Year()-1980)<<9|int(t.Month())<<5|t.Day()))
	b = le.AppendUint32(b, m.crc)
	b = le.AppendUint64(b, 1<<64-1) // both sizes are in the extra field
	b = le.AppendUint16(b, uint16(len(m.name)))
	return le.AppendUint16(b, 32)
}

// begin writes the local header.
func (z *zipStream) begin(m *zipMember) error {
	m.at = z.at
	b := append(m.common([]byte("PK\x03\x04")), m.name...)
	return z.write(append(b, m.extra()...))
}

// finish puts a member into the directory.
func (z *zipStream) finish(m *zipMember) {
	b := m.common(append(z.central, "PK\x01\x02\x2d\x03"...))
	b = append(b, "\x00\x00\xff\xff\x00\x00"...)
	b = le.AppendUint32(b, m.attrs)
	b = append(append(b, "\xff\xff\xff\xff"...), m.name...)
	z.central = append(b, m.extra()...)
	z.n++
}

func (z *zipStream) dir(name string, mtime time.Time) error {
	m := &zipMember{name: name, mtime: mtime, attrs: 0x41ed0010}
	defer z.finish(m)
	return z.begin(m)
}

func (z *zipStream) file(name string, mtime time.Time, r io.Reader) error {
	m := &zipMember{name: name, mtime: mtime, flags: 8, attrs: 0x81a40000}
	if err := z.begin(m); err != nil {
		return err
	}
	sum := crc32.NewIEEE()
	n, err := io.Copy(z.w, io.TeeReader(r, sum))
	z.at += n
	if err != nil {
		return err
	}
	m.crc, m.size = sum.Sum32(), uint64(n)
	z.finish(m)
	b := le.AppendUint32([]byte("PK\x07\x08"), m.crc)
	b = le.AppendUint64(b, m.size)
	return z.write(le.AppendUint64(b, m.size))
}

// end writes the directory and its ends.
func (z *zipStream) end() error {
	at := z.at
	b := append(z.central, "PK\x06\x06\x2c\x00\x00\x00\x00\x00\x00\x00\x2d\x03\x2d\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	b = le.AppendUint64(b, uint64(z.n))
	b = le.AppendUint64(b, uint64(z.n))
	b = le.AppendUint64(b, uint64(len(z.central)))
	b = le.AppendUint64(b, uint64(at))
	b = append(b, "PK\x06\x07\x00\x00\x00\x00"...)
	b = le.AppendUint64(b, uint64(at)+uint64(len(z.central)))
	b = append(b, "\x01\x00\x00\x00PK\x05\x06\xff\xff\xff\xff"...)
	n := uint16(min(z.n, 0xffff))
	b = le.AppendUint16(le.AppendUint16(b, n), n)
	return z.write(append(b, "\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00"...))
}
