package webdav

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// tusUpload is one upload by tus 1.0.0: POST to the parent folder makes a place, PATCH
// after PATCH fills it, and the last byte makes it the file, all at once.
type tusUpload struct {
	u        *upload
	path     string // where the file goes
	location string // URL of the place; mostly on a data gateway, with a token in it
	final    bool   // path is the file's own name
	sum      hash.Hash
}

const tusVersion = "1.0.0"

// storeTus stores at path, if match (if not empty) is the tag of what is there.
//
// oCIS keeps versions by mtime: the third upload of one file with one and the same
// mtime is an error 500. Then a fraction of a second, which nobody sees, makes it
// another, and as a last resort the mtime is left to the server.
func (u *upload) storeTus(ctx context.Context, path, match string) (s stored, err error) {
	if u.grow == nil && u.src.Size() == 0 {
		return u.storeEmpty(ctx, path, match)
	}
	times := []string{u.timeHeader()}
	if times[0] != "" && u.c.b.traits.checksums && !u.exclusive {
		times = append(times, fmt.Sprintf("%s.%09d", times[0], 1+rand.IntN(999_999_998)), "")
	}
	for _, mtime := range times {
		t := &tusUpload{u: u, path: path, final: path == u.path, sum: sha1.New()}
		if s, err = t.run(ctx, match, mtime); statusOf(err) != http.StatusInternalServerError {
			break
		}
	}
	return s, err
}

// storeEmpty stores no bytes, by PUT: tus has nothing to send, and nothing can be torn.
// For the third one with the same mtime see storeTus.
func (u *upload) storeEmpty(ctx context.Context, path, match string) (stored, error) {
	header := map[string]string{}
	if match != "" {
		header["If-Match"] = ifTag(match)
	}
	s, err := u.put(ctx, path, header, path == u.path)
	if statusOf(err) == http.StatusInternalServerError && u.timeHeader() != "" && u.c.b.traits.checksums {
		u.opts.Attrs.MTime = nil
		delete(header, "X-OC-Mtime")
		s, err = u.put(ctx, path, header, path == u.path)
	}
	if status := statusOf(err); match != "" && (status == http.StatusPreconditionFailed || status == http.StatusConflict) {
		return s, u.c.fail(remote.Conflict, errors.Unwrap(err))
	}
	s.tag = "" // settle looks for itself
	return s, err
}

func (t *tusUpload) run(ctx context.Context, match, mtime string) (stored, error) {
	if err := t.create(ctx, match, mtime); err != nil {
		return stored{}, err
	}
	if err := t.send(ctx); err != nil {
		return stored{}, err
	}
	return stored{sums: map[string]string{"sha1": hex.EncodeToString(t.sum.Sum(nil))}}, nil
}

// create makes the place.
func (t *tusUpload) create(ctx context.Context, match, mtime string) error {
	c := t.u.c
	dir, name := remote.Split(t.path)
	meta := "filename " + base64.StdEncoding.EncodeToString([]byte(name))
	if mtime != "" {
		meta += ",mtime " + base64.StdEncoding.EncodeToString([]byte(mtime))
	}
	r := &request{
		method: http.MethodPost, url: strings.TrimSuffix(c.b.fileURL(dir), "/"), body: textBody(""),
		header: map[string]string{"Tus-Resumable": tusVersion, "Upload-Metadata": meta},
	}
	if t.u.grow != nil {
		r.header["Upload-Defer-Length"] = "1"
	} else {
		r.header["Upload-Length"] = strconv.FormatInt(t.u.src.Size(), 10)
	}
	if match != "" {
		r.header["If-Match"] = ifTag(match)
	}
	resp, err := c.expect(ctx, r, http.StatusCreated)
	if err != nil {
		if statusOf(err) == http.StatusPreconditionFailed && match != "" {
			return c.fail(remote.Conflict, errors.Unwrap(err))
		}
		return c.noPlace(ctx, dir, err)
	}
	closeBody(resp)
	t.location, err = c.place(r.url, resp.Header.Get("Location"))
	return err
}

// noPlace judges an error of the POST. Without a condition of ours 412 can only mean
// that the parent is missing: OpenCloud says so.
func (c *call) noPlace(ctx context.Context, parent string, err error) error {
	if statusOf(err) != http.StatusPreconditionFailed {
		return err
	}
	if _, lerr := c.lookAt(ctx, parent); remote.KindOf(lerr) == remote.NotExist {
		return c.fail(remote.NotExist, errors.Unwrap(err))
	}
	return c.fail(remote.Unavailable, errors.Unwrap(err))
}

// place checks the Location of an upload. It may be on another host of the
// deployment, which gets no credentials (see login), but never outside of TLS.
func (c *call) place(from, location string) (string, error) {
	base, err := url.Parse(from)
	if err != nil {
		return "", c.fail(remote.Corrupt, err)
	}
	to, err := base.Parse(location)
	switch {
	case err != nil || location == "" || to.Host == "":
		return "", c.failf(remote.Corrupt, "the server made a place for the upload but does not say where")
	case to.Scheme == "https", to.Scheme == base.Scheme, to.Scheme == "http" && loopback(to.Hostname()):
		to.User = nil
		return to.String(), nil
	}
	return "", c.failf(remote.Unsupported, "the server wants the upload without TLS, at %s://%s", to.Scheme, to.Host)
}

// send fills the place, in pieces that can be sent again.
func (t *tusUpload) send(ctx context.Context) error {
	size := min(t.u.c.b.tus.piece, usualChunk)
	if at, ok := t.u.readerAt(); ok {
		return t.sendAt(ctx, at, size)
	}
	buffers := make(chan []byte, 1)
	buffers <- nil
	return t.u.pieces(ctx, cutter{
		size: func(int) int64 { return size }, buffers: buffers,
		give: func(n int, piece []byte) error {
			t.sum.Write(piece)
			off := int64(n) * size
			err := t.piece(ctx, span{bytes.NewReader(piece), off, off, off + int64(len(piece)), t.u.src.Size()})
			buffers <- piece
			return err
		},
	})
}

// sendAt sends content that can be read anywhere, straight from there. The length of one
// that grows is told with the last piece.
func (t *tusUpload) sendAt(ctx context.Context, at io.ReaderAt, size int64) error {
	for off := int64(0); ; {
		known, whole, err := t.u.waitFor(ctx, off+size+1)
		if err != nil {
			return err
		}
		s := span{at, 0, off, min(off+size, known), -1}
		if whole {
			s.total = known
		}
		if s.to == s.total && t.final && t.u.grow != nil {
			err = t.u.lookAgain(ctx)
		}
		if err == nil {
			err = t.hash(ctx, s)
		}
		if err == nil {
			err = t.piece(ctx, s)
		}
		if off = s.to; err != nil || off == s.total {
			return err
		}
	}
}

// span is a piece of a file: what lies from from to to, read at base bytes less.
type span struct {
	at       io.ReaderAt
	base     int64
	from, to int64
	total    int64 // bytes of the file, -1 if they are not known
}

// hash adds a span to the checksum.
func (t *tusUpload) hash(ctx context.Context, s span) error {
	got, err := io.Copy(t.sum, io.NewSectionReader(s.at, s.from, s.to-s.from))
	if err == nil && got < s.to-s.from {
		err = errShort
	}
	if err != nil {
		return t.u.c.sourceError(ctx, err)
	}
	return nil
}

// tusTries is how often one piece is tried.
const tusTries = 3

// piece sends a span. After a broken PATCH it asks how far the server got and goes on
// from there.
func (t *tusUpload) piece(ctx context.Context, s span) error {
	for try := 1; ; try++ {
		got, err := t.patch(ctx, s)
		switch {
		case err == nil && got == s.to:
			return nil
		case err == nil:
			err = t.u.c.failf(remote.Unavailable, "the server is at byte %d of the upload instead of %d", got, s.to)
		case !mayResume(err) || ctx.Err() != nil:
			return err
		}
		at, herr := t.head(ctx)
		switch {
		case herr != nil:
			return t.arrived(ctx, s, err)
		case at == s.to:
			return nil
		case try == tusTries || at < s.from || at > s.to:
			return err
		}
		s.from = at
	}
}

// mayResume tells whether an upload may go on after err. A server that saw the request
// end early may still get a 400 out; a 500 on the last byte is its last word (see
// storeTus).
func mayResume(err error) bool {
	switch statusOf(err) {
	case http.StatusBadRequest:
		return true
	case http.StatusInternalServerError:
		return false
	}
	return remote.Retryable(err) && !askedToWait(err)
}

// arrived is asked when the answer to a PATCH was lost and the place cannot be asked
// any more: perhaps because the upload is complete.
func (t *tusUpload) arrived(ctx context.Context, s span, err error) error {
	if s.to != s.total {
		return err
	}
	f, lerr := t.u.c.lookAt(ctx, t.path)
	if lerr == nil && f.Size == s.total && sumOf(f.Version) == hex.EncodeToString(t.sum.Sum(nil)) {
		return nil
	}
	return err
}

// patch sends one PATCH and returns the offset that the server then has.
func (t *tusUpload) patch(ctx context.Context, s span) (int64, error) {
	c := t.u.c
	r := &request{
		method: http.MethodPatch, url: t.location, body: sectionBody(s.at, s.from-s.base, s.to-s.from),
		header: map[string]string{
			"Tus-Resumable": tusVersion, "Upload-Offset": strconv.FormatInt(s.from, 10),
			"Content-Type": "application/offset+octet-stream",
		},
	}
	if s.to == s.total {
		r.changes, r.work = t.final, time.Duration(s.total/assemblySpeed)*time.Second
		if t.u.grow != nil {
			r.header["Upload-Length"] = strconv.FormatInt(s.total, 10)
		}
	}
	resp, err := c.expect(ctx, r, http.StatusNoContent, http.StatusOK)
	if err != nil {
		switch statusOf(err) {
		case http.StatusNotFound, http.StatusGone, http.StatusConflict:
			return 0, c.fail(remote.Unavailable, fmt.Errorf("the upload has gone: %w", errors.Unwrap(err)))
		}
		return 0, err
	}
	closeBody(resp)
	return c.uploadOffset(resp)
}

// head asks how far the upload is.
func (t *tusUpload) head(ctx context.Context) (int64, error) {
	r := &request{method: http.MethodHead, url: t.location, header: map[string]string{"Tus-Resumable": tusVersion}, repeats: true}
	resp, err := t.u.c.expect(ctx, r, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return 0, err
	}
	closeBody(resp)
	return t.u.c.uploadOffset(resp)
}

func (c *call) uploadOffset(resp *http.Response) (int64, error) {
	n, err := parseCount(resp.Header.Get("Upload-Offset"))
	if err != nil {
		return 0, c.failf(remote.Corrupt, "the server does not say how far the upload is")
	}
	return n, nil
}
