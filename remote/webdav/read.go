package webdav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// ReadAt implements remote.Backend. It is one conditional GET of a closed range, or
// of the whole file where that is what was asked for. The status, the range, the
// length and the entity tag of the answer are checked before a byte counts. Where an
// equal tag can cover a change (Nextcloud, XRootD), a look afterwards proves that the
// version still stood when the part was read; parts that are read side by side share
// it. A whole file in one answer is of one version anyway and is compared by its tag
// alone.
//
// A server found to refuse ranges costs the bytes before off from then on, and
// Caps().Ranges tells so.
func (b *Backend) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	ctx, c, done, err := b.begin(ctx, "read", ref.Path)
	if err != nil {
		return 0, err
	}
	defer done()
	switch {
	case off < 0:
		return 0, c.failf(remote.Invalid, "negative offset")
	case b.hidden(ref.Path):
		return 0, c.fail(remote.NotExist, nil)
	case len(p) == 0:
		return 0, nil
	}
	if ref, err = c.sized(ctx, ref); err != nil {
		return 0, err
	}
	if off >= ref.Size {
		return 0, io.EOF
	}
	return c.readRange(ctx, ref, p, off)
}

// sized returns ref with its size. If the caller does not know it, the caller may not
// know either that the path is a file: many servers answer a GET of a directory with
// 200 and a page or an archive.
func (c *call) sized(ctx context.Context, ref remote.Ref) (remote.Ref, error) {
	if ref.Size >= 0 {
		return ref, nil
	}
	f, err := c.lookAt(ctx, ref.Path)
	switch {
	case err != nil:
		return ref, c.explain(ctx, err)
	case f.Type == remote.Dir:
		return ref, c.fail(remote.IsDir, nil)
	case f.Type == remote.Symlink:
		return ref, c.failf(remote.Invalid, "it is a symbolic link")
	case ref.Version != "" && !c.b.sameVersion(f.Version, ref.Version):
		return ref, c.fail(remote.Changed, nil)
	}
	ref.Size = f.Size
	return ref, nil
}

// part is one range of one file being read.
type part struct {
	ref   remote.Ref
	off   int64
	want  int64 // bytes, within the file
	whole bool  // it is the whole file

	changed  bool // the answer is of another version
	unproven bool // the answer does not tell its version in full
}

func (c *call) readRange(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	w := &part{ref: ref, off: off, want: min(int64(len(p)), ref.Size-off)}
	w.whole = w.want == ref.Size
	ranged := !w.whole && c.b.Caps().Ranges
	n, err := c.readOnce(ctx, w, p, ranged)
	if errors.Is(err, errNoRanges) {
		c.b.noRanges.Store(true)
		c.b.opts.Logger.Debug("the server refuses ranges", "path", ref.Path)
		n, err = c.readOnce(ctx, w, p, false)
	}
	if err == nil {
		err = c.stillThere(ctx, w)
	}
	switch {
	case err != nil:
		return 0, err
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// errNoRanges: the server does not do ranges.
var errNoRanges = errors.New("the server refuses ranges")

// readOnce performs one GET. Fewer bytes than wanted come only if the file ends there.
func (c *call) readOnce(ctx context.Context, w *part, p []byte, ranged bool) (int, error) {
	r := c.get(w.ref)
	r.expects = w.off + w.want
	if ranged {
		r.expects = w.want
		r.header["Range"] = fmt.Sprintf("bytes=%d-%d", w.off, w.off+w.want-1)
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return 0, err
	}
	n, err := 0, error(nil)
	switch {
	case resp.StatusCode == http.StatusPartialContent && ranged:
		n, err = c.readPartial(ctx, w, p, resp)
	case resp.StatusCode == http.StatusOK:
		n, err = c.readWhole(ctx, w, p, resp, ranged)
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && ranged:
		return c.pastEnd(ctx, w, resp)
	default:
		return 0, c.readRefusal(ctx, r, resp)
	}
	if err != nil {
		_ = resp.Body.Close() // without waiting for more: XRootD may announce more than it has
		return 0, err
	}
	closeBody(resp)
	return n, nil
}

// get makes the request for the content of a version.
func (c *call) get(ref remote.Ref) *request {
	r := &request{
		method: http.MethodGet, url: c.b.fileURL(ref.Path), repeats: true,
		header: map[string]string{"Accept-Encoding": "identity"},
	}
	if tag := c.b.tagOf(ref.Version); tag != "" && c.b.traits.getMatch {
		r.header["If-Match"] = ifTag(tag)
	}
	return r
}

// readRefusal makes an error of an answer to GET.
func (c *call) readRefusal(ctx context.Context, r *request, resp *http.Response) error {
	err := c.refusal(r, resp)
	switch statusOf(err) {
	case http.StatusPreconditionFailed:
		return c.fail(remote.Changed, errors.Unwrap(err))
	case http.StatusNotFound, http.StatusUnauthorized:
		return err
	}
	if remote.Retryable(err) && statusOf(err) != http.StatusInternalServerError {
		return err
	}
	// GET of a directory is anything from 404 (mod_dav) to 501 (Reva).
	if f, lerr := c.lookAt(ctx, c.path); lerr == nil && f.Type == remote.Dir {
		return c.fail(remote.IsDir, errors.Unwrap(err))
	}
	return c.explain(ctx, err)
}

// checkVersion compares the validators of an answer with the wanted version, and notes
// if the answer leaves some of it out. size is of the whole file, -1 if the answer
// does not say.
func (c *call) checkVersion(w *part, h http.Header, size int64) error {
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return c.failf(remote.Corrupt, "the server sends the content encoded as %q", bounded(enc, 40))
	}
	if w.ref.Version == "" {
		return nil
	}
	tag, _ := cutTag(h.Get("Etag"))
	want := c.b.tagOf(w.ref.Version)
	w.compare(want, uncompressed(tag, want))
	if want == "" && c.b.traits.tags != tagsNone {
		w.compareStat(h, size) // listings have no tag, though the answer may
	}
	w.compare(sumOf(w.ref.Version), checksum(h.Get("Oc-Checksum"), "sha1"))
	if size >= 0 && size != w.ref.Size {
		w.changed = true
	}
	if w.changed {
		return c.fail(remote.Changed, nil)
	}
	return nil
}

// uncompressed takes off tag what a web server adds to it when it could compress the
// answer ("-gzip" and "-br" by Apache, "--gzip" by Jetty), if the rest is the wanted tag. What came
// is not compressed, which checkVersion sees to first.
func uncompressed(tag, want string) string {
	switch rest, _ := strings.CutPrefix(tag, want); rest {
	case "-gzip", "--gzip", "-br":
		return want
	}
	return tag
}

// compare takes one validator of the version and what the answer says of it.
func (w *part) compare(want, got string) {
	switch {
	case want == "":
	case got == "":
		w.unproven = true
	case got != want:
		w.changed = true
	}
}

// compareStat finds out whether the answer proves a version that is made of mtime and size.
// It may say something else of these than listings do.
func (w *part) compareStat(h http.Header, size int64) {
	mtime, err := http.ParseTime(h.Get("Last-Modified"))
	w.unproven = err != nil || size < 0 || statVersion(mtime, size) != w.ref.Version
}

// readPartial takes a 206.
func (c *call) readPartial(ctx context.Context, w *part, p []byte, resp *http.Response) (int, error) {
	got, err := parseContentRange(resp.Header.Get("Content-Range"))
	// The size of the file first: XRootD writes odd ranges when it has become shorter.
	if err := c.checkVersion(w, resp.Header, got.total); err != nil {
		return 0, err
	}
	if err != nil {
		return 0, c.fail(remote.Corrupt, err)
	}
	length := got.last - got.first + 1
	end := got.total >= 0 && got.last == got.total-1
	switch {
	case got.first != w.off,
		resp.ContentLength >= 0 && resp.ContentLength != length:
		return 0, c.failf(remote.Corrupt, "asked for bytes %d-%d, got %q with %d bytes",
			w.off, w.off+w.want-1, bounded(resp.Header.Get("Content-Range"), 80), resp.ContentLength)
	case length < w.want && !end:
		return 0, c.failf(remote.Unavailable, "asked for %d bytes, got %d", w.want, length)
	}
	n, err := io.ReadFull(resp.Body, p[:min(length, w.want)])
	if err != nil {
		return 0, c.short(ctx, int64(n), length, err)
	}
	if length > w.want { // sabre/dav 1.8 takes 0-0 for all
		_ = resp.Body.Close()
	}
	return n, nil
}

// short makes an error of a body that broke off.
func (c *call) short(ctx context.Context, n, want int64, err error) error {
	if ctx.Err() != nil {
		return c.broken(ctx, err, false)
	}
	return c.fail(remote.Unavailable, fmt.Errorf("the body ended after %d of %d bytes: %w", n, want, err))
}

// readWhole takes a 200: the whole file, of which the bytes before off are dropped.
func (c *call) readWhole(ctx context.Context, w *part, p []byte, resp *http.Response, ranged bool) (int, error) {
	size := resp.ContentLength
	if err := c.checkVersion(w, resp.Header, size); err != nil {
		return 0, err
	}
	if ranged && (w.off > 0 || size < 0 || size > w.want) {
		c.b.noRanges.Store(true)
	}
	skipped, err := io.CopyN(io.Discard, resp.Body, w.off)
	n := 0
	if err == nil {
		n, err = io.ReadFull(resp.Body, p[:w.want])
	}
	got := skipped + int64(n)
	switch ended := err == io.EOF || err == io.ErrUnexpectedEOF; {
	case err == nil:
		return n, nil
	case ended && got == size && w.ref.Version == "":
		return n, nil // the file, whatever is there now, ends here
	}
	return 0, c.short(ctx, got, w.off+w.want, err)
}

// pastEnd takes a 416: the file is shorter than off, or the server refuses ranges.
// Few servers tell the size with it (Nextcloud and Reva do not).
func (c *call) pastEnd(ctx context.Context, w *part, resp *http.Response) (int, error) {
	closeBody(resp) // before another request: there may be but one connection
	total, known := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes */")
	size, err := parseCount(total)
	if !known || err != nil {
		f, err := c.lookAt(ctx, w.ref.Path)
		if err != nil {
			return 0, err
		}
		size = f.Size
	}
	switch {
	case size != w.ref.Size && w.ref.Version != "":
		return 0, c.fail(remote.Changed, nil)
	case w.off >= size:
		return 0, nil
	}
	return 0, errNoRanges
}

// stillThere proves after a read that the wanted version stood until then, on servers
// where the answer itself cannot prove it.
func (c *call) stillThere(ctx context.Context, w *part) error {
	t := &c.b.traits
	again := w.unproven || t.tags == tagsNone || t.recheck && !w.whole
	if w.ref.Version == "" || !again {
		return nil
	}
	f, err := c.b.proofs.look(ctx, c, w.ref.Path)
	switch {
	case err != nil:
		return err
	case !c.b.sameVersion(f.Version, w.ref.Version):
		return c.fail(remote.Changed, nil)
	}
	return nil
}

// contentRange is the header of a 206; total is -1 if it is not told.
type contentRange struct{ first, last, total int64 }

// parseContentRange reads "bytes first-last/total". With an error the total is still
// told if it can be read.
func parseContentRange(s string) (contentRange, error) {
	r := contentRange{total: -1}
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	first, last, ok3 := strings.Cut(span, "-")
	var errs [3]error
	if total != "*" && ok && ok2 {
		if r.total, errs[0] = parseCount(total); errs[0] != nil {
			r.total = -1
		}
	}
	r.first, errs[1] = parseCount(first)
	r.last, errs[2] = parseCount(last)
	if !ok || !ok2 || !ok3 || errors.Join(errs[:]...) != nil || r.last < r.first || r.total >= 0 && r.last >= r.total {
		return r, fmt.Errorf("unusable Content-Range %q", bounded(s, 80))
	}
	return r, nil
}

// parseCount reads a number of decimal digits and nothing else.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}
