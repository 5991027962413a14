package webdav

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// propfindBody asks for exactly the properties that the dialect has and we use.
func (b *Backend) propfindBody(quota bool) string {
	var s strings.Builder
	s.WriteString(`<?xml version="1.0" encoding="utf-8"?><d:propfind xmlns:d="DAV:" xmlns:oc="` + nsOC +
		`" xmlns:nc="` + nsNC + `" xmlns:m="` + nsOurs + `"><d:prop>`)
	names := []string{"d:resourcetype", "d:getcontentlength", "d:getlastmodified", "d:getetag"}
	t := &b.traits
	if t.family {
		names = append(names, "oc:permissions")
	}
	if t.stableIDs {
		names = append(names, "oc:id")
	}
	if t.uploadTime {
		names = append(names, "nc:upload_time")
	}
	if t.checksums {
		names = append(names, "oc:checksums")
	}
	if b.keepsProps() {
		names = append(names, "m:attr")
	}
	if quota {
		names = append(names, "d:quota-used-bytes", "d:quota-available-bytes")
	}
	for _, name := range names {
		s.WriteString("<" + name + "/>")
	}
	s.WriteString("</d:prop></d:propfind>")
	return s.String()
}

// propfind asks for the properties of target and hands each response to each.
func (c *call) propfind(ctx context.Context, target, depth string, quota bool, each func(*response, http.Header) error) error {
	r := &request{
		method: "PROPFIND", url: target, repeats: true,
		header: map[string]string{"Depth": depth, "Content-Type": "application/xml; charset=utf-8"},
		body:   textBody(c.b.propfindBody(quota)),
	}
	if depth == "0" {
		r.header["Accept-Encoding"] = "identity" // one entry is not worth the server's time
	}
	resp, err := c.expect(ctx, r, http.StatusMultiStatus)
	if err != nil {
		return err
	}
	defer closeBody(resp)
	var halt error
	err = parseMultistatus(resp.Body, func(one *response) error {
		if halt = each(one, resp.Header); halt == nil {
			halt = remote.ContextErr(ctx)
		}
		return halt
	})
	if halt != nil || err == nil {
		return halt
	}
	return c.badListing(ctx, err)
}

// badListing makes an error of a document that could not be read to its end.
func (c *call) badListing(ctx context.Context, err error) error {
	var network interface{ Timeout() bool }
	switch {
	case ctx.Err() != nil:
		return c.broken(ctx, err, false)
	case errors.Is(err, errCut), errors.As(err, &network):
		return c.fail(remote.Unavailable, err)
	}
	return c.fail(remote.Corrupt, err)
}

// lookAt returns what is at path. It costs one request, or two for directories on a
// server that redirects to the form with a slash.
func (c *call) lookAt(ctx context.Context, path string) (found, error) {
	f, err := c.lookOnce(ctx, path, false)
	if err != nil && path != c.path {
		var e *remote.Error
		if errors.As(err, &e) && e.Path == c.path {
			e.Path = path // the entry concerned
		}
	}
	return f, err
}

func (c *call) lookOnce(ctx context.Context, path string, quota bool) (f found, err error) {
	h := c.b.hrefs(strings.TrimSuffix(path, "/"))
	seen := false
	err = c.propfind(ctx, c.b.fileURL(path), "0", quota, func(r *response, head http.Header) error {
		name, err := h.resolve(r.href)
		switch {
		case err != nil || name != "":
			return nil // XRootD and others may show more than was asked for
		case seen:
			return nil
		}
		seen = true
		if r.status >= 400 {
			return c.fail(kindOf(r.status), &statusError{method: "PROPFIND", status: r.status})
		}
		if f, err = c.b.view(path, r, c.b.serverTime(head)); err != nil {
			return c.fail(remote.Corrupt, err)
		}
		return nil
	})
	if err == nil && !seen {
		err = c.failf(remote.Corrupt, "the server's answer is about other addresses than %s", bounded(c.b.fileURL(path), 200))
	}
	return f, err
}

// serverTime is the time on the server's clock, by the Date of an answer.
func (b *Backend) serverTime(h http.Header) time.Time {
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		return t
	}
	return time.Now().Add(b.skew)
}

// Stat implements remote.Backend.
func (b *Backend) Stat(ctx context.Context, path string) (remote.Entry, error) {
	ctx, c, done, err := b.begin(ctx, "stat", path)
	if err != nil {
		return remote.Entry{}, err
	}
	defer done()
	if b.hidden(path) {
		return remote.Entry{}, c.fail(remote.NotExist, nil)
	}
	f, err := c.lookAt(ctx, path)
	if err != nil {
		if statusOf(err) == http.StatusNotFound {
			return remote.Entry{}, err // the common case, not worth a second request
		}
		return remote.Entry{}, c.explain(ctx, err)
	}
	return f.Entry, nil
}

// hidden tells of names that are never listed, so that they cannot be found either:
// our temporary ones, and those that the server would find under other bytes.
func (b *Backend) hidden(path string) bool {
	for name := range strings.SplitSeq(path, "/") {
		if isTemp(name) || b.traits.nfc && !isNFC(name) {
			return true
		}
	}
	return false
}

// explain replaces an error about c.path that may mean several things by what a look
// at the way there tells. Servers answer 400 (mod_dav), 403, 405 (rclone), 409 or
// 500 (Reva) where a parent is missing or is a file.
func (c *call) explain(ctx context.Context, err error) error {
	if !ambiguous(statusOf(err)) {
		return err
	}
	kind := c.wayTo(ctx, c.path)
	if kind == remote.Other {
		return err
	}
	return c.fail(kind, errors.Unwrap(err))
}

// wayTo tells what is wrong with the directories above path: NotExist, NotDir, or
// Other if nothing is, or it cannot be found out.
func (c *call) wayTo(ctx context.Context, path string) remote.Kind {
	for path != "/" {
		path, _ = remote.Split(path)
		f, err := c.lookAt(ctx, path)
		switch {
		case err == nil && f.Type != remote.Dir:
			return remote.NotDir
		case err == nil:
			return remote.Other
		case remote.KindOf(err) == remote.NotExist && statusOf(err) == http.StatusNotFound:
			// Perhaps because a file is further up.
			if kind := c.wayTo(ctx, path); kind == remote.NotDir {
				return kind
			}
			return remote.NotExist
		case statusOf(err) == 0:
			return remote.Other
		}
	}
	return remote.Other
}

// needDir checks that path is a directory: the error is of the kind that a missing
// parent gives.
func (c *call) needDir(ctx context.Context, path string) error {
	f, err := c.lookAt(ctx, path)
	switch {
	case err != nil:
		return err
	case f.Type != remote.Dir:
		return c.fail(remote.NotDir, fmt.Errorf("%s is a file", path))
	}
	return nil
}
