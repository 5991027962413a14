package irods

import (
	"context"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// Open implements remote.Opener. Pieces are read ahead, one for each lane and one more.
// The last byte comes only after the version has been proved: by the checksum of all
// bytes, or by a question after each piece.
func (b *Backend) Open(ctx context.Context, ref remote.Ref) (io.ReadCloser, error) {
	const op = "open"
	if err := b.check(op, ref.Path); err != nil {
		return nil, absent(op, ref.Path, err)
	}
	r := &reading{b: b, ref: ref, path: b.full(ref.Path)}
	if ref.Version == "" || ref.Size < 0 || ref.Size == 0 {
		if err := r.wantStanding(ctx); err != nil {
			return nil, err
		}
	}
	if r.ref.Size <= int64(b.piece) {
		return &stream{path: ref.Path, pieces: &single{ctx: ctx, r: r}}, nil
	}
	return &stream{path: ref.Path, pieces: r.readAhead(ctx)}, nil
}

// pieces is where a stream comes from. A piece is nil at the end, and good until the
// next one is asked for.
type pieces interface {
	piece() ([]byte, error)
	close()
}

// stream reads an object. It is for one goroutine.
type stream struct {
	path   string
	pieces pieces
	buf    []byte // what is left of the last piece
	err    error
	closed bool
}

// Read implements io.Reader.
func (t *stream) Read(p []byte) (int, error) {
	if t.closed {
		return 0, &remote.Error{Op: "open", Path: t.path, Kind: remote.BadHandle, Err: errors.New("the stream is closed")}
	}
	if len(p) == 0 {
		return 0, nil
	}
	if len(t.buf) == 0 && t.err == nil {
		t.buf, t.err = t.pieces.piece()
		if t.err == nil && len(t.buf) == 0 {
			t.err = io.EOF
		}
	}
	if len(t.buf) == 0 {
		return 0, t.err
	}
	n := copy(p, t.buf)
	t.buf = t.buf[n:]
	return n, nil
}

// Close implements io.Closer. It ends the reading ahead and waits for its end.
func (t *stream) Close() error {
	if !t.closed {
		t.closed = true
		t.pieces.close()
	}
	return nil
}

// single is an object of one piece.
type single struct {
	ctx  context.Context
	r    *reading
	done bool
}

func (o *single) piece() ([]byte, error) {
	if o.done || o.r.ref.Size == 0 {
		return nil, nil
	}
	o.done = true
	p := make([]byte, o.r.ref.Size)
	_, err := o.r.b.ReadAt(o.ctx, o.r.ref, p, 0)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (o *single) close() {}

// ahead is an object that is read ahead.
type ahead struct {
	f     *fetch
	want  remote.Checksum
	sum   hash.Hash // of what was handed out; nil: the pieces are proved already
	off   int64     // of the next piece
	given bool      // the last piece is still in use
	watch func() bool
}

// readAhead begins to read the whole object.
func (r *reading) readAhead(ctx context.Context) *ahead {
	a := &ahead{want: versionChecksum(r.ref.Version)}
	how := proofEach
	if a.sum = remote.NewHash(a.want.Algorithm); a.sum != nil {
		how = proofSum
	}
	f := r.newFetch(ctx, how, nil, 0, r.ref.Size)
	a.f = f
	f.crew.hire = func() { f.launch(f.help) }
	a.watch = context.AfterFunc(f.ctx, f.wake)
	f.launch(f.lead)
	return a
}

// launch runs a lane in a goroutine that ends with the branch at the latest.
func (f *fetch) launch(lane func()) {
	closed := func() {
		f.fail(&remote.Error{Op: "read", Path: f.r.ref.Path, Kind: remote.BadHandle, Err: errClosed})
	}
	f.tasks.Add(1)
	started := f.r.b.pool.launch(func(life context.Context) {
		defer f.tasks.Done()
		stop := context.AfterFunc(life, closed)
		defer stop()
		lane()
	})
	if !started {
		closed()
		f.tasks.Done()
	}
}

func (a *ahead) piece() ([]byte, error) {
	if a.given {
		a.f.release()
		a.given = false
	}
	p, err := a.f.next()
	if err != nil || p == nil {
		return nil, err
	}
	a.given = true
	a.off += int64(len(p))
	if a.sum == nil {
		return p, nil
	}
	a.sum.Write(p)
	if a.off == a.f.end && hex.EncodeToString(a.sum.Sum(nil)) != a.want.Hex {
		if err := a.f.r.wantStanding(a.f.ctx); err != nil {
			return nil, err
		}
		return nil, a.f.r.fail(remote.Corrupt, errChecksum)
	}
	return p, nil
}

func (a *ahead) close() {
	a.f.stop()
	a.f.tasks.Wait()
	a.watch()
	a.f.crew.disband()
}
