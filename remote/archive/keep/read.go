package keep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive"
)

// member returns the member that shows at a path where the server has nothing, nil if there
// is none. Errors: those of the directory.
func (k *Backend) member(ctx context.Context, path string) (*member, error) {
	dir, name := remote.Split(path)
	if name == "" {
		return nil, nil
	}
	v, err := k.look(ctx, dir)
	if err != nil {
		return nil, err
	}
	if c := v.find(name); c != nil {
		return c[0], nil
	}
	return nil, nil
}

// Stat implements remote.Backend.
func (k *Backend) Stat(ctx context.Context, path string) (remote.Entry, error) {
	if err := k.visible(ctx, "stat", path); err != nil {
		return remote.Entry{}, err
	}
	e, err := k.inner.Stat(ctx, path)
	if !missing(err) {
		return e, err
	}
	was := k.knew(path)
	m, lookErr := k.member(ctx, path)
	switch {
	case isKind(lookErr, remote.NotExist, remote.NotDir):
		return e, err
	case lookErr != nil:
		return e, lookErr
	case m != nil:
		return m.entry(path), nil
	case was || k.knew(path): // it may have become a plain file between the two looks
		return k.inner.Stat(ctx, path)
	}
	return e, err
}

// knew tells whether there was a member of that name.
func (k *Backend) knew(path string) bool {
	dir, name := remote.Split(path)
	v := k.remembered(dir)
	return v != nil && (len(v.names[name]) > 0 || v.find(name) != nil)
}

// List implements remote.Backend. Members come after the plain files. Of the names it keeps
// hashes.
func (k *Backend) List(ctx context.Context, dir string, yield func(remote.Entry) error) error {
	if err := remote.CheckPath("list", dir); err != nil {
		return err
	}
	version, err := k.proof(ctx, dir)
	if err != nil && !isKind(err, remote.NotExist, remote.NotDir) {
		return err
	}
	told := newMarks()
	v, err := k.list(ctx, dir, version, func(e remote.Entry) error {
		if !told.first(e) {
			return nil
		}
		return yield(e)
	})
	if missing(err) {
		return k.explain(ctx, "list", dir, remote.NotDir, err)
	}
	if err != nil {
		return err
	}
	all := v.shown() // before it hears of what has died meanwhile and is not listed where it is now
	k.remember(v)
	for _, s := range all {
		if _, already := told.of(s.name); already {
			continue // it was a plain file when this listing began
		}
		if err := yield(s.claim[0].entry(remote.Join(dir, s.name))); err != nil {
			return err
		}
		if err := remote.ContextErr(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ReadAt implements remote.Backend. What is read of a member as a whole is checked by its
// digest.
func (k *Backend) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	if err := k.visible(ctx, "read", ref.Path); err != nil {
		return 0, err
	}
	if archive.IsVersion(ref.Version) {
		return k.readMember(ctx, ref, p, off)
	}
	n, err := k.inner.ReadAt(ctx, ref, p, off)
	if !missing(err) {
		return n, err
	}
	if ref.Version != "" {
		return 0, k.explain(ctx, "read", ref.Path, remote.Changed, err)
	}
	m, lookErr := k.member(ctx, ref.Path)
	switch {
	case isKind(lookErr, remote.NotExist, remote.NotDir):
		return 0, err
	case lookErr != nil:
		return 0, lookErr
	case m == nil: // it may have become a plain file between the two looks
		return k.inner.ReadAt(ctx, ref, p, off)
	}
	return k.readMember(ctx, remote.Ref{Path: ref.Path, Version: m.Version(), Size: m.Size}, p, off)
}

// readMember reads a version of a member, wherever it is by now.
func (k *Backend) readMember(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fail("read", ref.Path, remote.Invalid)
	}
	var last error
	for range moves {
		m, err := k.version(ctx, ref)
		if isKind(err, remote.Changed) {
			return k.readPlain(ctx, ref, p, off, err)
		}
		if err != nil {
			return 0, err
		}
		n, err := k.readPart(ctx, ref.Path, m, p, off)
		if !isKind(err, remote.NotExist, remote.Changed) {
			return n, err
		}
		dir, _ := remote.Split(ref.Path)
		k.forget(dir)
		last = err
	}
	return 0, &remote.Error{Op: "read", Path: ref.Path, Kind: remote.Unavailable, Err: last}
}

// readPlain reads a member's version from the plain file that has taken its place, if that
// holds the same bytes: it was unpacked, or got attributes that a member cannot have.
func (k *Backend) readPlain(ctx context.Context, ref remote.Ref, p []byte, off int64, changed error) (int, error) {
	e, is, err := k.plainAt(ctx, ref.Path)
	if err != nil || !is || e.Type != remote.File || e.Size > maxMember {
		return 0, firstOf(err, changed)
	}
	all := make([]byte, e.Size)
	n, err := k.inner.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, all, 0)
	switch {
	case isKind(err, remote.NotExist, remote.Changed), n < len(all) && (err == nil || err == io.EOF):
		return 0, changed
	case err != nil && err != io.EOF:
		return 0, err
	case digest(all) != archive.Digest(ref.Version):
		return 0, changed
	case off >= e.Size && len(p) > 0:
		return 0, io.EOF
	}
	if n = copy(p, all[min(off, e.Size):]); n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// version finds the member of that version. What was seen before need not be seen again:
// its bytes are those of the version.
func (k *Backend) version(ctx context.Context, ref remote.Ref) (*member, error) {
	dir, name := remote.Split(ref.Path)
	if v := k.remembered(dir); v != nil {
		if c := v.find(name); c != nil && c[0].Version() == ref.Version {
			return c[0], nil
		}
	}
	v, err := k.look(ctx, dir)
	if err != nil {
		return nil, err
	}
	if c := v.find(name); c != nil && c[0].Version() == ref.Version {
		return c[0], nil
	} else if c != nil {
		return nil, fail("read", ref.Path, remote.Changed)
	}
	if _, err := k.inner.Stat(ctx, ref.Path); err != nil {
		return nil, err
	}
	return nil, fail("read", ref.Path, remote.Changed)
}

// readPart reads bytes of a member where it is now.
func (k *Backend) readPart(ctx context.Context, path string, m *member, p []byte, off int64) (int, error) {
	if off >= m.Size || len(p) == 0 {
		if err := remote.ContextErr(ctx); err != nil || len(p) == 0 {
			return 0, err
		}
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), m.Size-off)]
	for try := 0; ; try++ {
		if whole := int64(len(want)) == m.Size; try > 0 || !whole || !k.fromWindow(ctx, &m.in.entry, want, m.Offset) {
			if n, err := k.readInner(ctx, m, want, off); err != nil {
				return n, err
			}
		}
		if int64(len(want)) != m.Size || digest(want) == m.Sum.SHA256 {
			break
		}
		if try > 0 {
			return 0, &remote.Error{Op: "read", Path: path, Kind: remote.Corrupt, Err: errors.New("the bytes in the archive are not those that were stored")}
		}
	}
	if len(want) < len(p) {
		return len(want), io.EOF
	}
	return len(want), nil
}

// readInner fills p with bytes of a member.
func (k *Backend) readInner(ctx context.Context, m *member, p []byte, off int64) (int, error) {
	e := &m.in.entry
	n, err := k.inner.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, m.Offset+off)
	if n == len(p) && (err == nil || err == io.EOF) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = fail("read", e.Path, remote.Changed) // it is shorter than it was
	}
	return n, err
}

func digest(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:])
}

// content returns all bytes of a member.
func (k *Backend) content(ctx context.Context, path string, m *member) ([]byte, error) {
	p := make([]byte, m.Size)
	n, err := k.readMember(ctx, remote.Ref{Path: path, Version: m.Version(), Size: m.Size}, p, 0)
	if err == io.EOF {
		err = nil
	}
	if err == nil && n < len(p) {
		err = fail("read", path, remote.Corrupt)
	}
	return p, err
}

// Open implements remote.Opener.
func (k *Backend) Open(ctx context.Context, ref remote.Ref) (io.ReadCloser, error) {
	o, ok := remote.As[remote.Opener](k.inner)
	if !ok {
		return nil, fail("open", ref.Path, remote.Unsupported)
	}
	if err := k.visible(ctx, "open", ref.Path); err != nil {
		return nil, err
	}
	var given error
	if !archive.IsVersion(ref.Version) {
		r, err := o.Open(ctx, ref)
		if !missing(err) {
			return r, err
		}
		if ref.Version != "" {
			return nil, k.explain(ctx, "open", ref.Path, remote.Changed, err)
		}
		given = err
	}
	ref, err := k.toOpen(ctx, ref, given)
	if err != nil {
		return nil, err
	}
	return &stream{ctx: ctx, k: k, ref: ref}, nil
}

// toOpen finds what to stream: given is the server's error, nil if it was not asked.
func (k *Backend) toOpen(ctx context.Context, ref remote.Ref, given error) (remote.Ref, error) {
	var m *member
	var err error
	if given == nil {
		m, err = k.version(ctx, ref)
	} else if m, err = k.member(ctx, ref.Path); isKind(err, remote.NotExist, remote.NotDir) || err == nil && m == nil {
		return ref, given
	}
	switch {
	case err == nil:
		return remote.Ref{Path: ref.Path, Version: m.Version(), Size: m.Size}, nil
	case given != nil || !isKind(err, remote.Changed):
		return ref, err
	}
	e, _, lookErr := k.plainAt(ctx, ref.Path)
	if _, err = k.readPlain(ctx, ref, nil, 0, err); err != nil {
		return ref, err
	}
	return remote.Ref{Path: ref.Path, Version: ref.Version, Size: e.Size}, lookErr
}

// streamPiece is how much of a member is asked for at a time.
const streamPiece = 1 << 20

// stream reads a member from its beginning on. It is for one goroutine.
type stream struct {
	ctx    context.Context
	k      *Backend
	ref    remote.Ref
	at     int64 // of what is asked for next
	rest   []byte
	closed bool
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if s.closed {
		return 0, fail("read", s.ref.Path, remote.BadHandle)
	}
	if err := remote.ContextErr(s.ctx); err != nil {
		return 0, err
	}
	if len(s.rest) == 0 && s.at < s.ref.Size {
		buf := make([]byte, min(streamPiece, s.ref.Size-s.at))
		n, err := s.k.readMember(s.ctx, s.ref, buf, s.at)
		if err != nil && err != io.EOF {
			return 0, err
		}
		s.rest, s.at = buf[:n], s.at+int64(n)
	}
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (s *stream) Close() error {
	s.closed, s.rest = true, nil
	return nil
}
