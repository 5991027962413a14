package webdav

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Speeds at which a server puts chunks together, in bytes a second.
const (
	assemblySpeed = 20 << 20 // as it should be
	slowAssembly  = 1 << 20  // as it may be
)

// patienceWith bounds how long an upload waits for a server that is at work on its file.
type patienceWith struct {
	locks    time.Duration // for a lock on the target, which a reader may hold
	assembly time.Duration // for the end of an assembly whose answer was lost, beyond its work
	abandon  time.Duration // until its chunks are deleted, beyond its work if it is slow
}

// usualPatience is that of every Backend.
var usualPatience = patienceWith{locks: 30 * time.Second, assembly: 10 * time.Second, abandon: time.Minute}

// assemble makes the chunks the file. The server compares the length, and the
// condition with what is there.
func (k *chunkUpload) assemble(ctx context.Context) (stored, error) {
	u := k.u
	header := map[string]string{"Destination": k.target, "OC-Total-Length": strconv.FormatInt(k.parts.size, 10), "Overwrite": "T"}
	if u.exclusive {
		header["Overwrite"] = "F"
	}
	if u.match != "" {
		header["If"] = taggedList(k.target, u.match)
	}
	if text := u.timeHeader(); text != "" {
		header["X-OC-Mtime"] = text
	}
	began := time.Now()
	resp, err := k.move(ctx, header)
	switch statusOf(err) {
	case http.StatusPreconditionFailed:
		return stored{}, u.unmet(err)
	case http.StatusBadRequest:
		// The lengths do not add up: a chunk was lost.
		return stored{}, u.c.fail(remote.Corrupt, errors.Unwrap(err))
	}
	var e *remote.Error
	switch {
	case errors.As(err, &e) && e.Unsure:
		return k.settle(ctx, began, err)
	case statusOf(err) == http.StatusNotFound:
		return stored{}, k.uploadError(err)
	case err != nil:
		return stored{}, err
	}
	closeBody(resp)
	return u.c.b.storedBy(resp, began), nil
}

// work is how long the server may need to put the chunks together.
func (k *chunkUpload) work() time.Duration {
	return time.Duration(k.parts.size/assemblySpeed) * time.Second
}

// move sends the final MOVE. While somebody holds a lock on the target it is sent
// again: the chunks are there, and need not be sent twice.
func (k *chunkUpload) move(ctx context.Context, header map[string]string) (*http.Response, error) {
	r := &request{method: "MOVE", url: k.folder + "/.file", header: header, changes: true, work: k.work()}
	began := time.Now()
	for wait := patience[0]; ; wait = min(2*wait, 2*time.Second) {
		resp, err := k.u.c.expect(ctx, r, http.StatusOK, http.StatusCreated, http.StatusNoContent)
		if remote.KindOf(err) != remote.Locked || time.Since(began) > k.u.c.b.waits.locks || !sleep(ctx, wait) {
			return resp, err
		}
		remote.Progress(ctx)
	}
}

// settle finds out what came of an assembly whose answer was lost (PHP goes on when a
// gateway has given up): the folder goes when the file is there. cause is the error that
// is returned if that cannot be found out. The chunks are then deleted much later: a
// server that misses one of them may end the file there.
func (k *chunkUpload) settle(ctx context.Context, began time.Time, cause error) (stored, error) {
	k.unknown = true
	waits := &k.u.c.b.waits
	end := began.Add(k.work() + waits.assembly)
	for wait := patience[0]; ; wait = min(2*wait, 2*time.Second) {
		gone, err := k.gone(ctx)
		if gone {
			return k.compare(ctx, began, cause)
		}
		if err != nil || time.Now().After(end) || !sleep(ctx, wait) {
			break
		}
		remote.Progress(ctx)
	}
	if k.u.opts.Resume == "" {
		k.u.c.b.left.add(k.folder, began.Add(time.Duration(k.parts.size/slowAssembly)*time.Second+waits.abandon))
	}
	return stored{}, cause
}

// gone tells whether the folder is there no more.
func (k *chunkUpload) gone(ctx context.Context) (bool, error) {
	err := k.u.c.propfind(ctx, k.folder, "0", false, func(*response, http.Header) error { return nil })
	if statusOf(err) == http.StatusNotFound {
		return true, nil
	}
	return false, err
}

// compare looks whether what is at the path now is what was to be stored: another file
// than before, of our size and time.
func (k *chunkUpload) compare(ctx context.Context, began time.Time, cause error) (stored, error) {
	u := k.u
	f, err := u.c.lookAt(ctx, u.path)
	switch {
	case err != nil, f.Type != remote.File && f.Type != remote.Symlink, f.Size != k.parts.size:
		return stored{}, cause
	case u.old != nil && f.tag == u.old.tag, u.match != "" && f.tag == u.match:
		return stored{}, cause
	case u.timeHeader() != "" && f.native.Unix() != u.opts.Attrs.MTime.Unix():
		return stored{}, cause
	}
	k.unknown = false
	return stored{look: &f, id: f.ID, timeSet: u.timeHeader() != "", when: time.Now(), took: time.Since(began)}, nil
}
