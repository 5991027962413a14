package efss

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// bulkPath is the address of Nextcloud's bulk upload.
const bulkPath = "/remote.php/dav/bulk"

// bulkPart is one file of a bulk upload.
type bulkPart struct {
	path    string // as the client wrote it
	mtime   string
	content []byte
}

// bulkFile is what the answer says of one path: a message if it failed.
type bulkFile struct {
	path, message       string
	etag, fileID, perms string
}

// bulk answers POST of many files in one request. The parts are taken one after the
// other, each is stored before the next is read, and what is at its path is replaced. A
// part that cannot be stored is an error in the answer, which is 200 all the same. A part
// that cannot be read, or has another checksum, ends the request with 400; what was stored
// before stays.
func (q *request) bulk() error {
	typ, params, err := mime.ParseMediaType(q.header("Content-Type"))
	if err != nil || typ != "multipart/related" || params["boundary"] == "" {
		return fail(http.StatusBadRequest, "Content-Type must be multipart/related")
	}
	in := &bulkReader{r: bufio.NewReader(q.r.Body), boundary: "--" + params["boundary"]}
	var done []bulkFile
	for !in.atEnd() {
		part, err := in.next()
		if err != nil {
			q.s.log.Debug("bulk upload given up", "error", err)
			q.set("Connection", "close")
			return q.bulkReply(http.StatusBadRequest, done)
		}
		done = append(done, q.bulkStore(part))
	}
	return q.bulkReply(http.StatusOK, done)
}

// bulkFault is what the server says of a file that it has not stored, in its own words.
type bulkFault string

// Error implements error.
func (f bulkFault) Error() string { return string(f) }

// bulkReader reads the parts as Nextcloud does: by their lengths, with nothing between
// them but the boundary.
type bulkReader struct {
	r        *bufio.Reader
	boundary string
}

// at tells whether text is next.
func (b *bulkReader) at(text string) bool {
	next, _ := b.r.Peek(len(text)) // less at the end
	return string(next) == text
}

func (b *bulkReader) atEnd() bool { return b.at(b.boundary + "--\r\n") }

// next reads one part.
func (b *bulkReader) next() (bulkPart, error) {
	if !b.at(b.boundary + "\r\n") {
		return bulkPart{}, errors.New("boundary not found where it should be")
	}
	_, _ = b.r.Discard(len(b.boundary) + 2) // it is there
	h, err := b.headers()
	if err != nil {
		return bulkPart{}, err
	}
	size, err := strconv.ParseInt(h["content-length"], 10, 64)
	if err != nil || size < 0 || size > maxBulk {
		return bulkPart{}, errors.New("the Content-Length header must not be null")
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(b.r, content); err != nil {
		return bulkPart{}, err
	}
	if err := checkBulkSum(h, content); err != nil {
		return bulkPart{}, err
	}
	_, _ = b.r.Discard(2) // the line's end; what is missing is missed by the next boundary
	mtime := h["x-file-mtime"]
	if mtime == "" {
		mtime = h["x-oc-mtime"]
	}
	return bulkPart{h["x-file-path"], mtime, content}, nil
}

// maxBulk is the most that one part may hold.
const maxBulk = 512 << 20

// headers reads the headers of a part up to the empty line, their names in lower case.
func (b *bulkReader) headers() (map[string]string, error) {
	h := map[string]string{}
	for {
		line, err := b.r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\r\n" {
			return h, nil
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, errors.New("an error occurred while reading headers of a part")
		}
		h[strings.ToLower(trimPHP(name))] = trimPHP(value)
	}
}

// trimPHP is PHP's trim.
func trimPHP(s string) string { return strings.Trim(s, " \t\n\r\x00\x0b") }

// checkBulkSum compares the content with OC-Checksum or, without one, X-File-MD5. One of
// them must be there.
func checkBulkSum(h map[string]string, content []byte) error {
	name, sum := "md5", h["x-file-md5"]
	if sent := h["oc-checksum"]; sent != "" {
		name, sum, _ = strings.Cut(sent, ":")
	}
	got := newHasher(strings.ToLower(name))
	_, _ = got.Write(content)
	if have := got.hex(strings.ToLower(name)); sum == "" || have != sum {
		return fmt.Errorf("computed %s hash is incorrect (%s)", name, have)
	}
	return nil
}

// bulkStore stores one part and says what became of it.
func (q *request) bulkStore(part bulkPart) bulkFile {
	out := bulkFile{path: part.path}
	e, err := q.bulkWrite(part)
	if err != nil {
		out.message = err.Error()
		return out
	}
	out.etag, out.fileID, out.perms = e.ETag, q.fileID(e), q.permissions(e)
	return out
}

// bulkWrite is what the file interface of the server does, below all that WebDAV checks:
// no conditions, no names but the worst refused, no time of upload noted.
func (q *request) bulkWrite(part bulkPart) (info, error) {
	mtime, err := bulkTime(part.mtime)
	if err != nil {
		return info{}, err
	}
	q.base = "/remote.php/dav/files/" + q.user
	q.path = q.clean(strings.FieldsFunc(strings.ReplaceAll(part.path, `\`, "/"), func(r rune) bool { return r == '/' }))
	cannot := bulkFault(`Could not create path "/` + q.user + "/files" + q.path + `"`)
	busy := bulkFault(`"files` + q.path + `" is locked`)
	old, exists := q.present(q.path)
	_, name := splitPath(q.path)
	switch {
	case exists && old.Dir, strings.EqualFold(name, ".htaccess"), len(name) > 250, strings.Contains(q.path+"/", "/../"):
		return info{}, cannot
	case q.checkAccess(old, exists) != nil, q.checkQuota(int64(len(part.content))) != nil:
		return info{}, cannot
	}
	if q.checkLock(q.path, !exists) != nil {
		return info{}, busy
	}
	free, ok := q.s.busy.write(q.user, q.path, true)
	if !ok {
		return info{}, busy
	}
	defer free()
	e, err := q.bulkCommit(part.content, mtime)
	if err != nil {
		return info{}, cannot
	}
	return e, nil
}

// bulkCommit puts the content in place.
func (q *request) bulkCommit(data []byte, mtime time.Time) (info, error) {
	f, err := q.s.store.spool()
	if err != nil {
		return info{}, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = io.Copy(f, bytes.NewReader(data))
	if err = errors.Join(err, f.Close()); err != nil {
		return info{}, err
	}
	e, _, err := q.s.store.commit(q.user, q.path, content{tmp: f.Name(), size: int64(len(data)), mtime: mtime, unseen: true})
	return e, err
}

// bulkTime reads the modification time of a part, zero if there is none.
func bulkTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return time.Time{}, bulkFault(`X-OC-MTime header must be an integer (unix timestamp), got "` + text + `".`)
	case seconds <= 86400:
		return time.Time{}, bulkFault("X-OC-MTime header must be a valid positive integer")
	}
	return time.Unix(int64(seconds), 0), nil
}

// bulkReply writes the answer: an object by path, or, as PHP has it, an empty list.
func (q *request) bulkReply(status int, done []bulkFile) error {
	var b strings.Builder
	for i, f := range done {
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0] + quotePHP(f.path) + ":")
		if f.message != "" {
			b.WriteString(`{"error":true,"message":` + quotePHP(f.message) + "}")
			continue
		}
		b.WriteString(`{"error":false,"etag":` + quotePHP(f.etag) + `,"fileid":` + quotePHP(f.fileID) +
			`,"permissions":` + quotePHP(f.perms) + "}")
	}
	text := "[]"
	if len(done) > 0 {
		text = b.String() + "}"
	}
	q.set("Content-Type", "text/html; charset=UTF-8")
	q.w.WriteHeader(status)
	_, err := io.WriteString(q.w, text)
	return err
}

// quotePHP writes a string as PHP's json_encode does: ASCII only, slashes escaped.
func quotePHP(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"', r == '\\', r == '/':
			b.WriteString(`\` + string(r))
		case r >= ' ' && r < utf8.RuneSelf:
			b.WriteRune(r)
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String() + `"`
}
