package remotetest

import (
	"bytes"
	"errors"
	"io"

	"github.com/meshmount/meshmount/remote"
)

// Bytes returns a Source over data, which must not change meanwhile. Its readers can seek.
func Bytes(data []byte) remote.Source { return byteSource(data) }

type byteSource []byte

func (s byteSource) Size() int64                  { return int64(len(s)) }
func (s byteSource) Open() (io.ReadCloser, error) { return byteReader{bytes.NewReader(s)}, nil }

type byteReader struct{ *bytes.Reader }

// Close implements io.Closer.
func (byteReader) Close() error { return nil }

// ErrSource is the failure of a Source made by FailingSource.
var ErrSource = errors.New("remotetest: the source fails")

// FailingSource returns a Source that promises size bytes, gives the first good of
// them (zeros) and then fails with ErrSource.
func FailingSource(size, good int64) remote.Source {
	return &partSource{size, good, ErrSource}
}

// ShortSource returns a Source that promises size bytes and ends after the first
// good of them (zeros).
func ShortSource(size, good int64) remote.Source {
	return &partSource{size, good, io.EOF}
}

type partSource struct {
	size, good int64
	end        error
}

func (s *partSource) Size() int64 { return s.size }

func (s *partSource) Open() (io.ReadCloser, error) {
	return io.NopCloser(&cutReader{io.LimitReader(zeros{}, s.good), s.good, s.end}), nil
}

// cutReader gives the first left bytes of r and then the error end.
type cutReader struct {
	r    io.Reader
	left int64
	end  error
}

// Read implements io.Reader.
func (r *cutReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.end
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Pattern returns n bytes that differ from place to place and from seed to seed.
func Pattern(n int, seed byte) []byte {
	p := make([]byte, n)
	x := uint32(seed)*2654435761 + 1
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x)
	}
	return p
}
