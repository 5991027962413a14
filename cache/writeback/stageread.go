package writeback

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/meshmount/meshmount/remote"
)

// ReadStaged reads bytes that are in the file, or returns the first that are missing
// there. Fewer bytes than asked come only at the end.
func (st *Stage) ReadStaged(p []byte, off int64) (n int, missing *Extent, err error) {
	f, err := st.opened()
	if err != nil {
		return 0, nil, err
	}
	defer st.mu.RUnlock()
	if off >= st.size {
		return 0, nil, nil
	}
	p = p[:min(int64(len(p)), st.size-off)]
	m := st.have.missing(off, min(off+int64(len(p)), st.limit))
	if len(m) > 0 && st.held == nil {
		return 0, &m[0], nil
	}
	n, err = f.ReadAt(p, st.at()+off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil && n == len(p) {
		st.overlay(p, off, m)
	}
	return n, nil, err
}

// ReadAt reads the content: what is here from here, the rest of the base version from
// the server. The error is io.EOF at the end, or the server's.
func (st *Stage) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		n, m, err := st.readSome(ctx, p[done:], at)
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 && m == nil {
			return done, io.EOF
		}
	}
	return done, nil
}

// readSome reads the bytes at off up to where their place changes. The extent is that of
// bytes which came from the server.
func (st *Stage) readSome(ctx context.Context, p []byte, off int64) (int, *Extent, error) {
	n, m, err := st.ReadStaged(p, off)
	if err != nil || m == nil {
		return n, nil, err
	}
	if m.Off > off {
		n, _, err := st.ReadStaged(p[:m.Off-off], off)
		return n, m, err
	}
	p = p[:min(int64(len(p)), m.End-off)]
	st.mu.RLock()
	ref := st.base
	st.mu.RUnlock()
	n, err = st.below.ReadAt(ctx, ref, p, off)
	if n == len(p) {
		err = nil
	}
	if err != nil {
		st.AwaitSent(ctx)
	}
	if st.rebased(ref) {
		return 0, m, nil // of a version that is no more: once again
	}
	if errors.Is(err, io.EOF) {
		err = &remote.Error{Op: "read", Path: ref.Path, Kind: remote.Changed, Err: errors.New("the file became shorter on the server")}
	}
	if err != nil {
		return 0, m, err
	}
	return n, m, nil
}

// Source returns the content as something to put. All of its bytes must be here.
func (st *Stage) Source() remote.Source { return whole{st, st.Size()} }

// whole is the content of a Stage whose writers are kept off by others.
type whole struct {
	st   *Stage
	size int64
}

func (w whole) Size() int64 { return w.size }

func (w whole) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(staged{w.st}, 0, w.size)), nil
}

// staged reads the bytes of the file as they are.
type staged struct{ st *Stage }

func (s staged) ReadAt(p []byte, off int64) (int, error) {
	f, err := s.st.opened()
	if err != nil {
		return 0, err
	}
	defer s.st.mu.RUnlock()
	return s.st.readFile(f, p, off)
}

// readFile reads bytes of the content from its file. Guarded by mu.
func (st *Stage) readFile(f *os.File, p []byte, off int64) (int, error) {
	if st.slot == nil {
		return f.ReadAt(p, off)
	}
	some := p[:min(int64(len(p)), max(st.size-off, 0))] // what follows is another content
	n, err := f.ReadAt(some, st.slot.off+off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}
