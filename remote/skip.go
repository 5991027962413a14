package remote

import (
	"errors"
	"io"
)

// Skip passes over the next n bytes of a Source's reader, for an adapter that resumes: by
// Seek if the reader can, which costs nothing and counts as nothing sent, otherwise by
// reading them. An end before that is io.ErrUnexpectedEOF, but only if it was read.
func Skip(r io.Reader, n int64) error {
	if n <= 0 {
		return nil
	}
	_, err := seek(r, n, io.SeekCurrent)
	if errors.Is(err, errors.ErrUnsupported) {
		_, err = io.CopyN(io.Discard, r, n)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// seek is Seek of what may be an io.Seeker: errors.ErrUnsupported if it is not.
func seek(r io.Reader, offset int64, whence int) (int64, error) {
	s, ok := r.(io.Seeker)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	return s.Seek(offset, whence)
}
