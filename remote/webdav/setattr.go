package webdav

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// SetAttr implements remote.AttrSetter. On Nextcloud the mtime is the server's own
// (whole seconds, and the file's tag changes with it); elsewhere, and for the mode, it
// goes into our property. The file's content is not touched either way.
func (b *Backend) SetAttr(ctx context.Context, path string, a remote.Attrs) (remote.Entry, error) {
	ctx, c, done, err := b.begin(ctx, "setattr", path)
	if err != nil {
		return remote.Entry{}, err
	}
	defer done()
	if b.hidden(path) {
		return remote.Entry{}, c.fail(remote.NotExist, nil)
	}
	f, known := c.made(a)
	if !known {
		if f, err = c.lookAt(ctx, path); err != nil {
			return remote.Entry{}, c.explain(ctx, err)
		}
	}
	if f, err = c.setAttr(ctx, f, a); err != nil {
		return remote.Entry{}, err
	}
	return f.Entry, nil
}

// made returns a directory that was just made and need not be looked at first: where the
// server says what it has set (Nextcloud), or changes the tag by that anyway (mod_dav), to
// which the time is tied.
func (c *call) made(a remote.Attrs) (f found, known bool) {
	f.Path, f.Type = c.path, remote.Dir
	t := &c.b.traits
	return f, a.Made && (t.dirProps || t.setTime && (a.MTime == nil || c.native(a)))
}

// unseen tells of a directory that was not looked at.
func (f *found) unseen() bool { return f.now.IsZero() }

// dirTries is how often the mtime of a directory is written: where properties lie in
// files beside it (mod_dav), the first one changes the directory's own tag. Then it is
// looked at in between, and no more when there was one.
const dirTries = 3

func (c *call) setAttr(ctx context.Context, f found, a remote.Attrs) (found, error) {
	native := c.native(a)
	if native {
		var err error
		if f, err = c.setNative(ctx, f, a); err != nil {
			return f, err
		}
	}
	for range dirTries {
		want := wanted(&f, a, native)
		if want.serves(&f) || !c.b.keepsProps() {
			return f, nil
		}
		if f.unseen() {
			want.tag = "" // there is a property, and no time yet
		}
		err := c.writeAttr(ctx, f.Path, want)
		switch {
		case remote.KindOf(err) == remote.Unsupported:
			return f, nil // dropped: the entry shows it
		case err != nil:
			return f, err
		case f.Type != remote.Dir || want.mtime.IsZero() || c.b.traits.dirProps && f.attr != (attr{}):
			return f.with(want), nil
		}
		if f, err = c.lookAt(ctx, f.Path); err != nil {
			return f, unsure(err)
		}
	}
	return f, nil
}

// native tells whether the server can be told the time as its own.
func (c *call) native(a remote.Attrs) bool {
	return a.MTime != nil && c.b.traits.setTime && a.MTime.Unix() > oldestTime
}

// wanted is what our property should hold once a is set.
func wanted(f *found, a remote.Attrs, native bool) attr {
	want := f.attr
	if want.tag != f.stamp() || want.size != f.Size {
		want.mtime, want.tag, want.size = time.Time{}, "", 0 // void already
	}
	if f.Type != remote.Symlink {
		want.link = ""
	}
	if a.Mode != nil && (want.hasMode || !a.Spares(f.Type)) {
		want.mode, want.hasMode = *a.Mode&0o7777, true
	}
	if a.MTime != nil {
		want.mtime, want.tag, want.size = time.Time{}, "", 0
		want.wish(f, *a.MTime, native)
	}
	return want
}

// setNative sets the server's own mtime (Nextcloud: d:lastmodified, in seconds;
// d:getlastmodified is refused), and what our property is to hold besides in the same request.
func (c *call) setNative(ctx context.Context, f found, a remote.Attrs) (found, error) {
	changed, err := c.patchNative(ctx, &f, a)
	if err != nil || f.Type == remote.Dir && changed || !changed && !f.unseen() {
		return f, err
	}
	next, err := c.lookAt(ctx, f.Path)
	if err != nil {
		return f, unsure(err)
	}
	return next, nil
}

// patchNative is setNative without a look at what has become of f: a file has another version,
// which the answer does not tell. Of a directory, f is made what the answer says, and has none.
func (c *call) patchNative(ctx context.Context, f *found, a remote.Attrs) (changed bool, err error) {
	if f.native.Unix() == a.MTime.Unix() {
		return false, nil
	}
	value := "<d:lastmodified>" + strconv.FormatInt(a.MTime.Unix(), 10) + "</d:lastmodified>"
	next := *f
	next.native = time.Unix(a.MTime.Unix(), 0)
	next.tag, next.weak, next.Version, next.Provisional = "", false, "", false
	want := wanted(&next, a, true)
	text := want.encode()
	if text == "" || want.serves(&next) || !want.mtime.IsZero() || !c.b.keepsProps() {
		want, text = f.attr, ""
	} else {
		text = "<m:attr>" + xmlText(text) + "</m:attr>"
	}
	err = c.proppatch(ctx, f.Path, value+text, "")
	if remote.KindOf(err) == remote.Unsupported && text != "" { // one of them: all are taken, or none
		want = f.attr
		err = c.proppatch(ctx, f.Path, value, "")
	}
	switch {
	case remote.KindOf(err) == remote.Unsupported:
		return false, nil
	case err != nil:
		return false, err
	case f.Type == remote.Dir:
		*f = next.with(want)
		f.MTime = f.native
	}
	return true, nil
}

// writeAttr makes a our property of path. Unsupported means that the server keeps no
// such property; it is not asked again.
func (c *call) writeAttr(ctx context.Context, path string, a attr) error {
	text := a.encode()
	var err error
	if text == "" {
		err = c.proppatch(ctx, path, "", "<m:attr/>")
	} else {
		err = c.proppatch(ctx, path, "<m:attr>"+xmlText(text)+"</m:attr>", "")
	}
	if remote.KindOf(err) == remote.Unsupported {
		c.b.noDeadProps.Store(true)
	}
	return err
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

func xmlText(s string) string { return escaper.Replace(s) }

// proppatch sets or removes properties, both given as XML.
func (c *call) proppatch(ctx context.Context, path, set, remove string) error {
	body := `<?xml version="1.0" encoding="utf-8"?><d:propertyupdate xmlns:d="DAV:" xmlns:m="` + nsOurs + `">`
	if set != "" {
		body += "<d:set><d:prop>" + set + "</d:prop></d:set>"
	}
	if remove != "" {
		body += "<d:remove><d:prop>" + remove + "</d:prop></d:remove>"
	}
	r := &request{
		method: "PROPPATCH", url: c.b.fileURL(path), body: textBody(body + "</d:propertyupdate>"), changes: true,
		header: map[string]string{"Content-Type": "application/xml; charset=utf-8"},
	}
	resp, err := c.expect(ctx, r, http.StatusMultiStatus, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return c.propRefusal(ctx, err)
	}
	defer closeBody(resp)
	if resp.StatusCode != http.StatusMultiStatus {
		return nil
	}
	refused := 0
	err = parseMultistatus(resp.Body, func(one *response) error {
		refused = max(refused, one.refused, refusedWhole(one.status))
		return nil
	})
	switch {
	case err != nil:
		return unsure(c.badListing(ctx, err))
	case refused == 0:
		return nil
	}
	return c.propRefusal(ctx, c.fail(kindOf(refused), &statusError{method: r.method, status: refused}))
}

func refusedWhole(status int) int {
	if status >= 400 {
		return status
	}
	return 0
}

// propRefusal tells a server that keeps no dead properties (rclone 403, XRootD 400)
// from one that refuses this user or has no such entry.
func (c *call) propRefusal(_ context.Context, err error) error {
	switch status := statusOf(err); status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusConflict, http.StatusNotImplemented:
		if status == http.StatusForbidden && c.b.traits.name != Unknown && c.b.traits.name != Rclone {
			return err
		}
		return c.fail(remote.Unsupported, errors.Unwrap(err))
	}
	return err
}

// Symlink implements remote.Symlinker: a file that holds the target, marked by our
// property. A crash between the two leaves a plain file that holds the target.
func (b *Backend) Symlink(ctx context.Context, path, target string) (remote.Entry, error) {
	ctx, c, done, err := b.beginChange(ctx, "symlink", path)
	if err != nil {
		return remote.Entry{}, err
	}
	defer done()
	switch {
	case target == "" || strings.IndexByte(target, 0) >= 0:
		return remote.Entry{}, c.failf(remote.Invalid, "not a target for a symbolic link")
	case len(target) > maxTarget:
		return remote.Entry{}, c.fail(remote.NameTooLong, nil)
	case path == "/":
		return remote.Entry{}, c.fail(remote.Exist, nil)
	case !b.keepsProps():
		return remote.Entry{}, c.failf(remote.Unsupported, "the server keeps no properties, so symbolic links cannot be marked")
	}
	u := &upload{
		c: c, path: path, link: target, src: text(target),
		opts: remote.PutOptions{Cond: remote.Cond{NotExist: true}},
	}
	f, err := u.run(ctx)
	if err == nil && f.Type != remote.Symlink {
		err = c.failf(remote.Unsupported, "the server did not keep the mark of a symbolic link")
	}
	if err != nil && u.made {
		c.cleanup(ctx, b.fileURL(path))
	}
	return f.Entry, err
}
