package efss

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	tusVersion  = "1.0.0"
	tusMaxChunk = 10_000_000
	tusIdle     = 24 * time.Hour
	tusType     = "application/offset+octet-stream"
)

// statusChecksum is tus's own status for a chunk whose checksum is wrong.
const statusChecksum = 460

// tusUpload is one upload under way. It lies as JSON beside its bytes.
type tusUpload struct {
	User     string
	Path     string // of the target
	Length   int64  // -1: not told yet
	Metadata string // as the client sent it
	MTime    int64  // Unix seconds, 0 for none
	Checksum string // "sha1 hex" of the whole, "" for none
	Expires  int64  // Unix seconds
}

// tusTable keeps two requests from writing to one upload at a time.
type tusTable struct {
	mu   sync.Mutex
	busy map[string]bool
}

func newTusTable() *tusTable { return &tusTable{busy: map[string]bool{}} }

func (t *tusTable) take(token string) (func(), bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy[token] {
		return nil, false
	}
	t.busy[token] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.busy, token)
	}, true
}

func (s *Server) tusFile(token, ext string) string {
	return filepath.Join(s.opts.Dir, "tus", token+ext)
}

// tusCreate answers POST on a collection: a new upload, perhaps with its first bytes.
func (q *request) tusCreate() error {
	up, err := q.tusRequest()
	if err != nil {
		return err
	}
	dir := q.path
	q.path = up.Path
	if e, exists := q.present(dir); !exists || !e.Dir {
		return q.noParent(http.StatusConflict, dir)
	}
	if err := q.tusAllowed(); err != nil {
		return err
	}
	token := strings.ToLower(rand.Text() + rand.Text())
	if err := errors.Join(os.WriteFile(q.s.tusFile(token, ".bin"), nil, 0o600), q.s.tusKeep(token, up)); err != nil {
		return err
	}
	q.tusCreatedHeaders(token)
	if q.header("Content-Type") == tusType && q.r.ContentLength != 0 || up.Length == 0 {
		return q.tusReceive(token, up, 0, http.StatusCreated)
	}
	return q.reply(http.StatusCreated)
}

// tusExtensions adds to the extensions what the options allow.
func (s *Server) tusExtensions(usual string) string {
	if s.opts.DeferLength {
		return usual + ",creation-defer-length"
	}
	return usual
}

func (q *request) tusCreatedHeaders(token string) {
	scheme := "http"
	if q.r.TLS != nil {
		scheme = "https"
	}
	q.set("Location", scheme+"://"+q.r.Host+"/data/"+token)
	q.set("Tus-Resumable", tusVersion)
	q.set("Tus-Extension", q.s.tusExtensions("creation,creation-with-upload,checksum,expiration"))
	q.set("Access-Control-Allow-Headers", "Tus-Resumable, Upload-Length, Upload-Metadata, If-Match")
	q.set("Access-Control-Expose-Headers", "Tus-Resumable, Upload-Offset, Location")
}

// tusRequest reads the headers of a creation.
func (q *request) tusRequest() (tusUpload, error) {
	up := tusUpload{User: q.user, Metadata: q.header("Upload-Metadata"), Expires: q.now().Add(tusIdle).Unix()}
	if q.header("Tus-Resumable") != tusVersion {
		return up, &failure{status: http.StatusPreconditionFailed}
	}
	length, err := strconv.ParseInt(q.header("Upload-Length"), 10, 64)
	if q.s.opts.DeferLength && q.header("Upload-Length") == "" && q.header("Upload-Defer-Length") == "1" {
		length, err = -1, nil
	} else if length < 0 {
		err = strconv.ErrRange
	}
	if err != nil {
		return up, &failure{status: http.StatusPreconditionFailed}
	}
	meta, err := tusMetadata(up.Metadata)
	name := meta["filename"]
	if err != nil || name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return up, &failure{status: http.StatusPreconditionFailed}
	}
	up.Length, up.Path, up.Checksum = length, joinPath(q.path, name), meta["checksum"]
	seconds, _ := strconv.ParseFloat(meta["mtime"], 64)
	up.MTime = int64(seconds)
	return up, nil
}

// tusMetadata reads "key base64,key base64".
func tusMetadata(text string) (map[string]string, error) {
	out := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(pair), " ")
		raw, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			return nil, err
		}
		out[key] = string(raw)
	}
	return out, nil
}

// tusAllowed looks at what can forbid the target, at the time of creation only.
func (q *request) tusAllowed() error {
	e, exists := q.present(q.path)
	if exists && e.Dir {
		return &failure{status: http.StatusConflict, bare: true}
	}
	if err := q.checkName(q.path); err != nil {
		return err
	}
	if !q.ifMatch(e, exists) {
		return &failure{status: http.StatusPreconditionFailed, bare: true}
	}
	return errors.Join(q.checkAccess(e, exists), q.checkLock(q.path, !exists))
}

// tusData answers requests to the data gateway, which asks for no login: the token in
// the URL is enough.
func (q *request) tusData(token string) error {
	up, err := q.tusOpen(token)
	if err != nil {
		return err
	}
	q.user, q.path, q.base = up.User, up.Path, fmt.Sprintf(q.b().root, up.User)
	q.set("Tus-Resumable", tusVersion)
	switch q.r.Method {
	case http.MethodHead:
		offset, err := q.s.tusOffset(token)
		if err != nil {
			return q.tusGone()
		}
		q.set("Cache-Control", "no-store")
		if up.Length < 0 {
			q.set("Upload-Defer-Length", "1")
		} else {
			q.set("Content-Length", fmt.Sprint(up.Length))
			q.set("Upload-Length", fmt.Sprint(up.Length))
		}
		q.set("Upload-Metadata", up.Metadata)
		q.set("Upload-Offset", fmt.Sprint(offset))
		q.w.WriteHeader(http.StatusOK)
		return nil
	case http.MethodPatch:
		return q.tusPatch(token, up)
	}
	return &failure{status: http.StatusMethodNotAllowed, bare: true}
}

func (q *request) tusGone() error { return &failure{status: http.StatusNotFound, bare: true} }

// tusOpen finds an upload that has not expired.
func (q *request) tusOpen(token string) (tusUpload, error) {
	var up tusUpload
	if strings.ContainsAny(token, "/.%") {
		return up, q.tusGone()
	}
	text, err := os.ReadFile(q.s.tusFile(token, ".json"))
	if err != nil || json.Unmarshal(text, &up) != nil {
		return up, q.tusGone()
	}
	if q.now().Unix() > up.Expires {
		q.s.tusDrop(token)
		return up, q.tusGone()
	}
	return up, nil
}

// tusKeep writes what is known of an upload.
func (s *Server) tusKeep(token string, up tusUpload) error {
	text, err := json.Marshal(up)
	if err != nil {
		return err
	}
	return os.WriteFile(s.tusFile(token, ".json"), text, 0o600)
}

func (s *Server) tusDrop(token string) {
	_ = os.Remove(s.tusFile(token, ".json"))
	_ = os.Remove(s.tusFile(token, ".bin"))
}

func (s *Server) tusOffset(token string) (int64, error) {
	fi, err := os.Stat(s.tusFile(token, ".bin"))
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

func (q *request) tusPatch(token string, up tusUpload) error {
	if q.header("Tus-Resumable") != tusVersion {
		return &failure{status: http.StatusPreconditionFailed, bare: true}
	}
	if q.header("Content-Type") != tusType {
		return &failure{status: http.StatusUnsupportedMediaType, bare: true}
	}
	return q.tusReceive(token, up, q.number("Upload-Offset"), http.StatusNoContent)
}

// tusReceive appends the body at offset and finishes the upload when it is whole.
func (q *request) tusReceive(token string, up tusUpload, offset int64, status int) error {
	free, ok := q.s.tus.take(token)
	if !ok {
		return &failure{status: http.StatusLocked, bare: true}
	}
	defer free()
	have, err := q.s.tusOffset(token)
	if err != nil {
		return q.tusGone()
	}
	if offset != have {
		return &failure{status: http.StatusConflict, bare: true}
	}
	if length := q.number("Upload-Length"); up.Length < 0 && length >= offset {
		if up.Length = length; q.s.tusKeep(token, up) != nil {
			return q.tusGone()
		}
	}
	room := up.Length - offset
	if up.Length < 0 {
		room = math.MaxInt64
	}
	if q.r.ContentLength > room {
		return &failure{status: http.StatusRequestEntityTooLarge, bare: true}
	}
	n, err := q.tusAppend(token, offset, room)
	if err != nil {
		return err
	}
	q.set("Upload-Offset", fmt.Sprint(offset+n))
	q.set("Upload-Expires", fmt.Sprint(up.Expires))
	if offset+n == up.Length {
		if err := q.tusFinish(token, up); err != nil {
			return err
		}
	}
	return q.reply(status)
}

// tusAppend writes what arrives, up to room bytes, and keeps it when the client dies;
// a chunk with a wrong checksum is taken back.
func (q *request) tusAppend(token string, offset, room int64) (int64, error) {
	f, err := os.OpenFile(q.s.tusFile(token, ".bin"), os.O_WRONLY, 0)
	if err != nil {
		return 0, q.tusGone()
	}
	name, want, _ := strings.Cut(q.header("Upload-Checksum"), " ")
	h := newHasher(name)
	n, err := io.Copy(io.MultiWriter(io.NewOffsetWriter(f, offset), h), io.LimitReader(q.r.Body, room))
	if err == nil && want != "" {
		raw, decodeErr := base64.StdEncoding.DecodeString(want)
		if decodeErr != nil || hex.EncodeToString(raw) != h.hex(name) {
			err = errors.Join(&failure{status: statusChecksum, bare: true}, f.Truncate(offset))
		}
	}
	return n, errors.Join(err, f.Close())
}

// tusFinish puts the whole upload in place.
func (q *request) tusFinish(token string, up tusUpload) error {
	defer q.s.tusDrop(token)
	h := newHasher(q.wantedHashes()...)
	f, err := os.Open(q.s.tusFile(token, ".bin"))
	if err != nil {
		return err
	}
	_, err = io.Copy(h, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	c := content{tmp: f.Name(), size: up.Length}
	if q.b().sums == sumsComputed {
		c.sum = h.ocis()
		if name, sum, ok := splitChecksum(up.Checksum); up.Checksum != "" && (!ok || h.hex(name) != sum) {
			return fail(http.StatusBadRequest, "The computed checksum does not match the one received from the client.")
		}
	}
	if up.MTime != 0 {
		c.mtime = time.Unix(up.MTime, 0)
	}
	e, _, err := q.s.store.commit(q.user, q.path, c)
	if err != nil {
		return q.storeFailed(err)
	}
	q.set("Oc-Fileid", q.fileID(e))
	return nil
}
