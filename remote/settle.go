package remote

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"hash"
	"io"
)

// A change whose answer was lost may have happened. Retry settles its fate by
// looking, so that its caller sees one change with one result:
//
//   - Put: before the next attempt, and when that says Exist or Conflict, the entry
//     is looked at. If it is a file of our size and bytes, and not of the version
//     that the condition asked for, the Put has happened. The bytes are compared by
//     the server's checksum if it is a cryptographic one, otherwise by reading back.
//     Attributes went with the bytes and are not looked at.
//   - Patch: Conflict from a later attempt is success if there is a file of another
//     version than the condition asked for, of the size that we wanted, with our bytes in
//     the ranges, and with our time if one was given and the server keeps times. What
//     lies between the ranges cannot be compared here.
//   - Remove, RemoveTree, Prune: NotExist from a later attempt is success.
//   - Mkdir: Exist from a later attempt is success if there is an empty directory.
//   - Symlink: Exist from a later attempt is success if there is our link.
//   - Rename: any refusal of a later attempt is success if the source is gone and
//     the target is there.
//   - SetXattr: Exist from a later attempt (it was to be created) is success if the
//     attribute has our value.
//   - RemoveXattr: NoXattr from a later attempt is success.
//   - SetAttr and the other modes of SetXattr give the same result twice; nothing is
//     to be settled.
//
// A Put that is refused with Redo set is looked at as well, though no attempt was Unsure: a
// server may say 500 of a file that it has stored.
//
// What cannot be told is somebody else's simultaneous change to the same effect:
// who makes the very directory that we tried to make, or removes the very file. And
// who makes a new file at the source of a Rename that has happened, before the
// second attempt, has it moved to the target.

// once makes one attempt. It returns nil also if it finds that an attempt before
// has succeeded.
func (a *attempts) once(ctx context.Context) error {
	a.tries++
	if a.unsure && a.call.Op == OpPut {
		if done, err := a.putDone(ctx); done || err != nil {
			return err
		}
	}
	before := a.unsure || a.call.Op == OpPut && a.call.Put.Redo
	err := a.next(ctx)
	a.learn(err)
	if !before || err == nil || Retryable(err) || isContextErr(err) {
		return err
	}
	done, lookErr := a.settled(ctx, KindOf(err))
	switch {
	case done:
		return nil
	case lookErr != nil:
		return lookErr
	}
	return err
}

// learn takes note of what an attempt may have left.
func (a *attempts) learn(err error) {
	var e *Error
	if errors.As(err, &e) && e.Unsure {
		a.unsure = true
	}
	begun := !errors.Is(err, Locked) && (a.call.Op == OpPatch || a.sent.Load() > 0)
	if a.unsure || begun {
		a.call.Put.Redo = true
	}
}

// settled tells whether an earlier attempt explains why this one was refused. An
// error is one of looking; it may be worth another attempt.
func (a *attempts) settled(ctx context.Context, refusal Kind) (bool, error) {
	switch op := a.call.Op; {
	case op == OpPut && (refusal == Exist || refusal == Conflict):
		return a.putDone(ctx)
	case op == OpPatch && refusal == Conflict:
		return a.patchDone(ctx)
	case op == OpRemove, op == OpRemoveTree, op == OpPrune:
		return refusal == NotExist, nil
	case op == OpRemoveXattr:
		return refusal == NoXattr, nil
	case op == OpSetXattr && refusal == Exist:
		return a.xattrDone(ctx)
	case op == OpMkdir && refusal == Exist:
		return a.mkdirDone(ctx)
	case op == OpSymlink && refusal == Exist:
		e, err := a.look(ctx, a.call.Path)
		a.call.Entry = e
		return e.Type == Symlink && e.Target == a.call.Target, err
	case op == OpRename:
		return a.renameDone(ctx)
	}
	return false, nil
}

// look is Stat; nothing there is the zero Entry.
func (a *attempts) look(ctx context.Context, path string) (Entry, error) {
	e, err := a.r.inner.Stat(ctx, path)
	if err == nil || errors.Is(err, NotExist) || errors.Is(err, NotDir) {
		return e, nil
	}
	return Entry{}, err
}

func (a *attempts) mkdirDone(ctx context.Context) (bool, error) {
	e, err := a.look(ctx, a.call.Path)
	if err != nil || e.Type != Dir {
		return false, err
	}
	err = a.r.inner.List(ctx, a.call.Path, func(Entry) error { return errOccupied })
	if err == errOccupied {
		return false, nil
	}
	a.call.Entry = e
	return err == nil, err
}

var errOccupied = errors.New("the directory has entries")

func (a *attempts) renameDone(ctx context.Context) (bool, error) {
	from, err := a.look(ctx, a.call.Path)
	if err != nil || from.Type != 0 {
		return false, err
	}
	to, err := a.look(ctx, a.call.To)
	return err == nil && to.Type != 0, err
}

func (a *attempts) xattrDone(ctx context.Context) (bool, error) {
	x, ok := As[Xattrer](a.r.inner)
	if !ok {
		return false, nil
	}
	all, err := x.Xattrs(ctx, a.call.Path)
	if errors.Is(err, NotExist) || errors.Is(err, NotDir) {
		return false, nil
	}
	value, there := all[a.call.Name]
	return there && bytes.Equal(value, a.call.Value), err
}

func (a *attempts) putDone(ctx context.Context) (bool, error) {
	c := a.call
	e, err := a.look(ctx, c.Path)
	if err != nil || e.Type != File || e.Size != c.Source.Size() {
		return false, err
	}
	if c.Put.Cond.Version != "" && e.Version == c.Put.Cond.Version {
		return false, nil
	}
	same, err := a.sameBytes(ctx, e)
	if same {
		c.Entry = e
	}
	return same, err
}

// compared is how far the ranges of a Patch were found in a version of the file: a server
// that fails often need not be asked from the beginning again.
type compared struct {
	version string
	ranges  int
}

func (a *attempts) patchDone(ctx context.Context) (bool, error) {
	c := a.call
	e, err := a.look(ctx, c.Path)
	if err != nil || e.Type != File || e.Size != c.Patch.Size || e.Version == c.Put.Cond.Version {
		return false, err
	}
	caps := a.r.Caps()
	if want := c.Put.Attrs.MTime; want != nil && caps.StoresMTime && e.MTime.Sub(*want).Abs() > caps.TimeGranularity {
		return false, nil
	}
	if a.compared.version != e.Version {
		a.compared = compared{version: e.Version}
	}
	for _, r := range c.Patch.Ranges[a.compared.ranges:] {
		src := &awayBytes{c.Patch.Bytes, c}
		same, err := a.sameAsStored(ctx, e, io.NewSectionReader(src, r.Offset, r.Length), r)
		if !same || err != nil {
			return false, err
		}
		a.compared.ranges++
	}
	c.Entry = e
	return true, nil
}

// sameBytes compares the entry's content with the source.
func (a *attempts) sameBytes(ctx context.Context, e Entry) (bool, error) {
	src, err := a.call.Source.Open()
	if err != nil {
		a.call.noteSource(err)
		return false, a.call.Fail(Invalid, err)
	}
	defer src.Close()
	h := NewHash(e.Checksum.Algorithm)
	if h == nil || h.Size() < 16 { // none, or one that others' bytes may share
		return a.sameAsStored(ctx, e, src, ByteRange{0, e.Size})
	}
	return a.sameSum(h, e, src)
}

func (a *attempts) sameSum(h hash.Hash, e Entry, src io.Reader) (bool, error) {
	n, err := io.Copy(h, src)
	if err != nil {
		a.call.noteSource(err)
		return false, a.call.Fail(Invalid, err)
	}
	return n == e.Size && hex.EncodeToString(h.Sum(nil)) == e.Checksum.Hex, nil
}

// compareChunk is how much is read back at a time.
const compareChunk = 1 << 20

// sameAsStored reads a range of the entry's version back and compares it with src.
func (a *attempts) sameAsStored(ctx context.Context, e Entry, src io.Reader, r ByteRange) (bool, error) {
	chunk := min(compareChunk, r.Length)
	ours, theirs := make([]byte, chunk), make([]byte, chunk)
	ref := Ref{Path: e.Path, Version: e.Version, Size: e.Size}
	for off, end := r.Offset, r.Offset+r.Length; off < end; {
		n := min(chunk, end-off)
		if _, err := io.ReadFull(src, ours[:n]); err != nil {
			a.call.noteSource(err)
			return false, a.call.Fail(Invalid, err)
		}
		_, err := a.r.inner.ReadAt(ctx, ref, theirs[:n], off)
		switch {
		case errors.Is(err, Changed) || errors.Is(err, NotExist) || err == io.EOF:
			return false, nil // it is changing under our eyes
		case err != nil:
			return false, err
		case !bytes.Equal(ours[:n], theirs[:n]):
			return false, nil
		}
		off += n
	}
	return true, nil
}
