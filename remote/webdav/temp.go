package webdav

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// longUpload is how long an upload may take until what was seen before it counts as
// old.
const longUpload = time.Second

// storeTemp stores under a temporary name, checks what arrived, and moves it to its
// place.
func (u *upload) storeTemp(ctx context.Context) (s stored, err error) {
	c := u.c
	dir, _ := remote.Split(u.path)
	temp := remote.Join(dir, u.tempName())
	moved := false
	defer func() {
		if !moved {
			c.cleanup(ctx, c.b.fileURL(temp))
		}
	}()
	began := time.Now()
	switch {
	case u.way == wayTus:
		s, err = u.storeTus(ctx, temp, "")
	case u.ranged:
		s, err = u.putRanges(ctx, temp)
	default:
		s, err = u.put(ctx, temp, map[string]string{}, false)
	}
	if err != nil {
		return s, err
	}
	f, err := u.checkTemp(ctx, temp, s)
	if err != nil {
		u.blame(err)
		return s, err
	}
	if u.grow != nil || time.Since(began) > longUpload {
		if err := u.lookLate(ctx); err != nil {
			return s, err
		}
	}
	if err := u.moveTemp(ctx, temp); err != nil {
		return s, err
	}
	moved = true
	s.tag = ""
	if !c.b.keepsProps() {
		s.look = &f // MOVE keeps tag and mtime
	}
	if u.exclusive && c.b.traits.movesInto {
		s.look, err = u.notInto(ctx, temp)
	}
	return s, err
}

// notInto looks where a file is after its MOVE to a name where nothing was to be. If a
// directory is there, the server may have moved it into that (lighttpd does, whatever
// Overwrite says).
func (u *upload) notInto(ctx context.Context, temp string) (*found, error) {
	f, err := u.c.lookAt(ctx, u.path)
	if err != nil {
		return nil, unsure(err)
	}
	if f.Type != remote.Dir {
		return &f, nil
	}
	_, name := remote.Split(temp)
	u.c.cleanup(ctx, u.c.b.fileURL(remote.Join(u.path, name)))
	return nil, u.c.fail(remote.Exist, nil)
}

// tempName returns the name under which the content is stored first. In ranges, and with a
// name for the content, it is the same again after a crash, so that nothing is left behind
// by that: a request of before that is still on its way writes the same bytes. A whole PUT
// that is still on its way would cut the file.
func (u *upload) tempName() string {
	if u.opts.Resume != "" && u.ranged {
		return tempPrefix + u.opts.Resume + tempSuffix
	}
	return tempName(u.opts.Tag)
}

// blame takes note of a server that did not keep what it had taken: it is not sent such
// bodies again.
func (u *upload) blame(err error) {
	switch {
	case remote.KindOf(err) != remote.Corrupt:
	case u.ranged:
		u.c.b.noPutRanges.Store(true)
	case u.grow != nil:
		u.c.b.noStreams.Store(true)
	}
}

// checkTemp looks at what arrived, before it replaces anything.
func (u *upload) checkTemp(ctx context.Context, temp string, s stored) (found, error) {
	f, err := u.c.lookAt(ctx, temp)
	if err != nil {
		return f, err
	}
	s.tag = ""
	if err := u.verify(&f, s); err != nil {
		return f, err
	}
	if want := s.sums["md5"]; want != "" && len(f.tag) == 32 && isHash(f.tag) && !equalHex(want, f.tag) {
		return f, u.c.failf(remote.Corrupt, "the server stored other bytes than were sent: md5 %s instead of %s", f.tag, want)
	}
	if want := s.sums["adler32"]; want != "" {
		return f, u.checkDigest(ctx, temp, want)
	}
	return f, nil
}

// checkDigest asks XRootD for the checksum of what it stored. A server without
// checksums says 500 or nothing, and is not asked again.
func (u *upload) checkDigest(ctx context.Context, temp, want string) error {
	resp, err := u.c.send(ctx, &request{
		method: http.MethodHead, url: u.c.b.fileURL(temp), repeats: true,
		header: map[string]string{"Want-Digest": "adler32", "Accept-Encoding": "identity"},
	})
	if err != nil {
		return err
	}
	closeBody(resp)
	name, got, _ := strings.Cut(resp.Header.Get("Digest"), "=")
	if resp.StatusCode != http.StatusOK || !strings.EqualFold(name, "adler32") || !isHex(got) || len(got) > 8 {
		u.c.b.noDigest.Store(true)
		return nil
	}
	if got = strings.Repeat("0", 8-len(got)) + got; !equalHex(got, want) {
		return u.c.failf(remote.Corrupt, "the server stored other bytes than were sent: adler32 %s instead of %s", got, want)
	}
	return nil
}

// lookLate looks at path again after a long upload, so that the race that remains is
// a short one.
func (u *upload) lookLate(ctx context.Context) error {
	if u.exclusive && u.c.b.traits.honoursF {
		return nil // the MOVE is checked by the server
	}
	return u.lookAgain(ctx)
}

// lookAgain checks that what is at path is still what the upload is to replace.
func (u *upload) lookAgain(ctx context.Context) error {
	f, err := u.c.lookAt(ctx, u.path)
	before, typ := u.opts.Cond.Version, remote.File
	if u.old != nil {
		before, typ = u.old.Version, u.old.Type
	}
	switch {
	case remote.KindOf(err) == remote.NotExist && !u.exclusive:
		return u.c.fail(remote.Conflict, err)
	case remote.KindOf(err) == remote.NotExist:
		return nil
	case err != nil:
		return err
	case u.exclusive:
		return u.c.fail(remote.Exist, nil)
	case f.Type != typ || !u.c.b.sameVersion(f.Version, before):
		return u.c.fail(remote.Conflict, nil)
	}
	return nil
}

// moveTemp moves the temporary file to its place.
func (u *upload) moveTemp(ctx context.Context, temp string) error {
	target := u.c.b.fileURL(u.path)
	header := map[string]string{}
	if u.match != "" && u.c.b.traits.tagged {
		header["If"] = taggedList(target, u.match)
	}
	err := u.c.move(ctx, u.c.b.fileURL(temp), target, !u.exclusive, header)
	if statusOf(err) == http.StatusPreconditionFailed {
		return u.unmet(err)
	}
	return err
}

// move sends one MOVE. Overwrite is always told (rclone takes its absence for F), and
// the destination is a full URL (mod_dav and XRootD refuse a path).
func (c *call) move(ctx context.Context, from, to string, replace bool, header map[string]string) error {
	header["Destination"] = to
	header["Overwrite"] = "F"
	if replace {
		header["Overwrite"] = "T"
	}
	r := &request{method: "MOVE", url: from, header: header, changes: true}
	resp, err := c.expect(ctx, r, http.StatusOK, http.StatusCreated, http.StatusNoContent, http.StatusMultiStatus)
	if err != nil {
		return err
	}
	defer closeBody(resp)
	if resp.StatusCode == http.StatusMultiStatus {
		return c.partial(ctx, r.method, resp)
	}
	return nil
}

// partial reads the answer to a change that failed for some of what it was about.
func (c *call) partial(ctx context.Context, method string, resp *http.Response) error {
	status := 0
	err := parseMultistatus(resp.Body, func(r *response) error {
		if status == 0 || status == http.StatusFailedDependency {
			status = max(r.status, r.refused)
		}
		return nil
	})
	switch {
	case err != nil:
		return unsure(c.badListing(ctx, err))
	case status < 400:
		return nil
	}
	return c.fail(kindOf(status), &statusError{method: method, status: status})
}
