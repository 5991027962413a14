package irods

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// patching is one Patch. The object is opened for writing without cutting it, which locks
// it, and compared with what was looked at. The ranges are written by lanes, as a large
// object is, and the last close makes the replica good. If the object had a checksum, the
// server computes a new one then; in any case it drops the old one.
//
// An object that is to become shorter cannot be cut while it is open, and cannot be closed
// before, because it would be good then with its old end. So the connection is dropped:
// the server makes the replica stale, and good when it is cut to its new size, which is
// one call. Between the two anybody may write it, as between a look and a small overwrite.
//
// Everything is written where it belongs in the end and what lies between is not touched,
// so that after a tear the whole can be done again. What the object held before it was
// torn the catalog does not tell (see redo); a Patch demands, besides, that no byte of the
// old size is missing on the storage. Bytes beyond it are from the earlier attempt, and
// give way to zeros.
type patching struct {
	*upload
	p       remote.Patch
	replica int   // that is written, anyReplica if the server may choose
	base    int64 // size of the version that is patched
	stored  int64 // bytes on the storage; more than base after a tear
	torn    bool
	cut     bool // the object is to be cut to its size
}

// Patch implements remote.Patcher. A server before 4.3.2 cannot make an object shorter:
// Unsupported.
func (b *Backend) Patch(ctx context.Context, path string, p remote.Patch, opts remote.PutOptions) (e remote.Entry, err error) {
	const op = "patch"
	if err := b.check(op, path); err != nil {
		return e, err
	}
	switch {
	case path == "/":
		return e, &remote.Error{Op: op, Path: path, Kind: remote.IsDir}
	case opts.Cond.Version == "" || !wellFormed(p):
		return e, &remote.Error{Op: op, Path: path, Kind: remote.Invalid}
	case versionID(opts.Cond.Version) == 0: // of no whole object
		return e, &remote.Error{Op: op, Path: path, Kind: remote.Conflict}
	case p.Size == 0:
		return b.Put(ctx, path, &grown{bytes.NewReader(nil), 0}, opts)
	}
	t := &patching{upload: b.upload(op, path, opts), p: p}
	t.patch = &p
	e, err = t.attempt(ctx, t.write)
	if err == nil && t.cut {
		e, err = t.shorten(ctx)
	}
	if err != nil {
		return remote.Entry{}, t.cleanUp(ctx, err)
	}
	b.tears.mend(t.path)
	return e, nil
}

// wellFormed tells whether the ranges are as remote.Patch wants them.
func wellFormed(p remote.Patch) bool {
	end := int64(-1)
	for _, r := range p.Ranges {
		if r.Offset <= end || r.Length <= 0 || r.Length > p.Size-r.Offset {
			return false
		}
		end = r.Offset + r.Length
	}
	return p.Size >= 0
}

// write writes the ranges to what was found, and returns what is there then, unless the
// object is yet to be cut.
func (t *patching) write(ctx context.Context, s *session, f found) (found, error) {
	t.old = f.object
	t.choose()
	if t.cut = t.stored > t.p.Size; t.cut && !s.cuts() {
		return f, errNoCut(t.upload)
	}
	if !t.torn && len(t.segments()) == 0 {
		if t.cut {
			return f, nil // at once
		}
		return t.attributes(ctx, s, f)
	}
	desc, err := t.begin(ctx, s)
	if err != nil {
		return f, err
	}
	if segments := t.segments(); len(segments) > 0 {
		if err := t.send(ctx, s, desc, &patchCargo{t.upload, segments, t.p.Bytes}); err != nil {
			return f, err
		}
	} else {
		t.cut = true // which makes it good
	}
	if t.cut {
		_ = s.conn.Close()
		return f, nil
	}
	f, err = t.finish(ctx, s, []*wire.Call{closeCall(desc)})
	if err != nil && t.state != stored {
		_ = s.conn.Close()
	}
	return f, err
}

// choose finds out what is patched: the good replica, or the one that was torn last.
func (t *patching) choose() {
	r, state := t.old.best()
	t.torn = state != whole
	if t.torn {
		r = slices.MaxFunc(t.old.replicas, func(a, b replica) int { return cmp.Compare(a.mtime, b.mtime) })
	}
	t.replica = anyReplica
	if len(t.old.replicas) > 1 {
		t.replica = r.number
	}
	t.base, t.stored = r.size, r.size
}

// begin opens the object and makes sure that it is what was looked at.
func (t *patching) begin(ctx context.Context, s *session) (desc int, err error) {
	in := choose(t.b.createInput(t.path, 0, t.mode()), t.replica)
	in.OpenFlags = wire.OpenWriteOnly
	t.keepResource(in)
	if versionChecksum(t.opts.Cond.Version).Hex == "" {
		withoutSum(in)
	}
	t.state = altering
	reply, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjOpen, In: in})
	if err != nil {
		return 0, t.refused(ctx, s, err)
	}
	t.open = true
	if err := t.compare(ctx, s, reply.Status); err != nil {
		return 0, err
	}
	if t.torn {
		err = t.measure(ctx, s, reply.Status)
	}
	return reply.Status, err
}

// measure finds out what a torn object has on the storage.
func (t *patching) measure(ctx context.Context, s *session, desc int) error {
	end := &wire.FileLseekOut{}
	calls := []*wire.Call{{API: wire.APIDataObjLseek, Out: end, In: &wire.OpenedDataObjInp{Desc: desc, Whence: io.SeekEnd}}, seekCall(desc, 0)}
	results, err := s.conn.Pipeline(ctx, calls)
	if refused := refusal(results, calls); refused != nil {
		err = t.unclosed(refused)
	}
	if err == nil {
		t.base, t.stored = versionSize(t.opts.Cond.Version), end.Offset
		t.cut = t.stored > t.p.Size
		switch {
		case t.base < 0 || t.stored < min(t.base, t.p.Size):
			err = &remote.Error{Op: t.op, Path: t.rel, Kind: remote.Conflict,
				Err: fmt.Errorf("of the %d bytes before it was torn there are %d", t.base, t.stored)}
		case t.cut && !s.cuts():
			err = errNoCut(t.upload)
		}
	}
	if err != nil {
		_ = s.conn.Close() // it was torn, and is so again
	}
	return err
}

// cuts tells whether the server has the call that cuts one replica and makes it good.
func (s *session) cuts() bool {
	v := s.conn.Server()
	return !v.Before(4, 3, 2)
}

func errNoCut(u *upload) error {
	return &remote.Error{Op: u.op, Path: u.rel, Kind: remote.Unsupported, Err: errors.New("the server cannot cut a replica")}
}

// segments returns what is to be written, by offset: the ranges, zeros over what an earlier
// attempt has left behind the old end, and a zero at the new end if nothing else is there.
func (t *patching) segments() (list []segment) {
	at := t.base // from here on, what no range covers is zeros
	dirty := min(t.stored, t.p.Size)
	gap := func(end int64) {
		if end = min(end, dirty); at < end {
			list = append(list, segment{at, end - at, true})
		}
	}
	last := t.stored
	for _, r := range t.p.Ranges {
		gap(r.Offset)
		list = append(list, segment{r.Offset, r.Length, false})
		at, last = max(at, r.Offset+r.Length), max(last, r.Offset+r.Length)
	}
	gap(dirty)
	if last < t.p.Size {
		list = append(list, segment{t.p.Size - 1, 1, true})
	}
	return list
}

// noticeTime is how long the server may take to notice that a writer is gone.
const noticeTime = 10 * time.Second

// shorten cuts the object to its size, which makes it good.
func (t *patching) shorten(ctx context.Context) (e remote.Entry, err error) {
	waiting, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	f, err := t.remains(waiting)
	switch {
	case ctx.Err() == nil && waiting.Err() != nil:
		return e, &remote.Error{Op: t.op, Path: t.rel, Kind: remote.Locked, Err: errors.New("the server does not notice that it was left")}
	case err != nil:
		return e, err
	case !t.left(f):
		return e, &remote.Error{Op: t.op, Path: t.rel, Kind: remote.Conflict, Err: errors.New("somebody else has written it just now")}
	}
	err = t.b.do(ctx, t.op, t.rel, true, func(s *session) error {
		t.state = altering
		calls := t.cutCalls(f.object)
		results, err := s.conn.Pipeline(ctx, calls)
		if refused := refusal(results, calls[:len(results)]); refused != nil {
			return t.refused(ctx, s, refused)
		}
		if err != nil {
			return err
		}
		var last []*wire.Call
		if versionChecksum(t.opts.Cond.Version).Hex != "" {
			last = append(last, t.sumCall())
		}
		t.state = stored
		f, err := t.finish(ctx, s, last)
		if err == nil {
			e, err = t.b.entry(t.op, t.rel, f)
		}
		return err
	})
	return e, err
}

// left tells whether the object is as this patch has left it: if it was opened, its replica
// is torn, and the object is so as well unless it has another good one.
func (t *patching) left(f found) bool {
	if f.object == nil || f.object.id != t.old.id {
		return false
	}
	_, state := f.object.best()
	return state == torn && t.open || state == whole && f.object.version() == t.opts.Cond.Version
}

// cutCalls cut the object. The server does nothing if the catalog has the size already,
// which it may have of a replica that has grown since: then that grows by a byte first.
func (t *patching) cutCalls(o *object) (calls []*wire.Call) {
	sizes := []int64{t.p.Size}
	for _, r := range o.replicas {
		if (t.replica == anyReplica || t.replica == r.number) && r.size == t.p.Size {
			sizes = []int64{t.p.Size + 1, t.p.Size}
		}
	}
	for _, size := range sizes {
		in := &wire.DataObjInp{Path: t.path, DataSize: size}
		if t.replica != anyReplica {
			in.Cond.Set(wire.KwReplNum, strconv.Itoa(t.replica))
		}
		calls = append(calls, &wire.Call{API: wire.APIReplicaTruncate, In: in, Out: &wire.STR{}})
	}
	return calls
}

// sumCall has the server compute the checksum of the good replica.
func (t *patching) sumCall() *wire.Call {
	return &wire.Call{API: wire.APIDataObjChksum, In: &wire.DataObjInp{Path: t.path}, Out: &wire.STR{}}
}
