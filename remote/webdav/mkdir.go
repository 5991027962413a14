package webdav

import (
	"context"
	"errors"
	"net/http"

	"github.com/meshmount/meshmount/remote"
)

// Mkdir implements remote.Backend. Where the server makes missing parents silently, or
// takes an existing directory for a success, a look comes first. Elsewhere the answer says
// that the directory is new, and nothing is looked at: the entry shows no more than that.
func (b *Backend) Mkdir(ctx context.Context, path string) (remote.Entry, error) {
	ctx, c, done, err := b.beginChange(ctx, "mkdir", path)
	if err != nil {
		return remote.Entry{}, err
	}
	defer done()
	if path == "/" {
		return remote.Entry{}, c.fail(remote.Exist, nil)
	}
	if b.traits.againMkcol {
		// The server will not tell who was first, so let it be one of us at least
		// among the programs of this mount, which may use directories as locks.
		select {
		case b.making <- struct{}{}:
			defer func() { <-b.making }()
		case <-ctx.Done():
			return remote.Entry{}, remote.ContextErr(ctx)
		}
	}
	if err := c.beforeMkdir(ctx); err != nil {
		return remote.Entry{}, err
	}
	resp, err := c.expect(ctx, &request{method: "MKCOL", url: b.dirURL(path), changes: true},
		http.StatusCreated, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return remote.Entry{}, c.explainMkdir(ctx, err)
	}
	closeBody(resp)
	if resp.StatusCode == http.StatusCreated && !b.traits.againMkcol && !b.traits.deepMkcol {
		return remote.Entry{Path: path, Type: remote.Dir}, nil
	}
	f, err := c.lookAt(ctx, path)
	if err != nil {
		return remote.Entry{}, unsure(err)
	}
	return f.Entry, nil
}

// beforeMkdir looks at what the server will not.
func (c *call) beforeMkdir(ctx context.Context) error {
	t := &c.b.traits
	if t.againMkcol {
		switch _, err := c.lookAt(ctx, c.path); {
		case err == nil:
			return c.fail(remote.Exist, nil)
		case remote.KindOf(err) != remote.NotExist:
			return c.explain(ctx, err)
		}
	}
	if t.deepMkcol {
		parent, _ := remote.Split(c.path)
		return c.needDir(ctx, parent)
	}
	return nil
}

// explainMkdir finds out what an error of MKCOL means. 405 is the usual answer for
// what exists, but also for a parent that is a file (rclone).
func (c *call) explainMkdir(ctx context.Context, err error) error {
	if !ambiguous(statusOf(err)) {
		return err
	}
	if _, lerr := c.lookAt(ctx, c.path); lerr == nil {
		return c.fail(remote.Exist, errors.Unwrap(err))
	}
	return c.explainNew(ctx, c.path, err, remote.AccessMkdir)
}
