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
	used    time.Time
}

// mostFiles is how many objects stay open on a connection. The server allows about
// 1,000 (measured: 1,015).
const mostFiles = 16

// fileLife is how long an object that is not read stays open.
const fileLife = 10 * time.Second

// ReadAt implements remote.Backend. A whole small object that is not open yet comes in
// one call, or in three where the server is near. Everything else is read from an open
// object, with a question behind it that proves that the version still stands: the
// server lets others write what is being read. A whole object is proved by its checksum
// instead, if it has one.
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
	case err != nil && r.cut && ctx.Err() == nil:
		// An object that has grown does not fit and breaks the connection.
		if changed := r.wantStanding(ctx); remote.KindOf(changed) == remote.Changed {
			return 0, changed
		}
		return 0, err
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
	cut  bool // a connection broke while the whole was on the way
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
	replica, state := o.best()
	switch version := o.version(); {
	case state == writing && (r.ref.Version == "" || r.ref.Version == version || r.replaces(o)):
		return r.fail(remote.Locked, errors.New("somebody is writing it"))
	case r.ref.Version != "" && version != r.ref.Version:
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
		if n, err := r.readWhole(ctx, s, p); err != errNotProved {
			return n, err
		}
	}
	f, err := r.open(ctx, s)
	if err != nil {
		return 0, err
	}
	for n := 0; n < len(p); {
		part := p[n:min(n+r.b.piece, len(p))]
		if err := r.readPart(ctx, s, f, part, off+int64(n), n+len(part) == len(p)); err != nil {
			s.forget(ctx, f)
			return 0, err
		}
		n += len(part)
	}
	return len(p), nil
}

// errNotProved tells that bytes were read but nothing proves their version.
var errNotProved = errors.New("nothing proves the version")

// readWhole fetches a whole object. Its checksum proves the version.
func (r *reading) readWhole(ctx context.Context, s *session, p []byte) (int, error) {
	want := versionChecksum(r.ref.Version)
	if want.Hex == "" || remote.NewHash(want.Algorithm) == nil {
		return 0, errNotProved
	}
	room := make([]byte, len(p)+1) // for an object that has grown
	get := r.getThrice
	if r.b.pace.far(oneCallRead) {
		get = r.getOnce
	}
	replica := r.b.choices.number(r.ref.Version)
	got, err := get(ctx, s, replica, room)
	if code(err) != 0 {
		return 0, r.explain(ctx, s, err)
	}
	if err != nil {
		return 0, err
	}
	if same, _ := sameBytes(room[:got], want); same && got == len(p) {
		return copy(p, room), nil
	}
	if err := r.pin(ctx, s); err != nil {
		return 0, err // it has changed
	}
	if r.b.choices.number(r.ref.Version) != replica {
		return 0, r.fail(remote.Unavailable, errReplica)
	}
	return 0, r.fail(remote.Corrupt, errChecksum)
}

// getOnce fetches an object in one call.
func (r *reading) getOnce(ctx context.Context, s *session, replica int, p []byte) (int, error) {
	in := choose(&wire.DataObjInp{Path: r.path, DataSize: int64(len(p)), NumThreads: wire.NoThreading, OprType: wire.OprGet}, replica)
	reply, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjGet, In: in, Out: &wire.PortalOprOut{}, Into: p})
	r.cut = err != nil && code(err) == 0
	return reply.N, err
}

// getThrice opens, reads and closes an object.
func (r *reading) getThrice(ctx context.Context, s *session, replica int, p []byte) (int, error) {
	desc, err := openObject(ctx, s, r.path, replica)
	if err != nil {
		return 0, err
	}
	reply, readErr := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjRead, In: &wire.OpenedDataObjInp{Desc: desc, Len: len(p)}, Into: p})
	if _, err := s.conn.Call(ctx, closeCall(desc)); readErr == nil && err != nil {
		return 0, err
	}
	return reply.N, readErr
}

func openObject(ctx context.Context, s *session, path string, replica int) (int, error) {
	in := choose(&wire.DataObjInp{Path: path, OpenFlags: wire.OpenReadOnly, NumThreads: wire.NoThreading}, replica)
	reply, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjOpen, In: in})
	return reply.Status, err
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

// open returns the open object, opening it if need be.
func (r *reading) open(ctx context.Context, s *session) (*openFile, error) {
	replica := r.b.choices.number(r.ref.Version)
	if i := slices.IndexFunc(s.files, func(f *openFile) bool { return f.object == r.path }); i >= 0 {
		f := s.files[i]
		s.files = append(slices.Delete(s.files, i, i+1), f)
		if f.version == r.ref.Version && f.replica == replica {
			f.used = time.Now()
			return f, nil
		}
		s.forget(ctx, f)
	}
	s.trim(ctx)
	desc, err := openObject(ctx, s, r.path, replica)
	if err != nil {
		return nil, r.explain(ctx, s, err)
	}
	f := &openFile{object: r.path, version: r.ref.Version, replica: replica, desc: desc, used: time.Now()}
	s.files = append(s.files, f)
	return f, nil
}

// readPart fills p from off. The last part asks for the proof of all.
func (r *reading) readPart(ctx context.Context, s *session, f *openFile, p []byte, off int64, last bool) error {
	var calls []*wire.Call
	if f.pos != off {
		calls = append(calls, &wire.Call{API: wire.APIDataObjLseek, In: &wire.OpenedDataObjInp{Desc: f.desc, Offset: off}, Out: &wire.FileLseekOut{}})
	}
	calls = append(calls, &wire.Call{API: wire.APIDataObjRead, In: &wire.OpenedDataObjInp{Desc: f.desc, Len: len(p)}, Into: p})
	proof := r.b.question(r.path)
	if last {
		calls = append(calls, proof.page())
	}
	results, err := s.conn.Pipeline(ctx, calls)
	if err != nil {
		return err
	}
	read := len(results) - 1
	if last {
		read--
		if err := proof.took(results[read+1].Err); err != nil {
			return err
		}
		if err := r.judge(ctx, s, proof); err != nil {
			return err
		}
		if r.b.choices.number(r.ref.Version) != f.replica {
			return r.fail(remote.Unavailable, errReplica)
		}
	}
	for _, result := range results[:read+1] {
		if result.Err != nil {
			return result.Err
		}
	}
	if got := results[read].N; got != len(p) {
		if !last {
			if err := r.pin(ctx, s); err != nil {
				return err // it has changed
			}
		}
		return r.fail(remote.Corrupt, fmt.Errorf("%d bytes came in place of %d", got, len(p)))
	}
	f.pos, f.used = off+int64(len(p)), time.Now()
	return nil
}

// forget closes an open object.
func (s *session) forget(ctx context.Context, f *openFile) {
	s.files = slices.DeleteFunc(s.files, func(o *openFile) bool { return o == f })
	if s.conn.Broken() {
		return
	}
	if _, err := s.conn.Call(ctx, closeCall(f.desc)); err != nil && code(err) == 0 {
		_ = s.conn.Close() // it is broken; the pool drops it
	}
}

// trim closes what has not been read for long, and the oldest if there are too many.
func (s *session) trim(ctx context.Context) {
	for len(s.files) > 0 && (len(s.files) >= mostFiles || time.Since(s.files[0].used) > fileLife) {
		s.forget(ctx, s.files[0])
	}
}
