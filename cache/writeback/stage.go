package writeback

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

// Stages is a directory of staging files. Its methods are safe for concurrent use.
type Stages struct {
	dir    string
	space  *space       // nil: no bound
	held   atomic.Int64 // bytes of base versions in memory
	spares spares
	slots  slots
}

const (
	stagePrefix = "stage-"
	tempPrefix  = "temp-"
)

// OpenStages returns the staging files of a directory, which must exist and be private,
// for use without a journal: what a dead process has left there is removed.
func OpenStages(dir string) (*Stages, error) {
	s := &Stages{dir: dir}
	_, err := s.sweep(func(string) bool { return false })
	return s, err
}

// sweep removes all files for which keep is false, and returns the names of the others.
func (s *Stages) sweep(keep func(name string) bool) (map[string]bool, error) {
	d, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	list, err := d.ReadDir(-1)
	if err := errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	kept := make(map[string]bool, len(list))
	for _, e := range list {
		name := e.Name()
		staged, _ := filepath.Match(stagePrefix+"*", name)
		shared, _ := filepath.Match(segmentPrefix+"*", name)
		temp, _ := filepath.Match(tempPrefix+"*", name)
		if temp || (staged || shared) && !keep(name) {
			if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
				return nil, fmt.Errorf("old staging file: %w", err)
			}
			continue
		}
		kept[name] = true
	}
	return kept, nil
}

// Temp makes a file without a name, for what nobody has to find again.
func (s *Stages) Temp() (*os.File, error) {
	f, err := os.CreateTemp(s.dir, tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// sync brings the names of the staging files to stable storage.
func (s *Stages) sync() error {
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// New makes a staging file of that size over base, the version below it: its zero value
// is a file of which nothing counts. Bytes of base that were not written come from below,
// which may be nil if there are none. The caller has one reference.
func (s *Stages) New(below remote.Backend, size int64, base remote.Entry) (*Stage, error) {
	st := &Stage{home: s, below: below, refs: 1}
	if base.Type != remote.File {
		st.slot = s.slots.take(size)
	}
	if st.slot == nil {
		f, err := s.create()
		if err != nil {
			return nil, err
		}
		st.file, st.own = f, filepath.Base(f.Name())
	}
	st.base = remote.Ref{Path: base.Path, Version: base.Version, Size: base.Size}
	if base.Type == remote.File {
		st.limit = min(base.Size, size)
	}
	if size == 0 {
		return st, nil
	}
	if err := st.Truncate(size); err != nil {
		st.Release()
		return nil, err
	}
	return st, nil
}

// create makes an empty staging file.
func (s *Stages) create() (*os.File, error) {
	if f := s.spares.take(); f != nil {
		return f, nil
	}
	return os.CreateTemp(s.dir, stagePrefix+"*")
}

// adopt makes the Stage of a staging file that is there already, with one reference. Only
// bytes within size count: a record of a cut tells of those before it.
func (s *Stages) adopt(below remote.Backend, name string, size, limit int64, have []Extent, base remote.Ref) *Stage {
	st := &Stage{home: s, below: below, refs: 1, size: size, limit: min(limit, size), base: base, have: extents{have}}
	if file, off, shared := fileOf(name); shared {
		st.slot = s.slots.adopt(file, off, size)
	} else {
		st.own = name
	}
	st.have.cut(size)
	s.space.force(st.have.bytes())
	return st
}

// Stage is the content of one file on this node: sparse over a version on the server. It
// has no path: it stays what it is when its file is renamed or removed. Its methods are
// safe for concurrent use; errors of the disk are those of package os.
type Stage struct {
	home *Stages

	mu      sync.RWMutex // exclusive for changes of the bytes, shared for reads of them
	own     string       // guarded by mu; the name of the file, "" while it has no own one
	slot    *slot        // guarded by mu; where the content lies with others; beyond size there are zeros
	left    []*slot      // guarded by mu; where it lay before: the journal may still say so
	file    *os.File     // guarded by mu; nil while it is closed
	edits   uint64       // guarded by mu; how often bytes, size or place were changed
	have    extents      // guarded by mu; bytes that are here; the others up to limit come from base
	limit   int64        // guarded by mu; bytes of base that still count
	size    int64        // guarded by mu
	base    remote.Ref   // guarded by mu
	below   remote.Backend
	pins    []*pin        // guarded by mu
	grow    *growth       // guarded by mu; nil if nobody follows the content
	loose   bool          // guarded by mu; size and file have to be compared when it is opened
	sending chan struct{} // guarded by mu; closed at the end of the upload under way, nil without one
	early   *growing      // guarded by mu; what follows it, until the commit
	held    *held         // guarded by mu; the base version in memory, nil if it is not
	front   int64         // guarded by mu; [0, front) was written in order and not changed since
	run     ordered       // guarded by mu

	refMu   sync.Mutex
	refs    int                         // guarded by refMu
	holders int                         // guarded by refMu; changes in the journal that need the file
	onCut   func(size int64)            // guarded by refMu; nil while no change needs the file
	onMove  func(move func() bool) bool // guarded by refMu; nil while no change needs the file
	users   []*change                   // guarded by Store.mu; those changes
}

// Place returns the file that holds the content, with its directory, and where in it that
// begins, in bytes.
func (st *Stage) Place() (file string, off int64) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if st.slot != nil {
		return filepath.Join(st.home.dir, st.slot.in.name), st.slot.off
	}
	return filepath.Join(st.home.dir, st.own), 0
}

// name is what the journal calls the place of the content. Guarded by mu.
func (st *Stage) name() string {
	if st.slot != nil {
		return st.slot.name()
	}
	return st.own
}

// at returns where in the file the content begins. Guarded by mu.
func (st *Stage) at() int64 {
	if st.slot != nil {
		return st.slot.off
	}
	return 0
}

// Size returns the size in bytes.
func (st *Stage) Size() int64 {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.size
}

// open returns the file. Guarded by mu, exclusive.
func (st *Stage) open() (*os.File, error) {
	if st.file == nil && st.slot != nil {
		f, err := st.slot.open()
		if err != nil {
			return nil, err
		}
		st.file, st.loose = f, false
	}
	if st.file == nil {
		f, err := os.OpenFile(filepath.Join(st.home.dir, st.own), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		if st.loose {
			if err := st.fit(f); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			st.loose = false
		}
		st.file = f
	}
	return st.file, nil
}

// opened returns the file for reading, with mu held shared.
func (st *Stage) opened() (*os.File, error) {
	for {
		st.mu.RLock()
		if st.file != nil {
			return st.file, nil
		}
		st.mu.RUnlock()
		st.mu.Lock()
		_, err := st.open()
		st.mu.Unlock()
		if err != nil {
			return nil, err
		}
	}
}

// WriteAt writes p; the file grows if needed. If there is no room for staged bytes it
// waits for uploads to make some; NoSpace if they do not. After an error, the first n
// bytes of p may be written.
func (st *Stage) WriteAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := off + int64(n)
		moved, want := st.home.space.watch(), st.missingHere(at, off+int64(len(p)))
		if err := st.home.space.take(want); err != nil {
			return n, err
		}
		m, err := st.writeTaken(p[n:], at, want)
		if n += m; err != nil && (kindOfDisk(err) != remote.NoSpace || !st.home.space.refused(moved)) {
			return n, err
		}
	}
	return len(p), nil
}

// writeTaken writes what the disk takes. Room was taken for want bytes.
func (st *Stage) writeTaken(p []byte, off, want int64) (int, error) {
	if err := st.makeRoom(off + int64(len(p))); err != nil {
		st.home.space.give(want)
		return 0, err
	}
	st.lockFor(off)
	defer st.mu.Unlock()
	f, err := st.open()
	if err != nil {
		st.home.space.give(want)
		return 0, err
	}
	st.edits++
	n, err := f.WriteAt(p, st.at()+off)
	st.home.space.give(want - st.have.add(off, off+int64(n)))
	if n > 0 {
		st.size = max(st.size, off+int64(n))
		st.wrote(p[:n], off)
	}
	return n, err
}

// missingHere returns how many bytes of the range are not in the file yet.
func (st *Stage) missingHere(off, end int64) (n int64) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	for _, m := range st.have.missing(off, end) {
		n += m.End - m.Off
	}
	return n
}

// wrote moves the front. Guarded by mu.
func (st *Stage) wrote(p []byte, off int64) {
	st.run.wrote(p, off)
	switch {
	case off < st.front:
		st.front = off // what was there has changed
		st.spoil()
	case off == st.front:
		st.front = off + int64(len(p))
		st.advance()
	}
}

// Truncate sets the size. What it cuts off is gone from the last commit as well; the
// journal knows that before the file does.
func (st *Stage) Truncate(size int64) error {
	st.refMu.Lock()
	tell := st.onCut
	st.refMu.Unlock()
	if tell != nil && size < st.Size() {
		tell(size)
	}
	return st.truncate(size)
}

func (st *Stage) truncate(size int64) error {
	if err := st.makeRoom(size); err != nil {
		return err
	}
	st.lockFor(size)
	defer st.mu.Unlock()
	f, err := st.open()
	if err != nil {
		return err
	}
	st.edits++
	if st.slot == nil {
		err = f.Truncate(size)
	} else if size < st.size {
		_, err = f.WriteAt(make([]byte, st.size-size), st.slot.off+size)
	}
	if err != nil {
		return err
	}
	st.limit, st.size = min(st.limit, size), size
	st.run.cut(size)
	st.home.space.give(st.have.cut(size))
	if size < st.front {
		st.front = size
		st.spoil()
	}
	return nil
}

// Missing returns the parts of [off, end) that have to come from the base version.
func (st *Stage) Missing(off, end int64) []Extent {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.have.missing(off, min(end, st.limit))
}

// Fill puts bytes of the base version where nothing was written meanwhile. The content
// stays the same by that.
func (st *Stage) Fill(p []byte, off int64) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.lay(p, off, func(m Extent) { st.home.space.force(st.have.add(m.Off, m.End)) })
}

// AwaitSent waits for the end of an upload that is under way: who could not read bytes of
// the base may find that it has just been replaced, by what this content was made of it.
func (st *Stage) AwaitSent(ctx context.Context) {
	st.mu.RLock()
	sending := st.sending
	st.mu.RUnlock()
	if sending == nil {
		return
	}
	select {
	case <-sending:
	case <-ctx.Done():
	}
}

// send notes that an upload begins; the returned function that it is over.
func (st *Stage) send() (over func()) {
	sending := make(chan struct{})
	st.mu.Lock()
	st.sending = sending
	st.mu.Unlock()
	return func() {
		st.mu.Lock()
		if st.sending == sending {
			st.sending = nil
		}
		st.mu.Unlock()
		close(sending)
	}
}

// rebased tells whether ref is not the base any more.
func (st *Stage) rebased(ref remote.Ref) bool {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.base != ref
}

// Base returns the version from which missing bytes come.
func (st *Stage) Base() remote.Ref {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.base
}

// layout returns where the content lies, which of its bytes are here, how many of the base's
// count, and the base.
func (st *Stage) layout() (name string, have []Extent, limit int64, base remote.Ref) {
	st.mu.RLock()
	defer st.mu.RUnlock()
	return st.name(), append([]Extent(nil), st.have.list...), st.limit, st.base
}

// Rebase tells that the server has this very content as the version ref: bytes that are
// not here come from that.
func (st *Stage) Rebase(ref remote.Ref) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.base = ref
}

// Sync brings what was written to stable storage.
func (st *Stage) Sync() error {
	for {
		f, err := st.opened()
		if err != nil {
			return err
		}
		st.mu.RUnlock() // it may take long; the caller's reference keeps the file open
		err = f.Sync()
		st.mu.RLock()
		moved := st.file != f
		st.mu.RUnlock()
		if !moved {
			return err
		}
	}
}
