package fs

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/meshmount/meshmount/remote"
)

const stagePattern = "stage-*"

// stageDir makes and removes staging files.
type stageDir struct{ dir string }

// newStageDir removes what a mount that died left behind: content whose close or
// fsync had not returned.
func newStageDir(dir string) (*stageDir, error) {
	old, err := filepath.Glob(filepath.Join(dir, stagePattern))
	if err != nil {
		return nil, err
	}
	for _, p := range old {
		if err := os.Remove(p); err != nil {
			return nil, fmt.Errorf("old staging file: %w", err)
		}
	}
	return &stageDir{dir}, nil
}

// create makes a file without a name, for what nobody has to find again.
func (d *stageDir) create() (*os.File, error) {
	f, err := os.CreateTemp(d.dir, stagePattern)
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func (d *stageDir) close() error { return nil }

// stage is the local content of one file: sparse over its base version. Its methods
// are called under file.content.
type stage struct {
	f    *os.File
	have extents // bytes that are here; the others up to base come from the server
	base int64   // bytes of the base version that still count
}

func (d *stageDir) newStage(size, base int64) (*stage, error) {
	f, err := os.CreateTemp(d.dir, stagePattern)
	if err != nil {
		return nil, err
	}
	s := &stage{f: f, base: base}
	if err := f.Truncate(size); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// close removes the staging file.
func (s *stage) close() {
	_ = os.Remove(s.f.Name())
	_ = s.f.Close()
}

// missing returns what of [off, end) has to come from the base version.
func (s *stage) missing(off, end int64) []extent { return s.have.missing(off, min(end, s.base)) }

// write puts the program's bytes and returns how many.
func (s *stage) write(p []byte, off int64) (int, error) {
	n, err := s.f.WriteAt(p, off)
	s.have.add(off, off+int64(n))
	return n, err
}

// fill puts bytes of the base version where nothing was written meanwhile.
func (s *stage) fill(p []byte, off int64) error {
	for _, m := range s.missing(off, off+int64(len(p))) {
		if _, err := s.f.WriteAt(p[m.off-off:m.end-off], m.off); err != nil {
			return err
		}
		s.have.add(m.off, m.end)
	}
	return nil
}

// truncate sets the size.
func (s *stage) truncate(size int64) error {
	if err := s.f.Truncate(size); err != nil {
		return err
	}
	s.base = min(s.base, size)
	s.have.cut(size)
	return nil
}

// stageSource is a whole staging file as content to put.
type stageSource struct {
	f    *os.File
	size int64
}

var _ remote.Source = stageSource{}

func (s stageSource) Size() int64 { return s.size }

func (s stageSource) Open() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(s.f, 0, s.size)), nil
}
