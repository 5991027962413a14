package webdav

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// chunkUpload is one chunked upload v2: a folder of chunks that the final MOVE puts
// together. The target is untouched until then, and keeps its id and its versions.
type chunkUpload struct {
	u      *upload
	folder string // URL
	target string // URL
	total  string // bytes, as text
	size   int64  // of a chunk
	count  int
	// unknown: the assembly was asked for and no answer came. The server may be at
	// work, reading chunk after chunk into the file: they must stay. It removes old
	// folders by itself, after a day.
	unknown bool
}

func (u *upload) storeChunked(ctx context.Context) (stored, error) {
	if u.src.Size() == 0 {
		// Nothing can be torn here: whatever arrives of no bytes is all of them.
		return u.storePut(ctx)
	}
	k, err := u.newChunkUpload()
	if err != nil {
		return stored{}, err
	}
	r := &request{method: "MKCOL", url: k.folder, header: map[string]string{"Destination": k.target}}
	resp, err := u.c.expect(ctx, r, http.StatusCreated)
	if err != nil {
		return stored{}, u.noFolder(ctx, err)
	}
	closeBody(resp)
	began := time.Now()
	if err = k.sendAll(ctx); err == nil && time.Since(began) > longUpload && u.old != nil {
		err = u.lookLate(ctx)
	}
	var s stored
	if err == nil {
		s, err = k.assemble(ctx)
	}
	if err != nil && !k.unknown {
		u.c.cleanup(ctx, k.folder)
	}
	return s, err
}

// noFolder judges an error of the first MKCOL: 404 and 409 speak of the upload
// folder there, not of the file.
func (u *upload) noFolder(_ context.Context, err error) error {
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusConflict, http.StatusMethodNotAllowed:
		return u.c.fail(remote.Unavailable, fmt.Errorf("the server has no place for uploads: %w", errors.Unwrap(err)))
	}
	return err
}

func (u *upload) newChunkUpload() (*chunkUpload, error) {
	plan, size := u.c.b.chunks, u.src.Size()
	k := &chunkUpload{
		u: u, target: u.c.b.fileURL(u.path), total: strconv.FormatInt(size, 10),
		folder: plan.base + "/meshmount-" + rand.Text(),
	}
	k.size = min(max(usualChunk, (size+maxChunks-1)/maxChunks), plan.max)
	k.count = int((size + k.size - 1) / k.size)
	if k.count > maxChunks {
		return nil, u.c.failf(remote.TooLarge, "the server takes at most %d chunks of %d bytes", maxChunks, plan.max)
	}
	return k, nil
}

// sendAll reads the source, chunk by chunk, in the calling goroutine, and sends some
// chunks at once. It returns when all are there or one has failed.
func (k *chunkUpload) sendAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parallel := int(max(1, min(int64(k.u.c.b.chunks.parallel), int64(k.count), chunkMemory/k.size)))
	buffers := make(chan []byte, parallel)
	for range parallel {
		buffers <- nil
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex // guards first
		first error
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if first == nil {
			first = err
			cancel()
		}
	}
	err := k.u.pieces(ctx, k.size, buffers, func(n int, chunk []byte) error {
		wg.Go(func() {
			if err := k.send(ctx, n, chunk); err != nil {
				fail(err)
			}
			buffers <- chunk
		})
		return nil
	})
	if err != nil {
		fail(err)
	}
	wg.Wait()
	return first
}

// giver takes piece n of a source. Its error ends the cutting and is passed on.
type giver func(n int, piece []byte) error

// pieces cuts the source into pieces of size bytes, the last one shorter, each in a
// buffer from buffers, and hands them to give, numbered from 0.
func (u *upload) pieces(ctx context.Context, size int64, buffers <-chan []byte, give giver) error {
	r, err := u.src.Open()
	if err != nil {
		return u.c.sourceError(ctx, err)
	}
	err = cutPieces(ctx, r, u.src.Size(), size, buffers, give)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return u.c.sourceError(ctx, err)
	}
	return nil
}

func cutPieces(ctx context.Context, r io.Reader, total, size int64, buffers <-chan []byte, give giver) error {
	for n := 0; total > 0; n++ {
		var buf []byte
		select {
		case buf = <-buffers:
		case <-ctx.Done():
			return remote.ContextErr(ctx)
		}
		want := min(size, total)
		if int64(cap(buf)) < want {
			buf = make([]byte, want)
		}
		buf = buf[:want]
		if _, err := io.ReadFull(untilDone{r, ctx}, buf); err == io.EOF || err == io.ErrUnexpectedEOF {
			return errShort
		} else if err != nil {
			return err
		}
		if total -= want; total == 0 {
			if err := atEnd(r); err != nil {
				return err
			}
		}
		if err := give(n, buf); err != nil {
			return err
		}
	}
	return nil
}

// untilDone is a reader that fails once ctx has ended.
type untilDone struct {
	r   io.Reader
	ctx context.Context
}

// Read implements io.Reader.
func (u untilDone) Read(p []byte) (int, error) {
	if err := remote.ContextErr(u.ctx); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// atEnd checks that nothing is left in r.
func atEnd(r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return errLong
	case err != io.EOF:
		return err
	}
	return nil
}

// bufferBody is a body of bytes that are in memory.
func bufferBody(p []byte) *outgoing {
	return &outgoing{size: int64(len(p)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(p)), nil
	}}
}

// send puts one chunk, a second time if the network fails the first.
func (k *chunkUpload) send(ctx context.Context, n int, chunk []byte) error {
	for try := 0; ; try++ {
		r := &request{
			method: http.MethodPut, url: fmt.Sprintf("%s/%05d", k.folder, n+1), body: bufferBody(chunk),
			header: map[string]string{"Destination": k.target, "OC-Total-Length": k.total},
		}
		resp, err := k.u.c.expect(ctx, r, http.StatusCreated, http.StatusNoContent)
		if err == nil {
			closeBody(resp)
			return nil
		}
		if try > 0 || !remote.Retryable(err) || ctx.Err() != nil {
			return k.uploadError(err)
		}
	}
}

// uploadError keeps statuses of the upload folder from being read as facts about the
// file: a folder that has gone is trouble that a new upload may not have.
func (k *chunkUpload) uploadError(err error) error {
	if remote.KindOf(err) == remote.NotExist {
		return k.u.c.fail(remote.Unavailable, fmt.Errorf("the upload folder has gone: %w", errors.Unwrap(err)))
	}
	return err
}

// assemble makes the chunks the file. The server compares the length, and the
// condition with what is there.
func (k *chunkUpload) assemble(ctx context.Context) (stored, error) {
	u := k.u
	header := map[string]string{"Destination": k.target, "OC-Total-Length": k.total, "Overwrite": "T"}
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
	if err != nil {
		return stored{}, err
	}
	closeBody(resp)
	return u.c.b.storedBy(resp, began), nil
}

// Bounds of the final MOVE.
const (
	lockPatience  = 30 * time.Second // for a lock on the target, which a reader may hold
	assemblySpeed = 20 << 20         // bytes a second that a server puts together, at least
)

// move sends the final MOVE. While somebody holds a lock on the target it is sent
// again: the chunks are there, and need not be sent twice.
func (k *chunkUpload) move(ctx context.Context, header map[string]string) (*http.Response, error) {
	r := &request{
		method: "MOVE", url: k.folder + "/.file", header: header, changes: true,
		work: time.Duration(k.u.src.Size()/assemblySpeed) * time.Second,
	}
	began := time.Now()
	for wait := patience[0]; ; wait = min(2*wait, 2*time.Second) {
		resp, err := k.u.c.expect(ctx, r, http.StatusOK, http.StatusCreated, http.StatusNoContent)
		if remote.KindOf(err) != remote.Locked || time.Since(began) > lockPatience || !sleep(ctx, wait) {
			var e *remote.Error
			k.unknown = err != nil && (!errors.As(err, &e) || e.Unsure)
			return resp, err
		}
		remote.Progress(ctx)
	}
}
