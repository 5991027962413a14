package writeback

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// maxSpares is how many staging files that nobody needs any more are kept, empty, to be used
// again.
const maxSpares = 4096

// spares are empty files in a directory of staging files. File systems are slow at making files
// where many were removed a moment ago: ext4 does not give an inode out again for minutes, and
// passes over all of these each time that it makes one (measured: 0.5 ms where 3,000 were
// removed). So staging files are not removed, but get another name, and a new one when they are
// needed. The zero value keeps none.
type spares struct {
	most int

	mu    sync.Mutex
	names []string // guarded by mu; with the directory
	tag   uint64   // guarded by mu; names of two mounts differ in it
	made  uint64   // guarded by mu
}

// keep makes a spare one of a staging file, false if it is to be removed. It gets its other name
// before it is cut: no name of which the journal knows, also after a power failure, ever stands
// for other bytes.
func (s *spares) keep(name string) bool {
	dir, base := filepath.Split(name)
	spare := filepath.Join(dir, tempPrefix+base)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.names) >= s.most || os.Rename(name, spare) != nil {
		return false
	}
	if os.Truncate(spare, 0) != nil {
		_ = os.Remove(spare) // what stays is removed at the next start
		return true
	}
	s.names = append(s.names, spare)
	return true
}

// take opens a spare file under a new name; nil if there is none.
func (s *spares) take() *os.File {
	s.mu.Lock()
	n := len(s.names)
	if n == 0 {
		s.mu.Unlock()
		return nil
	}
	spare := s.names[n-1]
	s.names = s.names[:n-1]
	if s.made == 0 {
		s.tag = rand.Uint64()
	}
	s.made++
	base := stagePrefix + strconv.FormatUint(s.tag, 36) + "-" + strconv.FormatUint(s.made, 10)
	s.mu.Unlock()
	name := filepath.Join(filepath.Dir(spare), base)
	if os.Rename(spare, name) != nil {
		return nil
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		_ = os.Remove(name)
		return nil
	}
	return f
}

// clear removes all and keeps none from now on.
func (s *spares) clear() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, name := range s.names {
		errs = append(errs, os.Remove(name))
	}
	s.names, s.most = nil, 0
	return errors.Join(errs...)
}
