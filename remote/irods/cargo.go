package irods

import (
	"context"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"math"

	"github.com/meshmount/meshmount/remote"
)

// cargo is what the lanes carry to an open object.
type cargo interface {
	// guess returns how many bytes there will be, or many if that is not known.
	guess() int64
	// load gives all pieces to push, one after the other, and returns its error as it is.
	// It ends soon after soon has ended. It is called once.
	load(soon context.Context, o *sending) error
	// precious tells whether bytes of the object must stay where no piece goes.
	precious() bool
}

// errHalted ends the loading after another error.
var errHalted = errors.New("the transfer has failed")

// feed loads the cargo. One piece waits while the lanes carry what they can.
func (o *sending) feed() {
	defer close(o.pieces)
	err := o.cargo.load(o.soon, o)
	if err == nil {
		o.mu.Lock()
		o.all = true
		o.mu.Unlock()
	} else if !errors.Is(err, errHalted) {
		o.fail(err)
	}
}

// push hands a piece to the lanes. Its data is from buffer.
func (o *sending) push(p chunk) error {
	n := int64(len(p.data)) // the piece is not ours any more once it is taken
	select {
	case o.pieces <- p:
		o.total += n
		return nil
	case <-o.soon.Done():
		return errHalted
	}
}

// loaded tells whether there are no more pieces to come.
func (o *sending) loaded() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all
}

// wholeCargo is all of a source.
type wholeCargo struct{ u *upload }

func (c wholeCargo) precious() bool { return false }

func (c wholeCargo) guess() int64 { return c.u.src.Size() }

func (c wholeCargo) load(_ context.Context, o *sending) error {
	sum := remote.NewHash("sha256")
	off, size := int64(0), c.u.src.Size()
	err := c.u.eachPiece(o.buffer, func(data []byte) error {
		sum.Write(data)
		n := int64(len(data))
		err := o.push(chunk{off: off, data: data, left: size - off - n, last: off+n == size})
		off += n
		return err
	})
	c.u.sum = sumOf(sum)
	return err
}

// sumOf returns a SHA-256 in the contract's form.
func sumOf(h hash.Hash) remote.Checksum {
	return remote.Checksum{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// growingCargo is content that is still growing.
type growingCargo struct {
	u    *upload
	grow remote.Growing
	err  error // of Wait
}

func (c *growingCargo) precious() bool { return false }

// guess is larger than any object: what is known so far says little.
func (c *growingCargo) guess() int64 { return math.MaxInt64 >> 8 }

// load sends whole pieces as soon as they are there. Then the upload knows its source.
func (c *growingCargo) load(soon context.Context, o *sending) error {
	sum, piece := remote.NewHash("sha256"), int64(c.u.b.piece)
	for off := int64(0); ; {
		size, whole, err := c.grow.Wait(soon, off+piece-1)
		switch {
		case soon.Err() != nil:
			return errHalted
		case err != nil:
			c.err = err
			return err
		}
		for size-off >= piece || whole && off < size {
			data := o.buffer()[:min(piece, size-off)]
			if err := readFull(c.grow, data, off); err != nil {
				return err
			}
			sum.Write(data)
			n := int64(len(data))
			if err := o.push(chunk{off: off, data: data, left: size - off - n, last: whole && off+n == size}); err != nil {
				return err
			}
			off += n
		}
		if whole {
			c.u.src, c.u.sum = &grown{c.grow, size}, sumOf(sum)
			return nil
		}
	}
}

// readFull fills p from offset off.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	switch {
	case n == len(p):
		return nil
	case err == nil || err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

// grown is the Source of content that has grown to its size.
type grown struct {
	io.ReaderAt
	size int64
}

// Size implements remote.Source.
func (g *grown) Size() int64 { return g.size }

// Open implements remote.Source.
func (g *grown) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(g.ReaderAt, 0, g.size)), nil
}

// segment is a part of an object that is to be written: bytes from a reader, or zeros.
type segment struct {
	off, length int64
	zeros       bool
}

// patchCargo is parts of an object.
type patchCargo struct {
	u        *upload
	segments []segment
	bytes    io.ReaderAt
}

func (c *patchCargo) precious() bool { return true }

func (c *patchCargo) guess() (total int64) {
	for _, g := range c.segments {
		total += g.length
	}
	return total
}

func (c *patchCargo) load(_ context.Context, o *sending) error {
	left := c.guess()
	for _, g := range c.segments {
		for off, end := g.off, g.off+g.length; off < end; {
			data := o.buffer()[:min(int64(c.u.b.piece), end-off)]
			if g.zeros {
				clear(data)
			} else if err := readFull(c.bytes, data, off); err != nil {
				return err
			}
			n := int64(len(data))
			left -= n
			if err := o.push(chunk{off: off, data: data, left: left, last: left == 0}); err != nil {
				return err
			}
			off += n
		}
	}
	return nil
}
