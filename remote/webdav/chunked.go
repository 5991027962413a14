package webdav

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// chunkSizes is how a file is cut: the first chunks have first bytes, and after every
// chunkStep chunks they are twice as long, up to most bytes. So the end of a file that is
// sent while it is written is never far behind, and 10,000 chunks of up to 100 MiB hold
// 730 GiB.
type chunkSizes struct{ first, most int64 }

// chunkStep is the number of chunks of one size.
const chunkStep = 1000

// of returns the bytes of chunk n, counted from 0, if it is not the last.
func (s chunkSizes) of(n int) int64 { return min(s.most, s.first<<min(n/chunkStep, 16)) }

// chunkUpload is one chunked upload v2: a folder of chunks that the final MOVE puts
// together. The target is untouched until then, and keeps its id and its versions.
type chunkUpload struct {
	u      *upload
	folder string // URL
	target string // URL
	cut    chunkSizes
	parts  parts
	there  map[string]int64 // bytes of the chunks that an earlier upload left, by their names
	// unknown: the assembly was asked for and it is not known what came of it. The
	// server may be at work, reading chunk after chunk into the file: they must stay. It
	// removes old folders by itself, after a day.
	unknown bool
}

// storeChunked stores by chunked upload v2.
func (u *upload) storeChunked(ctx context.Context) (stored, error) {
	if u.grow == nil && u.src.Size() == 0 {
		// Nothing can be torn here: whatever arrives of no bytes is all of them.
		return u.storePut(ctx)
	}
	u.way = wayChunked
	k, err := u.newChunkUpload()
	if err != nil {
		return stored{}, err
	}
	s, err := k.run(ctx)
	if err != nil && !k.keeps(ctx, err) {
		u.c.cleanup(ctx, k.folder)
	}
	return s, err
}

func (k *chunkUpload) run(ctx context.Context) (stored, error) {
	if err := k.open(ctx); err != nil {
		return stored{}, err
	}
	began := time.Now()
	switch err := k.parts.sendAll(ctx); {
	case err == errParts:
		return stored{}, k.tooMany()
	case err != nil:
		return stored{}, err
	}
	if k.u.grow != nil {
		k.u.opts.Attrs = k.u.grow.src.Attrs()
	}
	if err := k.dropSurplus(ctx); err != nil {
		return stored{}, err
	}
	if k.u.old != nil && (k.u.grow != nil || time.Since(began) > longUpload) {
		if err := k.u.lookLate(ctx); err != nil {
			return stored{}, err
		}
	}
	return k.assemble(ctx)
}

// keeps tells whether the folder of an upload that failed with err has to stay: for a
// later one that goes on, or because the server may be at work on it.
func (k *chunkUpload) keeps(ctx context.Context, err error) bool {
	if k.unknown {
		return true
	}
	if k.u.opts.Resume == "" || k.u.grow != nil && k.u.grow.failed() != nil {
		return false
	}
	switch remote.KindOf(err) {
	case remote.Unavailable, remote.Locked, remote.Auth:
		return true
	}
	return ctx.Err() != nil
}

func (u *upload) newChunkUpload() (*chunkUpload, error) {
	plan := u.c.b.chunks
	k := &chunkUpload{u: u, target: u.c.b.fileURL(u.path), cut: chunkSizes{plan.usual, plan.max}}
	if u.grow == nil {
		size := u.src.Size()
		if u.opts.Resume == "" {
			one := min(max(plan.usual, (size+maxChunks-1)/maxChunks), plan.max)
			k.cut = chunkSizes{one, one}
		}
		if countParts(k.cut.of, size, maxChunks) > maxChunks {
			return nil, k.tooMany()
		}
	}
	k.parts = parts{u: u, sizes: k.cut.of, most: maxChunks, lanes: plan.parallel, has: k.has, send: k.sendChunk}
	k.folder = plan.base + "/" + k.name()
	return k, nil
}

// tooMany is the error of a file that does not fit into maxChunks chunks.
func (k *chunkUpload) tooMany() error {
	return k.u.c.failf(remote.TooLarge, "the server takes at most %d chunks of %d bytes", maxChunks, k.u.c.b.chunks.max)
}

// name returns the name of the folder. One that is to be found again is named for the
// content and its place (the server may tie a folder to its target), and for the way it
// is cut: chunks of different ways must not be mixed.
func (k *chunkUpload) name() string {
	token := k.u.opts.Resume
	if token == "" {
		return folderPrefix + tagged(k.u.opts.Tag, rand.Text())
	}
	place := sha256.Sum256([]byte(k.u.path))
	return fmt.Sprintf("meshmount-%x-%x-%x-%s-%s", chunkStep, k.cut.first, k.cut.most, hex.EncodeToString(place[:8]), token)
}

// open makes the folder, or finds the one that is to be gone on with.
func (k *chunkUpload) open(ctx context.Context) error {
	r := &request{method: "MKCOL", url: k.folder, header: map[string]string{"Destination": k.target}}
	resp, err := k.u.c.expect(ctx, r, http.StatusCreated)
	if err == nil {
		closeBody(resp)
		return nil
	}
	if statusOf(err) == http.StatusMethodNotAllowed && k.u.opts.Resume != "" {
		return k.find(ctx)
	}
	return k.u.noFolder(ctx, err)
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

// find lists the chunks that are there.
func (k *chunkUpload) find(ctx context.Context) error {
	k.there = map[string]int64{}
	err := k.u.c.propfind(ctx, k.folder, "1", false, func(r *response, _ http.Header) error {
		name := path.Base(r.href)
		size, err := parseCount(r.props.length)
		if _, nerr := strconv.Atoi(name); nerr == nil && err == nil {
			k.there[name] = size
		}
		return nil
	})
	return k.uploadError(err)
}

// has tells whether chunk n of size bytes need not be sent. The last one always is: it
// was on its way when the upload before broke off. Storage that keeps the parts itself
// shows the number without zeros.
func (k *chunkUpload) has(n int, size int64, last bool) bool {
	there, ok := k.there[chunkName(n)]
	if !ok {
		there, ok = k.there[strconv.Itoa(n+1)]
	}
	return ok && !last && there == size
}

// dropSurplus deletes what is there beyond the last chunk.
func (k *chunkUpload) dropSurplus(ctx context.Context) error {
	for name := range k.there {
		if number, err := strconv.Atoi(name); err == nil && number <= k.parts.count {
			continue
		}
		resp, err := k.u.c.expect(ctx, &request{method: http.MethodDelete, url: k.folder + "/" + name},
			http.StatusOK, http.StatusNoContent, http.StatusNotFound)
		if err != nil {
			return k.uploadError(err)
		}
		closeBody(resp)
	}
	return nil
}

// chunkName is the name of chunk n, counted from 0.
func chunkName(n int) string { return fmt.Sprintf("%05d", n+1) }

// uploadError keeps statuses of the upload folder from being read as facts about the
// file: a folder that has gone is trouble that a new upload may not have, and 400 tells
// of a chunk that did not arrive in full.
func (k *chunkUpload) uploadError(err error) error {
	switch {
	case remote.KindOf(err) == remote.NotExist:
		return k.u.c.fail(remote.Unavailable, fmt.Errorf("the upload folder has gone: %w", errors.Unwrap(err)))
	case statusOf(err) == http.StatusBadRequest:
		return k.u.c.fail(remote.Corrupt, errors.Unwrap(err))
	}
	return err
}

// sendChunk puts one chunk. It tells as many bytes as are known of the file: the server
// refuses what it has no space for.
func (k *chunkUpload) sendChunk(ctx context.Context, p outPart, body *outgoing) error {
	err := k.u.c.putPart(ctx, &request{
		method: http.MethodPut, url: k.folder + "/" + chunkName(p.n), body: body,
		header: map[string]string{"Destination": k.target, "OC-Total-Length": strconv.FormatInt(p.total, 10)},
	})
	return k.uploadError(err)
}
