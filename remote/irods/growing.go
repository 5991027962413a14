package irods

import (
	"cmp"
	"context"
	"math"

	"github.com/meshmount/meshmount/remote"
)

// PutGrowing implements remote.GrowingPutter. Only a new object (Cond.NotExist) is sent
// while its content grows: one that is there is overwritten in place, and that must not
// begin before the content is complete. Nor is what an attempt before has torn. Others see the new object from its second piece
// on, empty, and cannot open it before it is complete.
//
// An object stays open, and so locked, only as long as at least one connection has it
// open: without one the server would take it for torn, or lock it for good. So content
// that grows slowly holds one connection, the other lanes give theirs back. To leave some
// to everybody else, at most half of Options.MaxConns are held in this way; further
// content waits until it may begin or is complete, and so does content that is not yet
// larger than a piece. What is complete by then goes as by Put.
func (b *Backend) PutGrowing(ctx context.Context, path string, src remote.Growing, opts remote.PutOptions) (e remote.Entry, err error) {
	const op = "putgrowing"
	if err := b.check(op, path); err != nil {
		return e, err
	}
	if path == "/" {
		return e, &remote.Error{Op: op, Path: path, Kind: remote.IsDir}
	}
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(b.pool.ctx, func() {
		end(&remote.Error{Op: op, Path: path, Kind: remote.BadHandle, Err: errClosed})
	})()
	first := int64(b.piece)
	if !opts.Cond.NotExist || opts.Redo || b.tears.has(b.full(path)) {
		first = math.MaxInt64 // until it is whole: there may be an object, whole or torn
	}
	size, whole, err := src.Wait(ctx, first)
	if err == nil && !whole {
		size, whole, err = b.growers.enter(ctx, src)
	}
	switch {
	case err != nil:
		return e, cmp.Or(remote.ContextErr(ctx), err)
	case whole:
		opts.Attrs = src.Attrs()
		return b.Put(ctx, path, &grown{src, size}, opts)
	}
	defer b.growers.leave()
	opts.Attrs = remote.Attrs{}
	u := b.upload(op, path, opts)
	u.grow = &growingCargo{u: u, grow: src}
	b.warm(u.grow.guess())
	e, err = u.run(ctx)
	if err != nil && u.grow.err != nil {
		return e, u.grow.err
	}
	return e, err
}

// growers are the places of those who hold a connection for content that is growing.
type growers chan struct{}

// enter waits for a place or for the content's end, whatever comes first: with whole there
// is no place.
func (g growers) enter(ctx context.Context, src remote.Growing) (size int64, whole bool, err error) {
	select {
	case g <- struct{}{}:
		return 0, false, nil
	default:
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		size, whole, err = src.Wait(ctx, math.MaxInt64)
	}()
	select {
	case g <- struct{}{}:
		stop()
		<-ended
		return 0, false, nil
	case <-ended:
		return size, whole, err
	}
}

func (g growers) leave() { <-g }
