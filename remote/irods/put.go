package irods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// An object is overwritten in place, so that it keeps its identifier, permissions and
// AVUs. What that is worth when somebody dies:
//
//   - Up to pieceSize the bytes go in one call, which the server carries out only when
//     it has all of it: the death of this process or of the network leaves the old
//     content or the new.
//   - More than that is written piece by piece. The replica is locked meanwhile, and
//     stale if the writer dies: readers of this package take that for torn, never for
//     content. A new object that dies is removed again, if there is somebody to do it.
//     A new one is there for all before its checksum is; see seal.
//
// Cond.Version is compared with the catalog before anything else, which leaves a gap
// until the bytes are there. A large object that does not become shorter is written
// without that gap: it is opened for writing without cutting it, which locks it, then it
// is compared, and given back as it was if somebody has come first. (The server itself
// reads the catalog before it locks; a writer who begins and ends in those milliseconds
// goes unnoticed.) One that becomes shorter is cut when it is opened, and small ones
// take one call.
//
// An object that this process has torn may be written again although its version is not
// the one that the caller knows; see tears. So may one that an earlier process has torn,
// if the caller says so; see redo.

// upload is one Put, PutGrowing or Patch.
type upload struct {
	b     *Backend
	op    string
	rel   string
	path  string
	src   remote.Source // nil for a patch, and as long as content grows
	grow  *growingCargo // content that is still growing
	patch *remote.Patch
	opts  remote.PutOptions

	data  []byte // the whole content, if it is small
	small bool
	text  string // the checksum of data, in the server's form
	plain bool   // the server does not compare it
	begun time.Time
	old   *object         // what is overwritten
	sum   remote.Checksum // of the bytes as they were sent
	state uploadState
	made  bool        // the server said that it has made an object for us
	alone bool        // nothing was there when we looked, or can have been
	known *descriptor // of the object that is written, if the server was asked
	open  bool        // the server has opened the object for us

	unsealed bool  // it is closed without a checksum
	closed   found // what was there then
}

// uploadState is how far an upload has come.
type uploadState int

const (
	untouched uploadState = iota // nothing was altered
	making                       // an object is being made, or has been
	altering                     // an old one is being altered
	stored                       // the bytes are there
)

// Put implements remote.Backend.
func (b *Backend) Put(ctx context.Context, path string, src remote.Source, opts remote.PutOptions) (e remote.Entry, err error) {
	const op = "put"
	if err := b.check(op, path); err != nil {
		return e, err
	}
	if path == "/" {
		return e, &remote.Error{Op: op, Path: path, Kind: remote.IsDir}
	}
	return b.putSource(ctx, op, path, src, opts, false)
}

// putSource stores a source at a path of the branch, which may be a hidden one. bare tells
// that nothing can be there: the caller has just made the collection for this.
func (b *Backend) putSource(ctx context.Context, op, path string, src remote.Source, opts remote.PutOptions, bare bool) (remote.Entry, error) {
	for {
		u := b.upload(op, path, opts)
		u.src, u.alone = src, bare
		e, err := u.run(ctx)
		if code(err) != wire.CodeHashType || u.plain {
			return e, err
		}
		b.plain.Store(true)
	}
}

// upload returns a change of what lies at path. A time that need not be kept takes a call
// of its own, which costs the server 15 ms (measured on 5.0.2), and is dropped.
func (b *Backend) upload(op, path string, opts remote.PutOptions) *upload {
	if opts.Loose {
		opts.Attrs.MTime = nil
	}
	return &upload{b: b, op: op, rel: path, path: b.full(path), opts: opts, begun: time.Now(), plain: b.plain.Load()}
}

func (u *upload) run(ctx context.Context) (e remote.Entry, err error) {
	if err := u.prepare(); err != nil {
		return e, remote.E(u.op, u.rel, remote.Other, err)
	}
	if !u.small {
		u.b.warm(u.size())
	}
	return u.change(ctx, u.store)
}

// change looks at what is there, has it changed by a function, which returns what is
// there then, and cleans up after that.
func (u *upload) change(ctx context.Context, by func(context.Context, *session, found) (found, error)) (e remote.Entry, err error) {
	e, err = u.attempt(ctx, by)
	if err == nil && u.unsealed {
		e, err = u.seal(ctx)
	}
	if err != nil {
		return remote.Entry{}, u.cleanUp(ctx, err)
	}
	u.b.tears.mend(u.path)
	return e, nil
}

// attempt is change without the cleaning up.
func (u *upload) attempt(ctx context.Context, by func(context.Context, *session, found) (found, error)) (e remote.Entry, err error) {
	err = u.b.do(ctx, u.op, u.rel, true, func(s *session) error {
		f, err := u.target(ctx, s)
		if err == nil {
			f, err = by(ctx, s, f)
		}
		if err == nil {
			u.closed = f
			e, err = u.b.entry(u.op, u.rel, f)
		}
		return err
	})
	return e, err
}

// prepare reads a small source, so that one that fails alters nothing.
func (u *upload) prepare() error {
	if u.grow != nil {
		return nil
	}
	size := u.src.Size()
	u.small = size <= int64(u.b.piece)
	if !u.small {
		return nil
	}
	r, err := u.src.Open()
	if err != nil {
		return err
	}
	u.data = make([]byte, size)
	_, err = io.ReadFull(r, u.data)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the source ends before %d bytes: %w", size, io.ErrUnexpectedEOF)
	}
	u.text = checksumOf(u.data)
	u.sum = parseChecksum(u.text)
	return err
}

// expected returns the checksum that the server is to find, "" if it is not to compare.
func (u *upload) expected() string {
	if u.plain {
		return ""
	}
	return u.text
}

// far tells whether a new object goes in one call.
func (u *upload) far() bool { return u.small && u.b.pace.far(oneCallWrite) }

// target looks at what is there, unless the server does or nothing can be, and checks the
// conditions. A
// call that puts a whole object is refused if there is one; but the exclusive flag of
// an open is a matter of the storage, which may be one that does not know it.
func (u *upload) target(ctx context.Context, s *session) (found, error) {
	cond := u.opts.Cond
	if cond.NotExist && !u.opts.Redo && !u.b.tears.has(u.path) && (u.far() || u.alone) {
		return found{}, nil
	}
	f, err := u.b.lookAt(ctx, s, u.path)
	if err != nil {
		return f, unchanged(ctx, u.op, u.rel, err)
	}
	u.alone = f.object == nil
	refuse := func(kind remote.Kind) (found, error) {
		return f, &remote.Error{Op: u.op, Path: u.rel, Kind: kind}
	}
	switch {
	case f.coll != nil && cond.NotExist:
		return refuse(remote.Exist)
	case f.coll != nil:
		return refuse(remote.IsDir)
	case f.object == nil && cond.Version != "":
		return refuse(remote.Conflict)
	case f.object == nil || u.b.tears.ours(u.path, f.object, cond) || u.redo(f.object):
		return f, nil
	case u.undecided(f.object):
		return refuse(remote.Locked)
	case cond.NotExist:
		return refuse(remote.Exist)
	case cond.Version != "" && (!f.object.is(cond.Version) || f.object.marks.target != ""):
		return refuse(remote.Conflict)
	}
	return f, nil
}

// undecided tells whether the object is being written and may turn out to be what the
// conditions ask for: the writer may leave it as it was, or be one of our own, which has
// failed and whose end the server has not noticed.
func (u *upload) undecided(o *object) bool {
	_, state := o.best()
	return state == writing && (u.opts.Redo || u.b.tears.has(u.path) || o.version() == "writing."+u.opts.Cond.Version)
}

// store writes the bytes and sets the attributes.
func (u *upload) store(ctx context.Context, s *session, f found) (found, error) {
	u.old = f.object
	var last []*wire.Call
	var err error
	switch {
	case u.old != nil && u.old.marks.target != "":
		// A link gives way to a file.
		if err := u.b.discard(ctx, s, u.path); err != nil {
			return f, err
		}
		u.old = nil
		fallthrough
	case u.old == nil && !u.far():
		last, err = u.create(ctx, s)
	case u.small:
		last = u.whole()
	default:
		last, err = u.overwrite(ctx, s)
	}
	if err != nil {
		return f, err
	}
	f, err = u.finish(ctx, s, last)
	if err != nil && u.state != stored && last[0].API != wire.APIDataObjPut {
		_ = s.conn.Close() // the object may still be open on it
	}
	return f, err
}

// size is what the object is to have in the end, 0 if that is not known. The server takes
// one that has another size when it is closed for torn, unless it was told 0 (by its
// source).
func (u *upload) size() int64 {
	switch {
	case u.patch != nil:
		return u.patch.Size
	case u.src == nil:
		return 0
	}
	return u.src.Size()
}

// mode returns the permission bits for a new object.
func (u *upload) mode() int {
	if u.opts.Attrs.Mode != nil {
		return int(*u.opts.Attrs.Mode & 0o7777)
	}
	return 0o644
}

// whole stores a small object in one call. It is also the only way to overwrite one with
// nothing: after an open and a close without a byte written, the server takes the other
// replicas, with the old bytes, for as good as before (by its source).
func (u *upload) whole() []*wire.Call {
	call := u.b.putCall(u.path, u.data, u.expected(), u.mode())
	u.state = making
	if u.old != nil {
		u.state = altering
		in := call.In.(*wire.DataObjInp)
		in.Cond.Set(wire.KwForce, "")
		u.keepResource(in)
	}
	return []*wire.Call{call}
}

// keepResource takes the resource for new objects out: one that exists is overwritten
// where it is, and the server refuses a resource without a replica of it.
func (u *upload) keepResource(in *wire.DataObjInp) {
	for i, pair := range in.Cond {
		if pair.Key == wire.KwDestRescName {
			in.Cond = append(in.Cond[:i], in.Cond[i+1:]...)
			return
		}
	}
}

// create makes a new object and returns the calls that complete it.
func (u *upload) create(ctx context.Context, s *session) ([]*wire.Call, error) {
	in := u.b.createInput(u.path, u.size(), u.mode())
	expect(in, u.expected())
	if u.unsealed = !u.small; u.unsealed {
		withoutSum(in)
	}
	u.state = making
	reply, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjOpen, In: in})
	if err != nil {
		return nil, u.refused(ctx, s, err)
	}
	u.made, u.open = true, true
	return u.write(ctx, s, reply.Status)
}

// overwrite opens an object for large content and returns the calls that complete it.
func (u *upload) overwrite(ctx context.Context, s *session) ([]*wire.Call, error) {
	in := u.b.createInput(u.path, u.src.Size(), u.mode())
	in.OpenFlags = wire.OpenWriteOnly | wire.OpenTruncate
	guarded := u.guarded()
	if guarded { // it may have to be given back with the size that it has
		in.OpenFlags, in.DataSize = wire.OpenWriteOnly, 0
	}
	u.keepResource(in)
	u.state = altering
	reply, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjOpen, In: in})
	if err != nil {
		return nil, u.refused(ctx, s, err)
	}
	u.open = true
	if guarded {
		if err := u.compare(ctx, s, reply.Status); err != nil {
			return nil, err
		}
	}
	return u.write(ctx, s, reply.Status)
}

// guarded tells whether the version can be compared while the object is locked.
func (u *upload) guarded() bool {
	old, state := u.old.best()
	return !u.small && u.opts.Cond.Version != "" && state == whole && u.src.Size() >= old.size
}

// compare makes sure that the object that is open for writing is the one that was looked
// at. If not, it closes it: without a byte written the server leaves everything as it
// was, but for the checksum, which it computes anew. (If it had been told another size at
// the opening, it would take the object for torn.)
func (u *upload) compare(ctx context.Context, s *session, desc int) error {
	same, err := u.stands(ctx, s, desc)
	if same || s.conn.Broken() {
		return err
	}
	if _, closeErr := s.conn.Call(ctx, closeCall(desc)); closeErr != nil {
		_ = s.conn.Close() // the server takes it for torn
		return closeErr
	}
	u.state, u.open = untouched, false
	if err == nil {
		err = &remote.Error{Op: u.op, Path: u.rel, Kind: remote.Conflict, Err: errors.New("somebody else has written it just now")}
	}
	return err
}

// stands compares the object that is open with the one that was looked at. It asks
// for the token of the other lanes in the same round trip.
func (u *upload) stands(ctx context.Context, s *session, desc int) (bool, error) {
	c := u.b.question(u.path)
	calls := []*wire.Call{c.page()}
	if s.tells() {
		calls = append(calls, describeCall(desc))
	}
	results, err := s.conn.Pipeline(ctx, calls)
	if err == nil {
		err = c.took(results[0].Err)
	}
	if err != nil {
		return false, err
	}
	if len(calls) > 1 && results[1].Err == nil {
		u.known = readDescriptor(calls[1])
	}
	o, err := readAlike(ctx, s, c)
	return err == nil && o != nil && u.old.alike(o), err
}

// alike tells whether all replicas have the same bytes by what the catalog says of them,
// whether or not somebody has begun to write, or the server has only now got to the checksum.
func (o *object) alike(other *object) bool {
	o.best() // brings them into the order of their numbers
	other.best()
	return o.id == other.id && slices.EqualFunc(o.replicas, other.replicas, func(a, b replica) bool {
		a.status = b.status
		if a.checksum == "" {
			a.checksum = b.checksum
		}
		return a == b
	})
}

// write writes the bytes to an open object and returns the calls that close it.
func (u *upload) write(ctx context.Context, s *session, desc int) ([]*wire.Call, error) {
	closing := closeCall(desc)
	switch {
	case u.grow != nil:
		if err := u.send(ctx, s, desc, u.grow); err != nil {
			return nil, err
		}
		u.opts.Attrs = u.grow.grow.Attrs()
		if u.opts.Loose {
			u.opts.Attrs.MTime = nil
		}
	case !u.small:
		if err := u.send(ctx, s, desc, wholeCargo{u}); err != nil {
			return nil, err
		}
	case len(u.data) > 0:
		return []*wire.Call{writeCall(desc, u.data), closing}, nil
	}
	return []*wire.Call{closing}, nil
}

func writeCall(desc int, data []byte) *wire.Call {
	return &wire.Call{API: wire.APIDataObjWrite, In: &wire.OpenedDataObjInp{Desc: desc, Len: len(data)}, Data: data}
}

// pieces calls f for one piece of the source after the other.
func (u *upload) pieces(f func([]byte) error) error {
	buf := make([]byte, u.b.piece)
	return u.eachPiece(func() []byte { return buf }, f)
}

// eachPiece is pieces with room from the caller for each piece.
func (u *upload) eachPiece(room func() []byte, f func([]byte) error) (err error) {
	r, err := u.src.Open()
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := r.Close(); err == nil {
			err = closeErr
		}
	}()
	for left := u.src.Size(); left > 0; {
		piece := room()[:min(left, int64(u.b.piece))]
		if _, err := io.ReadFull(r, piece); err != nil {
			return fmt.Errorf("the source ends or fails %d bytes before its end: %w", left, err)
		}
		if err := f(piece); err != nil {
			return err
		}
		left -= int64(len(piece))
	}
	return nil
}
