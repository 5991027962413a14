package webdav

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// settle compares what was stored with what was sent, sets the attributes that did
// not come with the upload, and returns the entry.
//
// What goes wrong here comes after the change: such errors are Unsure. An attribute
// that cannot be set is no error; the entry shows what was kept.
func (u *upload) settle(ctx context.Context, s stored) (found, error) {
	f, ok := u.known(s)
	if !ok && s.look != nil {
		f, ok = *s.look, true
		f.Path = u.path
	}
	if !ok {
		var err error
		if f, err = u.c.lookAt(ctx, u.path); err != nil {
			return found{}, unsure(err)
		}
	}
	return u.settleAs(ctx, f, s)
}

// settleAs is settle of a file that looks like f.
func (u *upload) settleAs(ctx context.Context, f found, s stored) (found, error) {
	if err := u.verify(&f, s); err != nil {
		return found{}, err
	}
	if s.tag != "" && f.tag != s.tag {
		// Somebody else was here since. What we stored is what this Put is about.
		f.tag, f.Version, f.Size, f.Provisional = s.tag, s.tag, u.src.Size(), true
		f.Type, f.Target = remote.File, ""
		return f, nil
	}
	return u.setAttrs(ctx, f)
}

// unsure marks an error that came after a change.
func unsure(err error) error {
	var e *remote.Error
	if errors.As(err, &e) {
		marked := *e
		marked.Unsure = true
		return &marked
	}
	return err
}

// known makes the entry of a new file on Nextcloud from the headers of the PUT, which
// saves a request for each. That takes a time of upload that is the mtime within a
// second, so that it cannot be part of the version.
func (u *upload) known(s stored) (found, bool) {
	m := u.opts.Attrs.MTime
	t := &u.c.b.traits
	if !t.uploadTime || !u.exclusive || s.tag == "" || m == nil || !s.timeSet || s.took > time.Second {
		return found{}, false
	}
	mtime := time.Unix(m.Unix(), 0)
	if d := s.when.Sub(mtime); d < -time.Second || d > time.Second {
		return found{}, false
	}
	return found{
		Entry: remote.Entry{
			Path: u.path, Type: remote.File, Size: u.src.Size(), MTime: mtime,
			Version: s.tag, Provisional: true, ID: s.id, Access: u.c.b.access(s.perms),
		},
		tag: s.tag, native: mtime,
	}, true
}

// verify compares what the server shows with what was sent.
func (u *upload) verify(f *found, s stored) error {
	switch {
	case f.Type == remote.Dir:
		return unsure(u.c.failf(remote.Conflict, "the file became a directory"))
	case s.tag != "" && f.tag != s.tag:
		return nil // not ours any more
	case f.Size != u.src.Size():
		return u.c.failf(remote.Corrupt, "the server shows %d bytes of %d", f.Size, u.src.Size())
	}
	if want, got := s.sums["sha1"], sumOf(f.Version); want != "" && got != "" && want != got {
		return u.c.failf(remote.Corrupt, "the server stored other bytes than were sent: sha1 %s instead of %s", got, want)
	}
	return nil
}

// setAttrs writes our property if something has to be kept in it, or must not stay.
func (u *upload) setAttrs(ctx context.Context, f found) (found, error) {
	want := attr{mode: f.attr.mode, hasMode: f.attr.hasMode, link: u.link}
	if !want.hasMode && u.old != nil {
		want.mode, want.hasMode = u.old.attr.mode, u.old.attr.hasMode
	}
	switch m := u.opts.Attrs.Mode; {
	case m == nil:
	case u.opts.Attrs.Spares(remote.File) && !f.attr.hasMode:
		want.mode, want.hasMode = 0, false
	default:
		want.mode, want.hasMode = *m&0o7777, true
	}
	if !u.c.b.keepsProps() || u.opts.Loose && want.serves(&f) {
		return f, nil // a loose time is not worth a request
	}
	if m := u.opts.Attrs.MTime; m != nil {
		want.wish(&f, *m, u.c.b.traits.sendTime)
	}
	if want.serves(&f) {
		return f, nil
	}
	if u.rest != nil {
		*u.rest = want.asSet()
		return f, nil
	}
	err := u.c.writeAttr(ctx, u.path, want)
	switch {
	case err == nil:
		return f.with(want), nil
	case u.link != "" || f.Type == remote.Symlink || ctx.Err() != nil:
		return found{}, unsure(err)
	}
	u.c.b.opts.Logger.Debug("attributes not kept", "path", u.path, "err", err)
	return f, nil
}

// serves tells whether the property of f may stay as it is when a is wanted. An mtime
// of another content does no harm there. A link, or an mtime that still counts, is
// of the content before and must go.
func (a attr) serves(f *found) bool {
	have := f.attr
	if have.tag != f.stamp() || have.size != f.Size {
		have.mtime = time.Time{}
	}
	return a.hasMode == have.hasMode && a.mode == have.mode && a.link == have.link && a.mtime.Equal(have.mtime)
}

// wish puts an mtime into a, if the server does not show it by itself. native says
// that the server keeps mtimes, of whole seconds.
func (a *attr) wish(f *found, mtime time.Time, native bool) {
	if native && f.native.Unix() == mtime.Unix() || f.native.Equal(mtime) {
		return
	}
	a.mtime, a.tag, a.size = mtime, f.stamp(), f.Size
}

// asSet returns the attributes with which SetAttr makes a the property.
func (a attr) asSet() (set remote.Attrs) {
	if a.hasMode {
		set.Mode = &a.mode
	}
	if !a.mtime.IsZero() {
		set.MTime = &a.mtime
	}
	return set
}

// with returns f as it is once a is its property.
func (f found) with(a attr) found {
	f.attr = a
	f.Mode, f.ModeKnown = a.mode, a.hasMode
	f.MTime = f.native
	if !a.mtime.IsZero() {
		f.MTime = a.mtime
	}
	if f.Type != remote.Dir {
		f.Type, f.Target = remote.File, ""
		if a.link != "" {
			f.Type, f.Target = remote.Symlink, a.link
		}
	}
	return f
}

// explain finds out what an error of an upload means.
func (u *upload) explain(ctx context.Context, err error) error {
	var e *remote.Error
	if !errors.As(err, &e) || e.Unsure {
		return err
	}
	status := statusOf(err)
	if !ambiguous(status) {
		return err
	}
	if e.Kind == remote.Exist || e.Kind == remote.Conflict && status != http.StatusConflict {
		return err
	}
	f, lerr := u.c.lookAt(ctx, u.path)
	switch cond := u.opts.Cond; {
	case lerr == nil && cond.NotExist:
		return u.c.fail(remote.Exist, e.Err)
	case lerr == nil && f.Type == remote.Dir:
		return u.c.fail(remote.IsDir, e.Err)
	case lerr == nil && cond.Version != "" && !u.c.b.sameVersion(f.Version, cond.Version):
		return u.c.fail(remote.Conflict, e.Err)
	case lerr == nil && !f.Access.Can(remote.AccessWrite):
		return u.c.fail(remote.Permission, e.Err)
	case lerr != nil:
		return u.c.explainNew(ctx, u.path, err, remote.AccessCreate)
	case e.Kind == remote.Conflict:
		return err // oCIS says 409 to If-Match, see storeEmpty
	case status == http.StatusConflict || status == http.StatusNotFound:
		return u.c.fail(remote.Unavailable, e.Err) // what was missing is there
	}
	return err
}

// explainNew finds out why something could not be made at path.
func (c *call) explainNew(ctx context.Context, path string, err error, need remote.Access) error {
	if kind := c.wayTo(ctx, path); kind != remote.Other {
		return c.fail(kind, errors.Unwrap(err))
	}
	parent, _ := remote.Split(path)
	f, lerr := c.lookAt(ctx, parent)
	switch status := statusOf(err); {
	case lerr == nil && !f.Access.Can(need):
		return c.fail(remote.Permission, errors.Unwrap(err)) // Reva says 500
	case status == http.StatusConflict || status == http.StatusNotFound:
		return c.fail(remote.Unavailable, errors.Unwrap(err)) // the parent is there: it was not a moment ago
	}
	return err
}
