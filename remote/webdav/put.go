package webdav

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"hash/adler32"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Put implements remote.Backend. How a file gets to its place:
//
//   - Nextcloud: a new file by one PUT with If-None-Match: *, which leaves nothing
//     behind when it is cut; the server returns the SHA-256 of what it stored. A file
//     that is there is replaced by chunked upload v2, because PUT would write into
//     it; so are large new files. The condition goes with the final MOVE.
//   - mod_dav: PUT, which is atomic there, with If-None-Match: * or If-Match. While
//     the tag is weak (a file of less than about two seconds) If-Match cannot be
//     used: then we look immediately before. Waiting until the tag is strong would
//     make every rewrite of a fresh file take two seconds.
//   - oCIS, OpenCloud and Reva with tus: the server replaces the file when the last
//     byte is there. A new file goes to a temporary name first, and MOVE with
//     Overwrite: F makes the creation exclusive, since If-None-Match is ignored.
//   - elsewhere: PUT to a temporary name in the same directory, a look at what
//     arrived, MOVE.
//
// Afterwards size and checksum, as far as the server tells them, are compared with
// what was sent; a mismatch is Corrupt. An existing file keeps its mode unless
// opts.Attrs says otherwise.
func (b *Backend) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (remote.Entry, error) {
	ctx, c, done, err := b.beginChange(ctx, "put", path)
	if err != nil {
		return remote.Entry{}, err
	}
	defer done()
	if path == "/" {
		return remote.Entry{}, c.fail(remote.IsDir, nil)
	}
	u := &upload{c: c, path: path, src: src, opts: opts}
	f, err := u.run(ctx)
	return f.Entry, err
}

// upload is one Put, or the making of a symbolic link.
type upload struct {
	c    *call
	path string
	src  remote.Source
	opts remote.PutOptions
	link string // target, if this makes a symbolic link

	// Of PutGrowing: grow is src while it may still grow, and nil once it is whole before
	// anything was sent; grown is it in any case.
	grow, grown *growth

	way       putWay
	exclusive bool   // nothing may be at path
	match     string // entity tag that must be at path, "" for none
	old       *found // what is there, if it was looked at
	made      bool   // the content has arrived
	ranged    bool   // it goes to its temporary name in ranges
	// rest takes the attributes that would cost a request of their own; nil: they are set.
	rest *remote.Attrs
}

// stored is what an upload left on the server, as far as the answers told.
type stored struct {
	look    *found // what a look at it showed, if there was one and nothing has to be set
	tag     string
	id      string
	perms   string
	timeSet bool      // the server confirmed our mtime
	when    time.Time // of the answer, by the server's clock
	took    time.Duration
	sums    map[string]string // of what was sent
}

// lostRaces is how often an unconditional Put starts over because somebody made or
// removed the file after we looked.
const lostRaces = 4

// patience is how long a Put waits for a lock that another upload holds, our own
// included that broke off a moment ago and that the server has not noticed yet.
var patience = [...]time.Duration{50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond}

// sleep waits and tells whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (u *upload) run(ctx context.Context) (found, error) {
	for try := 1; ; try++ {
		if err := u.prepare(ctx); err != nil {
			return found{}, err
		}
		s, err := u.store(ctx)
		if err == nil {
			u.made = true
			return u.settle(ctx, s)
		}
		kind := remote.KindOf(err)
		if kind == remote.Locked && u.way != wayChunked && try <= len(patience) && sleep(ctx, patience[try-1]) {
			continue
		}
		unconditional := u.opts.Cond == remote.Cond{}
		if !unconditional || kind != remote.Exist && kind != remote.Conflict || try == lostRaces {
			return found{}, u.explain(ctx, err)
		}
	}
}

// prepare decides on way and conditions, with a look at path where the server cannot
// check the condition itself.
func (u *upload) prepare(ctx context.Context) error {
	t, cond := &u.c.b.traits, u.opts.Cond
	u.exclusive, u.match, u.old, u.way = false, "", nil, t.fresh
	switch {
	case cond.NotExist && (t.fresh == wayPut && t.noneMatch || t.fresh != wayPut && t.honoursF) && !t.deepMkcol:
		u.exclusive = true
		return nil
	case cond.Version != "" && !cond.NotExist && u.serverChecks(cond):
		u.match, u.way = u.c.b.tagOf(cond.Version), t.over
		return nil
	}
	f, err := u.c.lookAt(ctx, u.path)
	switch {
	case remote.KindOf(err) == remote.NotExist && cond.Version != "" && !cond.NotExist:
		return u.c.fail(remote.Conflict, err)
	case remote.KindOf(err) == remote.NotExist:
		u.exclusive = true
		return u.checkParent(ctx)
	case err != nil:
		return u.c.explain(ctx, err)
	}
	return u.prepareOver(f)
}

// serverChecks tells whether the server can check cond.Version in full. It cannot if
// the version is more than a tag, nor if a weak tag is to be expected (mod_dav).
func (u *upload) serverChecks(cond remote.Cond) bool {
	b := u.c.b
	tag := b.tagOf(cond.Version)
	switch {
	case tag == "" || tag != cond.Version:
		return false
	case b.traits.over == wayChunked:
		return true
	}
	return b.traits.over == wayPut && !cond.Provisional
}

// checkParent makes sure that the parent is there, on servers that would make it.
func (u *upload) checkParent(ctx context.Context) error {
	if !u.c.b.traits.deepMkcol {
		return nil
	}
	parent, _ := remote.Split(u.path)
	return u.c.needDir(ctx, parent)
}

// prepareOver is prepare when there is something at path.
func (u *upload) prepareOver(f found) error {
	cond, t := u.opts.Cond, &u.c.b.traits
	switch {
	case cond.NotExist:
		return u.c.fail(remote.Exist, nil)
	case f.Type == remote.Dir:
		return u.c.fail(remote.IsDir, nil)
	case cond.Version != "" && (f.Type != remote.File || !u.c.b.sameVersion(f.Version, cond.Version)):
		return u.c.fail(remote.Conflict, nil)
	}
	u.old, u.way = &f, t.over
	// Also without a condition of the caller: what is replaced shall be the file
	// that was seen, not a directory that came in between.
	if !f.weak && (cond.Version != "" || t.tagged) {
		u.match = f.tag
	}
	return nil
}

// store brings the bytes to their place, by the way that was chosen.
func (u *upload) store(ctx context.Context) (stored, error) {
	if u.grow != nil {
		s, err := u.storeGrowing(ctx)
		if err == nil {
			u.opts.Attrs = u.grow.src.Attrs()
		}
		return s, u.refusedStream(err)
	}
	chunks := &u.c.b.chunks
	big := chunks.base != "" && u.src.Size() > 2*chunks.usual
	switch {
	case u.way == wayChunked, u.way == wayPut && big:
		return u.storeChunked(ctx)
	case u.inRanges():
		return u.storeRanges(ctx)
	case u.way == wayPut:
		return u.storePut(ctx)
	case u.way == wayTus && !u.exclusive:
		return u.storeTus(ctx, u.path, u.match)
	}
	return u.storeTemp(ctx)
}

// storePut stores by one PUT at the final place.
func (u *upload) storePut(ctx context.Context) (stored, error) {
	header := map[string]string{}
	switch {
	case u.exclusive:
		header["If-None-Match"] = "*"
	case u.match != "":
		header["If-Match"] = ifTag(u.match)
	}
	s, err := u.put(ctx, u.path, header, true)
	if statusOf(err) == http.StatusPreconditionFailed {
		return s, u.unmet(err)
	}
	return s, err
}

// unmet makes an error of a precondition that the server found not to hold.
func (u *upload) unmet(err error) error {
	if u.exclusive {
		return u.c.fail(remote.Exist, errors.Unwrap(err))
	}
	return u.c.fail(remote.Conflict, errors.Unwrap(err))
}

// expectFrom is the size from which a body waits for the server's consent: a refusal
// then costs no transfer, and is not lost in the reset of a connection that the
// server closes under the body.
const expectFrom = 1 << 20

// put sends the source to path with PUT. final says that this is the file itself and
// no temporary one.
func (u *upload) put(ctx context.Context, path string, header map[string]string, final bool) (stored, error) {
	t := &u.c.b.traits
	sums := u.hashes()
	header["Content-Type"] = "application/octet-stream"
	if t.expect && (u.grow != nil || u.src.Size() >= expectFrom) {
		header["Expect"] = "100-continue"
	}
	if t.askHash {
		header["X-Hash"] = "sha256"
	}
	if text := u.timeHeader(); text != "" {
		header["X-OC-Mtime"] = text
	}
	r := &request{
		method: http.MethodPut, url: u.c.b.fileURL(path), header: header,
		body: u.body(sums, final), changes: final,
	}
	began := time.Now()
	resp, err := u.c.expect(ctx, r, http.StatusOK, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return stored{}, u.cutShort(err, final)
	}
	closeBody(resp)
	if u.grow != nil && !r.body.complete() {
		return stored{}, unsure(u.c.failf(remote.Unavailable, "PUT: %d before the end of the file was sent", resp.StatusCode))
	}
	s := u.c.b.storedBy(resp, began)
	s.sums = sums.hex()
	if got := resp.Header.Get("X-Hash-Sha256"); t.askHash && isHex(got) && !equalHex(got, s.sums["sha256"]) {
		return s, u.c.failf(remote.Corrupt, "the server stored other bytes than were sent: sha256 %s instead of %s", got, s.sums["sha256"])
	}
	return s, nil
}

// cutShort finds out whether 400 says that not all of the body arrived, which is nothing
// against the file: always so of a name of ours, and in Nextcloud's words ("Expected
// filesize of 10 bytes but read ... 5").
func (u *upload) cutShort(err error, final bool) error {
	var e *statusError
	if !errors.As(err, &e) || e.status != http.StatusBadRequest || u.grow != nil {
		return err
	}
	if final && !strings.Contains(strings.ToLower(e.message), "filesize") {
		return err
	}
	return u.c.fail(remote.Corrupt, e)
}

// storedBy reads the headers of an answer that ends an upload.
func (b *Backend) storedBy(resp *http.Response, began time.Time) stored {
	h := resp.Header
	// A web server in front may alter ETag, not its copy.
	tag, weak := cutTag(h.Get("Oc-Etag"))
	if tag == "" {
		tag, weak = cutTag(h.Get("Etag"))
	}
	if weak {
		tag = ""
	}
	return stored{
		tag: tag, id: h.Get("Oc-Fileid"), perms: h.Get("X-Nc-Permissions"),
		timeSet: h.Get("X-Oc-Mtime") == "accepted",
		when:    b.serverTime(h), took: time.Since(began),
	}
}

// oldestTime is the first mtime that Nextcloud takes; an earlier one is an error 500.
const oldestTime = 86400

// timeHeader is the value of X-OC-Mtime, "" if it cannot be sent.
func (u *upload) timeHeader() string {
	m := u.opts.Attrs.MTime
	if m == nil || !u.c.b.traits.sendTime || m.Unix() <= oldestTime {
		return ""
	}
	return strconv.FormatInt(m.Unix(), 10)
}

// digests computes several sums at once.
type digests struct{ all map[string]hash.Hash }

// hashes returns the sums that can be compared with what this server tells.
func (u *upload) hashes() *digests {
	d := &digests{all: map[string]hash.Hash{}}
	t := &u.c.b.traits
	if t.askHash {
		d.all["sha256"] = sha256.New()
	}
	if t.checksums {
		d.all["sha1"] = sha1.New()
	}
	if t.hashTags && u.c.b.sawHashTag.Load() {
		d.all["md5"] = md5.New()
	}
	if t.wantDigest && !u.c.b.noDigest.Load() {
		d.all["adler32"] = adler32.New()
	}
	return d
}

// Write implements io.Writer.
func (d *digests) Write(p []byte) (int, error) {
	for _, h := range d.all {
		h.Write(p)
	}
	return len(p), nil
}

// Reset starts over.
func (d *digests) Reset() {
	for _, h := range d.all {
		h.Reset()
	}
}

// hex returns the sums by the names of their algorithms.
func (d *digests) hex() map[string]string {
	sums := map[string]string{}
	for name, h := range d.all {
		sums[name] = hex.EncodeToString(h.Sum(nil))
	}
	return sums
}
