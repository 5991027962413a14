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

// pieceSize is in bytes. A request for more costs the server more per byte (measured on
// 5.0.2). An object of up to so much is fetched or stored whole.
const pieceSize = 4 << 20

// openFile is an object that is open for reading on a connection.
type openFile struct {
	object  string // path in the zone
	version string
	replica int // that was asked for, or anyReplica
	desc    int
	pos     int64
	bad     bool // pos is not where it stands
	used    time.Time
}

// mostFiles is how many objects stay open on a connection. The server allows about
// 1,000 (measured: 1,015).
const mostFiles = 16

// fileLife is how long an object that is not read stays open.
const fileLife = 10 * time.Second

// ReadAt implements remote.Backend. It takes one round trip for each 4 MiB, whether the
// object is open on the connection already or not (see errand). A whole small object is
// opened, read and closed; everything else is read from an object that stays open for the
// next read, with a question behind it that proves that the version still stands: the
// server lets others write what is being read. A whole object is proved by its checksum
// instead, if it has one. Several reads share connections (see sharing).
func (b *Backend) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (n int, err error) {
	const op = "read"
	if err := b.check(op, ref.Path); err != nil {
		return 0, absent(op, ref.Path, err)
	}
	if off < 0 {
		return 0, remote.E(op, ref.Path, remote.Invalid, errors.New("negative offset"))
	}
	r := &reading{b: b, ref: ref, path: b.full(ref.Path)}
	if ref.Version != "" && ref.Size >= 0 && off >= ref.Size && len(p) > 0 {
		if err := r.wantStanding(ctx); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, r.wantStanding(ctx)
	}
	if n, ok := b.shared.read(ctx, r, p, off); ok {
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	}
	for range 2 {
		if len(p) > largeRead*b.piece {
			n, err = r.readSpan(ctx, p, off)
		} else {
			n, err = r.readShort(ctx, p, off)
		}
		if !errors.Is(err, errReplica) {
			break
		}
	}
	switch {
	case err != nil:
		return 0, err
	case n < len(p):
		return n, io.EOF
	}
	return n, nil
}

// largeRead is from how many pieces on several lanes may read.
const largeRead = 2

// readSpan is readShort for what may be large.
func (r *reading) readSpan(ctx context.Context, p []byte, off int64) (int, error) {
	if r.ref.Version == "" || r.ref.Size < 0 {
		if err := r.wantStanding(ctx); err != nil {
			return 0, err
		}
	}
	p = p[:max(min(int64(len(p)), r.ref.Size-off), 0)]
	if len(p) <= largeRead*r.b.piece {
		return r.readShort(ctx, p, off)
	}
	if err := r.readLarge(ctx, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

// readShort reads on one connection. At the end of the object it returns less.
func (r *reading) readShort(ctx context.Context, p []byte, off int64) (n int, err error) {
	err = r.b.doWith(ctx, "read", r.ref.Path, false, r.path, func(s *session) error {
		n, err = r.readAt(ctx, s, p, off)
		if err == io.EOF {
			return nil
		}
		return err
	})
	return n, err
}

// reading is one read of one version.
type reading struct {
	b    *Backend
	ref  remote.Ref
	path string
}

// wantStanding is pin on a connection of its own.
func (r *reading) wantStanding(ctx context.Context) error {
	return r.b.do(ctx, "read", r.ref.Path, false, func(s *session) error { return r.pin(ctx, s) })
}

// pin finds out the version if the caller did not say which, and makes sure that it
// stands and can be read.
func (r *reading) pin(ctx context.Context, s *session) error {
	c := r.b.question(r.path)
	if err := begin(ctx, s, c); err != nil {
		return err
	}
	return r.judge(ctx, s, c)
}

// question asks for an object's replicas.
func (b *Backend) question(path string) *cursor {
	dir, name := splitFull(path)
	return b.askObjects(false).equal(wire.ColCollName, dir).equal(wire.ColDataName, name)
}

// judge compares the answer to question with the version that is read.
func (r *reading) judge(ctx context.Context, s *session, c *cursor) error {
	o, err := readAlike(ctx, s, c)
	if err != nil {
		return err
	}
	if o == nil {
		return r.missing(ctx, s)
	}
	return r.weigh(o)
}

// weigh compares what there is with the version that is read.
func (r *reading) weigh(o *object) error {
	replica, state := o.best()
	switch version := o.version(); {
	case state == writing && (r.ref.Version == "" || r.ref.Version == version || r.replaces(o)):
		return r.fail(remote.Locked, errors.New("somebody is writing it"))
	case r.ref.Version != "" && !o.is(r.ref.Version):
		return r.fail(remote.Changed, fmt.Errorf("the version is now %s", version))
	case state == torn:
		return r.fail(remote.Corrupt, errTorn)
	case r.ref.Version == "" || r.ref.Size < 0:
		r.ref.Version, r.ref.Size = version, replica.size
	}
	r.b.choices.note(o)
	return nil
}

// errTorn explains a sole stale replica.
var errTorn = errors.New("whoever wrote it last died on the way: the bytes may be a mixture of old and new; write it again or remove it")

// replaces tells whether the object that is being written was the wanted version: its
// writer may still leave it as it was.
func (r *reading) replaces(o *object) bool {
	return len(o.version()) > len("writing.") && o.version()[len("writing."):] == r.ref.Version
}

func (r *reading) fail(kind remote.Kind, cause error) error {
	return &remote.Error{Op: "read", Path: r.ref.Path, Kind: kind, Err: cause}
}

// missing tells why there is no object.
func (r *reading) missing(ctx context.Context, s *session) error {
	f, err := r.b.lookAt(ctx, s, r.path)
	switch {
	case err != nil:
		return err
	case f.coll != nil:
		return r.fail(remote.IsDir, nil)
	}
	return r.fail(remote.NotExist, nil)
}

// readAt reads on a connection.
func (r *reading) readAt(ctx context.Context, s *session, p []byte, off int64) (int, error) {
	if r.ref.Version == "" || r.ref.Size < 0 {
		if err := r.pin(ctx, s); err != nil {
			return 0, err
		}
	}
	if off >= r.ref.Size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.ref.Size-off)]
	whole := off == 0 && int64(len(p)) == r.ref.Size
	if whole && len(p) <= r.b.piece && !s.has(r.path) {
		return r.readWhole(ctx, s, p)
	}
	for n := 0; n < len(p); {
		part := p[n:min(n+r.b.piece, len(p))]
		if err := r.readPart(ctx, s, part, off+int64(n), n+len(part) == len(p)); err != nil {
			return 0, err
		}
		n += len(part)
	}
	return len(p), nil
}

// readWhole fetches a whole object. Its checksum proves the version, or else a question
// does.
func (r *reading) readWhole(ctx context.Context, s *session, p []byte) (int, error) {
	x := r.errand()
	if err := x.run(ctx, s); err != nil {
		if code(err) != 0 {
			err = r.explain(ctx, s, err)
		}
		return 0, err
	}
	bytes, ok := x.bytes()
	if x.proof != nil {
		if err := r.outcome(ctx, s, x); err != nil {
			return 0, err
		}
		return copy(p, bytes), nil
	}
	if same, _ := sameBytes(bytes, versionChecksum(r.ref.Version)); same && ok {
		return copy(p, bytes), nil
	}
	if err := r.pin(ctx, s); err != nil {
		return 0, err // it has changed
	}
	if r.b.choices.number(r.ref.Version) != x.replica {
		return 0, r.fail(remote.Unavailable, errReplica)
	}
	return 0, r.fail(remote.Corrupt, errChecksum)
}

// outcome judges what was read together with a question for the version.
func (r *reading) outcome(ctx context.Context, s *session, x *errand) error {
	if err := r.judge(ctx, s, x.proof); err != nil {
		return err
	}
	if r.b.choices.number(r.ref.Version) != x.replica {
		return r.fail(remote.Unavailable, errReplica)
	}
	if _, ok := x.bytes(); !ok {
		return r.fail(remote.Corrupt, fmt.Errorf("%d bytes came in place of %d", x.got, r.ref.Size))
	}
	return nil
}

func openCall(path string, replica int) *wire.Call {
	in := choose(&wire.DataObjInp{Path: path, OpenFlags: wire.OpenReadOnly, NumThreads: wire.NoThreading}, replica)
	return &wire.Call{API: wire.APIDataObjOpen, In: in}
}

func seekCall(desc int, off int64) *wire.Call {
	return &wire.Call{API: wire.APIDataObjLseek, In: &wire.OpenedDataObjInp{Desc: desc, Offset: off}, Out: &wire.FileLseekOut{}}
}

func readCall(desc int, p []byte) *wire.Call {
	return &wire.Call{API: wire.APIDataObjRead, In: &wire.OpenedDataObjInp{Desc: desc, Len: len(p)}, Into: p}
}

func closeCall(desc int) *wire.Call {
	return &wire.Call{API: wire.APIDataObjClose, In: &wire.OpenedDataObjInp{Desc: desc}}
}

// explain tells why an object could not be opened. The server has one code for an
// object that somebody writes and for one without a usable replica.
func (r *reading) explain(ctx context.Context, s *session, err error) error {
	if code(err) == 0 {
		return err // the connection is lost
	}
	if pinErr := r.pin(ctx, s); pinErr != nil {
		return pinErr
	}
	switch code(err) {
	case wire.CodeObjectNotExist:
		return r.fail(remote.Permission, err) // the catalog shows it
	case wire.CodeHierarchy:
		return r.fail(remote.Unavailable, err) // nobody writes: the storage is
	}
	return err
}

// file returns the open object, nil if it is not open or not as it is wanted.
func (r *reading) file(s *session) *openFile {
	i := slices.IndexFunc(s.files, func(f *openFile) bool { return f.object == r.path })
	if i < 0 {
		return nil
	}
	f := s.files[i]
	s.files = append(slices.Delete(s.files, i, i+1), f)
	if f.version == r.ref.Version && f.replica == r.b.choices.number(r.ref.Version) {
		return f
	}
	s.forget(f)
	return nil
}

// readPart fills p from off, and opens the object if need be, in one round trip. The last
// part asks for the proof of all.
func (r *reading) readPart(ctx context.Context, s *session, p []byte, off int64, last bool) error {
	f := r.file(s)
	var calls []*wire.Call
	opens := f == nil
	if opens {
		s.trim()
		calls = s.closings()
		f = r.opening(s)
		calls = append(calls, openCall(r.path, f.replica))
		if !r.b.guesses() {
			return r.readApart(ctx, s, f, calls, p, off, last)
		}
	}
	first := len(calls)
	if f.pos != off {
		calls = append(calls, seekCall(f.desc, off))
	}
	calls = append(calls, readCall(f.desc, p))
	var proof *cursor
	if last {
		proof = r.b.question(r.path)
		calls = append(calls, proof.page())
	}
	results, err := s.conn.Pipeline(ctx, calls)
	if err != nil {
		return err
	}
	if opens {
		desc, err := results[first-1].Status, results[first-1].Err
		if err != nil {
			return r.explain(ctx, s, err)
		}
		s.files = append(s.files, f)
		if desc != f.desc {
			f.desc = desc
			r.b.misguessed(r.path)
			return r.readPart(ctx, s, p, off, last)
		}
	}
	if err := r.took(ctx, s, f, results[first:], p, proof); err != nil {
		s.forget(f)
		return err
	}
	f.pos, f.used = off+int64(len(p)), time.Now()
	return nil
}

// readApart is readPart where the number of the descriptor has to be waited for.
func (r *reading) readApart(ctx context.Context, s *session, f *openFile, calls []*wire.Call, p []byte, off int64, last bool) error {
	results, err := s.conn.Pipeline(ctx, calls)
	if err != nil {
		return err
	}
	opened := results[len(results)-1]
	if opened.Err != nil {
		return r.explain(ctx, s, opened.Err)
	}
	f.desc, f.used = opened.Status, time.Now()
	s.files = append(s.files, f)
	return r.readPart(ctx, s, p, off, last)
}

// took looks at the answers to the calls that read a part.
func (r *reading) took(ctx context.Context, s *session, f *openFile, results []wire.Result, p []byte, proof *cursor) error {
	read := results[:len(results)-1]
	if proof == nil {
		read = results
	} else {
		if err := proof.took(results[len(read)].Err); err != nil {
			return err
		}
		if err := r.judge(ctx, s, proof); err != nil {
			return err
		}
		if r.b.choices.number(r.ref.Version) != f.replica {
			return r.fail(remote.Unavailable, errReplica)
		}
	}
	for _, result := range read {
		if result.Err != nil {
			return result.Err
		}
	}
	if got := read[len(read)-1].N; got != len(p) {
		if proof == nil {
			if err := r.pin(ctx, s); err != nil {
				return err // it has changed
			}
		}
		return r.fail(remote.Corrupt, fmt.Errorf("%d bytes came in place of %d", got, len(p)))
	}
	return nil
}
