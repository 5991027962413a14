package webdav

import (
	"context"
	"errors"
	"net/http"

	"github.com/meshmount/meshmount/remote"
)

// Remove implements remote.Backend. DELETE of a collection takes everything below it,
// so nothing is deleted that was not seen to be what the caller thinks, and the entity
// tag of what was seen goes along where the server honours it. For directories that
// is mod_dav alone; sabre, below Nextcloud, takes a directory for something without a
// tag, so that every If-Match fails. A child that is made between the look and the
// DELETE goes with it.
func (b *Backend) Remove(ctx context.Context, path string, opts remote.RemoveOptions) error {
	ctx, c, done, err := b.begin(ctx, "remove", path)
	if err != nil {
		return err
	}
	defer done()
	if path == "/" || opts.Type < remote.File || opts.Type > remote.Symlink {
		return c.fail(remote.Invalid, nil)
	}
	if b.hidden(path) {
		return c.fail(remote.NotExist, nil)
	}
	if opts.Type == remote.Dir {
		return c.removeDir(ctx, opts.Version)
	}
	return c.removeFile(ctx, opts.Version)
}

// removeFile deletes a file. With a version that is a tag the server checks that it is
// that file: no directory has the same.
func (c *call) removeFile(ctx context.Context, version string) error {
	if tag := c.b.tagOf(version); tag != "" && tag == version && c.b.traits.otherMatch {
		err := c.delete(ctx, c.b.fileURL(c.path), tag)
		if statusOf(err) != http.StatusPreconditionFailed {
			return c.explainDelete(ctx, err)
		}
		// Another version, or a weak tag, which never matches: look.
	}
	f, err := c.lookAt(ctx, c.path)
	switch {
	case err != nil:
		return c.explain(ctx, err)
	case f.Type == remote.Dir:
		return c.fail(remote.IsDir, nil)
	case version != "" && !c.b.sameVersion(f.Version, version):
		return c.fail(remote.Conflict, nil)
	}
	err = c.delete(ctx, c.b.fileURL(c.path), c.deleteTag(&f))
	if statusOf(err) == http.StatusPreconditionFailed {
		return c.fail(remote.Conflict, errors.Unwrap(err))
	}
	return c.explainDelete(ctx, err)
}

// deleteTag is the tag that goes with a DELETE, "" if it would be of no use.
func (c *call) deleteTag(f *found) string {
	if f.weak || !c.b.traits.otherMatch || f.Type == remote.Dir && !c.b.traits.dirMatch {
		return ""
	}
	return f.tag
}

// removeDir deletes a directory that was seen to be empty.
func (c *call) removeDir(ctx context.Context, version string) error {
	self, err := c.emptyDir(ctx, c.path)
	switch {
	case err != nil:
		return err
	case version != "" && self.Version != "" && self.Version != version:
		return c.fail(remote.Conflict, nil)
	}
	err = c.delete(ctx, c.b.dirURL(c.path), c.deleteTag(&self))
	if statusOf(err) != http.StatusPreconditionFailed {
		return c.explainDelete(ctx, err)
	}
	// Something changed it between the look and the DELETE.
	if _, lerr := c.emptyDir(ctx, c.path); lerr != nil {
		return lerr
	}
	return c.fail(remote.Conflict, errors.Unwrap(err))
}

// errHasChild ends a listing at its first entry.
var errHasChild = errors.New("the directory has entries")

// emptyDir returns what is known of the directory at path if it has no entries. Names
// of unfinished uploads count as entries while they may be under way: somebody who
// writes a file into the directory shall not lose it.
func (c *call) emptyDir(ctx context.Context, path string) (found, error) {
	l := &listing{
		c: &call{b: c.b, op: c.op, path: path}, h: c.b.hrefs(path),
		yield: func(found) error { return errHasChild },
		temps: func(f found) error {
			if f.MTime.IsZero() || f.now.Sub(f.native) < abandoned {
				return errHasChild
			}
			return nil
		},
		odd: errHasChild, // it would go with the directory
	}
	err := l.run(ctx)
	if errors.Is(err, errHasChild) {
		return found{}, c.fail(remote.NotEmpty, nil)
	}
	return l.self, err
}

// delete sends one DELETE, for what has the entity tag if one is given.
func (c *call) delete(ctx context.Context, target, tag string) error {
	r := &request{method: http.MethodDelete, url: target, changes: true, header: map[string]string{}}
	if tag != "" {
		r.header["If-Match"] = ifTag(tag)
	}
	resp, err := c.expect(ctx, r, http.StatusOK, http.StatusNoContent, http.StatusAccepted, http.StatusMultiStatus)
	if err != nil {
		return err
	}
	defer closeBody(resp)
	if resp.StatusCode == http.StatusMultiStatus {
		return c.partial(ctx, r.method, resp)
	}
	return nil
}

// explainDelete finds out what an error of DELETE means.
func (c *call) explainDelete(ctx context.Context, err error) error {
	if err == nil || statusOf(err) == http.StatusNotFound {
		return err
	}
	var e *remote.Error
	if statusOf(err) >= 500 && errors.As(err, &e) && e.Unsure {
		return err
	}
	return c.explain(ctx, err)
}
