package writeback

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
)

// simDisk is a logFS in memory that knows what of it would be there after a loss of
// power: what was not synced may be lost, or partly.
type simDisk struct {
	mu     sync.Mutex
	names  map[string]*simFile // as the process sees them
	stable map[string]*simFile // on the disk
	dirOps []func(map[string]*simFile)
	space  int64  // bytes of all files; 0: no bound
	before func() // called before each change, with mu held
	part   func(n int) int
	slow   func()                      // called in each sync, without mu
	fail   func(op, name string) error // nil: never
}

// simFile is a file: what the process reads, what is on the disk, and what was written
// since it was synced.
type simFile struct {
	disk    *simDisk
	name    string
	view    []byte
	stable  []byte
	pending []simWrite
	bad     Extent // cannot be read
}

// simWrite is a write, or with p nil a change of the size.
type simWrite struct {
	off  int64
	p    []byte
	size int64
}

func newSimDisk() *simDisk {
	return &simDisk{names: map[string]*simFile{}, stable: map[string]*simFile{}}
}

// op begins a change, and may fail it.
func (d *simDisk) op(op, name string) error {
	if d.before != nil {
		d.before()
	}
	if d.fail != nil {
		return d.fail(op, name)
	}
	return nil
}

func (d *simDisk) list() ([]string, error) {
	return slices.Sorted(maps.Keys(d.names)), nil
}

func (d *simDisk) open(name string) (logFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.names[name]
	if f == nil {
		return nil, os.ErrNotExist
	}
	return f, nil
}

func (d *simDisk) create(name string) (logFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("create", name); err != nil {
		return nil, err
	}
	if f := d.names[name]; f != nil {
		f.resize(0)
		return f, nil
	}
	f := &simFile{disk: d, name: name}
	d.change(func(names map[string]*simFile) { names[name] = f })
	return f, nil
}

// change makes a change of the directory.
func (d *simDisk) change(do func(map[string]*simFile)) {
	do(d.names)
	d.dirOps = append(d.dirOps, do)
}

func (d *simDisk) rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("rename", from); err != nil {
		return err
	}
	f := d.names[from]
	if f == nil {
		return os.ErrNotExist
	}
	f.name = to
	d.change(func(names map[string]*simFile) {
		delete(names, from)
		names[to] = f
	})
	return nil
}

func (d *simDisk) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("remove", name); err != nil {
		return err
	}
	if d.names[name] == nil {
		return os.ErrNotExist
	}
	d.change(func(names map[string]*simFile) { delete(names, name) })
	return nil
}

func (d *simDisk) syncDir() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.op("syncDir", ""); err != nil {
		return err
	}
	d.stable, d.dirOps = maps.Clone(d.names), nil
	return nil
}

// full tells whether there is no space for a file to become larger.
func (d *simDisk) full(f *simFile, size int64) bool {
	used := size
	for _, other := range d.names {
		if other != f {
			used += int64(len(other.view))
		}
	}
	return d.space > 0 && size > int64(len(f.view)) && used > d.space
}

func (f *simFile) ReadAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if off >= int64(len(f.view)) {
		return 0, io.EOF
	}
	if off < f.bad.End && off+int64(len(p)) > f.bad.Off {
		return 0, errSimDisk
	}
	n := copy(p, f.view[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	first := len(p)
	if f.disk.part != nil {
		first = f.disk.part(len(p))
	}
	f.write(p[:first], off) // a process may be killed here
	if err := f.disk.op("write", f.name); err != nil {
		return first, err
	}
	if f.disk.full(f, off+int64(len(p))) {
		return first, syscall.ENOSPC
	}
	f.write(p[first:], off+int64(first))
	return len(p), nil
}

func (f *simFile) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	w := simWrite{off: off, p: slices.Clone(p)}
	f.view = w.apply(f.view, nil)
	f.pending = append(f.pending, w)
}

func (f *simFile) resize(size int64) {
	w := simWrite{size: size}
	f.view = w.apply(f.view, nil)
	f.pending = append(f.pending, w)
}

// apply returns data with the write; with keep, only the sectors that it wants.
func (w simWrite) apply(data []byte, keep func() bool) []byte {
	end := w.off + int64(len(w.p))
	if w.p == nil {
		end = w.size
		data = data[:min(int64(len(data)), w.size)]
	}
	if grown := end - int64(len(data)); grown > 0 {
		data = append(data, make([]byte, grown)...)
	}
	for p, off := w.p, w.off; len(p) > 0; {
		n := min(int64(len(p)), 512-off%512)
		if keep == nil || keep() {
			copy(data[off:], p[:n])
		}
		p, off = p[n:], off+n
	}
	return data
}

func (f *simFile) Close() error { return nil }

func (f *simFile) size() (int64, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	return int64(len(f.view)), nil
}

func (f *simFile) allocate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.op("allocate", f.name); err != nil {
		return err
	}
	if f.disk.full(f, size) {
		return syscall.ENOSPC
	}
	if size > int64(len(f.view)) {
		f.resize(size)
	}
	return nil
}

func (f *simFile) truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.op("truncate", f.name); err != nil {
		return err
	}
	f.resize(size)
	return nil
}

// sync brings to the disk what was written before it began. It fails as that of the
// kernel does: what could not be written is forgotten, and the next one succeeds.
func (f *simFile) sync() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	n := len(f.pending)
	if f.disk.slow != nil {
		f.disk.mu.Unlock()
		f.disk.slow()
		f.disk.mu.Lock()
	}
	err := f.disk.op("sync", f.name)
	for _, w := range f.pending[:n] {
		if err == nil || w.p == nil {
			f.stable = w.apply(f.stable, nil)
		}
	}
	f.pending = f.pending[n:]
	return err
}

// killed returns the disk as it is when the process is killed. Called with mu held.
func (d *simDisk) killed() *simDisk {
	c := newSimDisk()
	files := map[*simFile]*simFile{}
	clone := func(names map[string]*simFile) map[string]*simFile {
		out := map[string]*simFile{}
		for name, f := range names {
			if files[f] == nil {
				files[f] = &simFile{disk: c, name: name, view: slices.Clone(f.view), stable: slices.Clone(f.stable), pending: slices.Clone(f.pending)}
			}
			out[name] = files[f]
		}
		return out
	}
	c.names = clone(d.names)
	c.stable = clone(d.stable)
	final := maps.Clone(c.names)
	c.dirOps = []func(map[string]*simFile){func(names map[string]*simFile) { // all or nothing is enough here
		clear(names)
		maps.Copy(names, final)
	}}
	return c
}

// powerLost returns a disk as it may be after a loss of power: without any of the changes
// of the directory since it was synced, and without any sectors of the writes to each
// file since that was synced. Called with mu held.
func (d *simDisk) powerLost(dice *rand.Rand) *simDisk {
	c := newSimDisk()
	names := maps.Clone(d.stable)
	for _, do := range d.dirOps {
		if dice.IntN(4) > 0 {
			do(names)
		}
	}
	for name, f := range names {
		data := slices.Clone(f.stable)
		for _, w := range f.pending {
			switch dice.IntN(3) {
			case 0: // lost
			case 1:
				data = w.apply(data, nil)
			default:
				data = w.apply(data, func() bool { return dice.IntN(2) == 0 })
			}
		}
		c.names[name] = &simFile{disk: c, name: name, view: data, stable: slices.Clone(data)}
	}
	c.stable = maps.Clone(c.names)
	return c
}

var errSimDisk = errors.New("input/output error of the test")
