package remote

import (
	"context"
	"io"
)

// GrowingPutter is the ability to take a file while it is still being written.
type GrowingPutter interface {
	// PutGrowing is Put of content that is still growing: it sends what is there and
	// waits for more. Until it returns nil, path is as it was for every reader: with
	// Caps.AtomicPut that holds always, without it only for a path at which there was
	// nothing (opts.Cond.NotExist). What it has made by the way is gone when it returns
	// an error, as far as the server answers. opts.Attrs is not used: the attributes are
	// those that src has in the end.
	//
	// Errors: as Put; the error of src.Wait as it is; and Unsupported, at once and with
	// nothing done, if content of this kind must be whole before it is sent. A backend
	// may take only files that are to be new (opts.Cond.NotExist) while they grow.
	PutGrowing(ctx context.Context, path string, src Growing, opts PutOptions) (Entry, error)
}

// Growing is content that is still being written, from its beginning on. Its methods may
// be called from many goroutines.
type Growing interface {
	// ReaderAt reads bytes that Wait has told of.
	io.ReaderAt
	// Wait returns the number of bytes, from offset 0 on, that will not change any more,
	// as soon as there are more than off or whole is true: then size is the final size
	// and there will be no others. An error says that the content has become another
	// behind what was told, or will never be complete: the put is to be given up.
	Wait(ctx context.Context, off int64) (size int64, whole bool, err error)
	// Attrs returns the attributes of the complete content. It is called after Wait has
	// said that it is whole.
	Attrs() Attrs
}

// Sweeper is the ability to remove what uploads have left whose processes died.
type Sweeper interface {
	// Sweep removes, where an upload of size bytes (-1: one that grows) to path keeps what
	// is not complete, all for whose PutOptions.Tag or PutOptions.Resume dead returns true.
	// A place that was swept once is not looked at again.
	Sweep(ctx context.Context, path string, size int64, dead func(tag string) bool) error
}

// Patcher is the ability to change parts of a file without sending the rest.
type Patcher interface {
	// Patch makes the file's content that of its version opts.Cond.Version, which may not
	// be empty, with p's ranges in place of what was there and p.Size bytes long. Errors
	// as Put's; Conflict if the file is of another version.
	//
	// It is not atomic: until it is complete, the server shows no reader a mixture as
	// content (it shows the file as torn: Locked or Corrupt); if it is cut off, the file
	// stays torn until a Patch or Put with PutOptions.Redo makes it whole. The ranges
	// carry absolute bytes, so that a repeat is harmless.
	Patch(ctx context.Context, path string, p Patch, opts PutOptions) (Entry, error)
}

// Patch is a change of parts of a file.
type Patch struct {
	// Size is the file's size afterwards, in bytes. What lies between the old end and the
	// new one and in no range is zeros.
	Size int64
	// Ranges are in ascending order and do not overlap or touch.
	Ranges []ByteRange
	// Bytes holds the bytes of the ranges, at their offsets in the file.
	Bytes io.ReaderAt
}

// ByteRange is Length bytes from Offset on.
type ByteRange struct{ Offset, Length int64 }
