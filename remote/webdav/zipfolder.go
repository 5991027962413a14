package webdav

import (
	"bufio"
	"context"
	"io"
	"mime"
	"net/http"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// Nextcloud sends a folder with all that is below it as a zip, from version 31 on, to a
// client that takes application/zip. (Its tar is broken: never ask for that.) Members are
// stored; their names begin with the folder's. Seen: an error document in the middle of
// the answer, which then ends well.

// zipped asks for a folder as a zip.
func (c *call) zipped(ctx context.Context, expects int64) (*http.Response, error) {
	r := &request{
		method: http.MethodGet, url: c.b.dirURL(c.path), repeats: true, expects: expects,
		header: map[string]string{"Accept": "application/zip", "Accept-Encoding": "identity"},
	}
	return c.packed(ctx, r, "application/zip")
}

// packed makes the request for an archive, whose answer must be of one of the types.
func (c *call) packed(ctx context.Context, r *request, types ...string) (*http.Response, error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, c.packRefusal(ctx, c.refusal(r, resp))
	}
	typ, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if !slices.Contains(types, typ) || resp.Header.Get("Content-Encoding") != "" {
		_ = resp.Body.Close() // it may be long
		c.b.packs.rest(packRefused)
		return nil, c.failf(remote.Unsupported, "asked for an archive, got %q", bounded(resp.Header.Get("Content-Type"), 60))
	}
	return resp, nil
}

// packRefusal judges a refusal: the directory may be gone, the server in trouble, or
// without this ability.
func (c *call) packRefusal(ctx context.Context, err error) error {
	switch kind := remote.KindOf(err); {
	case kind == remote.Auth:
		return err
	case lost(statusOf(err)), pauses(err):
		c.b.packs.rest(packPause)
		return err
	case kind == remote.NotExist:
		if _, lerr := c.lookAt(ctx, c.path); lerr != nil {
			return lerr
		}
	}
	c.b.packs.rest(packRefused)
	return c.fail(remote.Unsupported, err)
}

// openZip returns the members of a zip.
func openZip(body io.Reader) pack { return &zipStream{r: bufio.NewReaderSize(body, 64<<10)} }
