package fs

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// model is what a local file system would do: names refer to objects, handles too.
type model struct {
	names   map[string]*object
	dirs    map[string]bool
	handles []*openPair
	opens   int // handles so far
}

type object struct{ data []byte }

type openPair struct {
	h   *Handle
	obj *object
	end bool
	n   int // in the log
}

// TestRandomOperations runs random programs on the core and on the model: every
// answer agrees at once, and when all handles are closed the server agrees too.
func TestRandomOperations(t *testing.T) {
	seeds, ops := 60, 400
	long := os.Getenv("MESHMOUNT_LONG") != ""
	switch {
	case withJournal(t) && long:
		seeds = 300
	case withJournal(t):
		seeds = 10
	case long:
		seeds = 3000
	}
	kinds := map[string]memory.Options{
		"strong": {}, "no-ranges": {NoRanges: true}, "attr-versions": {AttrVersions: true},
		"weak": {WeakVersions: true, Granularity: time.Second, Unguarded: true}, "keeps-nothing": {NoMode: true, NoMTime: true},
	}
	for name, opts := range kinds {
		t.Run(name, func(t *testing.T) {
			for seed := range seeds {
				t.Run(strconv.Itoa(seed), func(t *testing.T) { runModel(t, uint64(seed), ops, opts) })
			}
		})
	}
}

func runModel(t *testing.T, seed uint64, ops int, opts memory.Options) {
	w := newWorld(t, opts)
	m := &model{names: map[string]*object{}, dirs: map[string]bool{"/a": true}}
	r := rand.New(rand.NewPCG(seed, 9))
	var log []string
	defer func() {
		if t.Failed() {
			for _, l := range log[max(0, len(log)-120):] {
				t.Log(l)
			}
		}
	}()
	for range ops {
		log = append(log, m.step(w, r))
		if t.Failed() {
			return
		}
	}
	for len(m.handles) > 0 {
		m.close(w, 0)
	}
	m.compare(w)
	w.finish()
}

func (m *model) path(r *rand.Rand) string {
	dir := [...]string{"/a", "/a/d0", "/a/d1"}[r.IntN(3)]
	return dir + "/" + [...]string{"x", "y", "z"}[r.IntN(3)]
}

func parent(p string) string { d, _ := remote.Split(p); return d }

// step does one random operation and returns its description.
func (m *model) step(w *world, r *rand.Rand) string {
	p, q := m.path(r), m.path(r)
	switch n := r.IntN(20); {
	case n < 4:
		return m.open(w, r, p)
	case n < 5 && len(m.handles) > 0:
		return m.close(w, r.IntN(len(m.handles)))
	case n < 13 && len(m.handles) > 0:
		return m.io(w, r, m.handles[r.IntN(len(m.handles))])
	case n < 14:
		err := w.Unlink(w.t.Context(), p)
		m.agree(w, "unlink "+p, err, m.names[p] != nil)
		delete(m.names, p)
		return fmt.Sprintf("unlink %s: %v", p, err)
	case n < 16:
		err := w.Rename(w.t.Context(), p, q, 0)
		m.agree(w, "rename "+p+" "+q, err, m.names[p] != nil && m.dirs[parent(q)])
		if err == nil && p != q {
			m.names[q] = m.names[p]
			delete(m.names, p)
		}
		return fmt.Sprintf("rename %s %s: %v", p, q, err)
	case n < 17:
		return m.dir(w, r)
	case n < 18:
		size := r.Int64N(300)
		_, err := w.Setattr(w.t.Context(), p, nil, 0, SetAttr{Size: &size})
		m.agree(w, "truncate "+p, err, m.names[p] != nil)
		if err == nil {
			m.names[p].resize(size)
		}
		return fmt.Sprintf("truncate %s %d: %v", p, size, err)
	case n < 19:
		return m.chattr(w, r, p)
	}
	m.compareHere(w, p)
	return "look at " + p
}

func (m *model) chattr(w *world, r *rand.Rand, p string) string {
	when, mode := time.Unix(1_600_000_000+r.Int64N(1000), 0), uint32(0o600+r.IntN(64))
	a, err := w.Setattr(w.t.Context(), p, nil, 0, SetAttr{MTime: &when, Mode: &mode})
	m.agree(w, "setattr "+p, err, m.names[p] != nil)
	if err == nil && (a.Mode != mode || !a.MTime.Equal(when)) {
		w.t.Errorf("%s has mode %#o and time %v, want %#o and %v", p, a.Mode, a.MTime, mode, when)
	}
	return fmt.Sprintf("setattr %s: %v", p, err)
}

func (m *model) dir(w *world, r *rand.Rand) string {
	d := [...]string{"/a/d0", "/a/d1"}[r.IntN(2)]
	if !m.dirs[d] {
		_, err := w.Mkdir(w.t.Context(), d, 0o755)
		m.agree(w, "mkdir "+d, err, true)
		m.dirs[d] = true
		return "mkdir " + d
	}
	empty := true
	for p := range m.names {
		empty = empty && parent(p) != d
	}
	err := w.Rmdir(w.t.Context(), d)
	m.agree(w, "rmdir "+d, err, empty)
	if err == nil {
		delete(m.dirs, d)
	}
	return fmt.Sprintf("rmdir %s: %v", d, err)
}

func (m *model) open(w *world, r *rand.Rand, p string) string {
	flags := [...]int{syscall.O_RDONLY, syscall.O_WRONLY, syscall.O_RDWR, syscall.O_RDWR | syscall.O_APPEND,
		syscall.O_RDWR | syscall.O_TRUNC}[r.IntN(5)]
	create := r.IntN(2) == 0
	var h *Handle
	var err error
	if create {
		h, _, err = w.Create(w.t.Context(), p, flags, 0o644)
	} else {
		h, err = w.Open(w.t.Context(), p, flags)
	}
	m.agree(w, "open "+p, err, m.names[p] != nil || create && m.dirs[parent(p)])
	if err == nil {
		obj := m.names[p]
		if obj == nil {
			obj = &object{}
			m.names[p] = obj
		}
		if flags&syscall.O_TRUNC != 0 {
			obj.data = nil
		}
		m.opens++
		m.handles = append(m.handles, &openPair{h, obj, flags&syscall.O_APPEND != 0, m.opens})
	}
	return fmt.Sprintf("open %s %#o create=%v: %v (handle %d)", p, flags, create, err, m.opens)
}

func (m *model) close(w *world, i int) string {
	h, n := m.handles[i].h, m.handles[i].n
	m.handles = append(m.handles[:i:i], m.handles[i+1:]...)
	if err := h.Flush(w.t.Context()); err != nil {
		w.t.Errorf("close: %v", err)
	}
	h.Release()
	return fmt.Sprintf("close handle %d", n)
}

func (m *model) io(w *world, r *rand.Rand, o *openPair) string {
	off, n := r.Int64N(300), r.IntN(200)
	switch {
	case r.IntN(8) == 0 && o.h.write:
		w.must(o.h.Truncate(w.t.Context(), off))
		o.obj.resize(off)
		return fmt.Sprintf("ftruncate handle %d to %d", o.n, off)
	case r.IntN(8) == 0:
		w.must(o.h.Fsync(w.t.Context()))
		return fmt.Sprintf("fsync handle %d", o.n)
	case r.IntN(2) == 0 && o.h.write:
		p := bytes.Repeat([]byte{byte('a' + r.IntN(26))}, n)
		w.put(o.h, string(p), off)
		if o.end {
			off = int64(len(o.obj.data))
		}
		if n > 0 {
			o.obj.resize(max(int64(len(o.obj.data)), off+int64(n)))
			copy(o.obj.data[off:], p)
		}
		return fmt.Sprintf("write %d at %d to handle %d", n, off, o.n)
	}
	p := make([]byte, n)
	got, err := o.h.ReadAt(w.t.Context(), p, off)
	want := o.obj.data[min(off, int64(len(o.obj.data))):]
	want = want[:min(n, len(want))]
	if err != nil || !bytes.Equal(p[:got], want) {
		w.t.Errorf("read %d at %d of handle %d of %s: %q %v, want %q", n, off, o.n, o.h.path(), p[:got], err, want)
	}
	return fmt.Sprintf("read %d at %d of handle %d of %s", n, off, o.n, o.h.path())
}

func (o *object) resize(n int64) {
	if n <= int64(len(o.data)) {
		o.data = o.data[:n:n]
		return
	}
	o.data = append(o.data, make([]byte, n-int64(len(o.data)))...)
}

func (m *model) agree(w *world, what string, err error, success bool) {
	if (err == nil) != success {
		w.t.Errorf("%s: %v, the model says success=%v", what, err, success)
	}
}

// compareHere compares one name as the mount shows it.
func (m *model) compareHere(w *world, p string) {
	a, err := w.Stat(w.t.Context(), p)
	m.agree(w, "stat "+p, err, m.names[p] != nil)
	if err == nil && a.Size != int64(len(m.names[p].data)) {
		w.t.Errorf("%s has %d bytes, want %d", p, a.Size, len(m.names[p].data))
	}
	if !m.dirs[parent(p)] {
		return
	}
	have := map[string]bool{}
	for _, n := range w.names(parent(p)) {
		have[n] = true
	}
	for q := range m.names {
		if _, n := remote.Split(q); parent(q) == parent(p) && !have[n] {
			w.t.Errorf("%s is not listed", q)
		}
	}
}

// compare compares the server with the model.
func (m *model) compare(w *world) {
	w.drain()
	ctx := w.t.Context()
	for p, o := range m.names {
		rel := p[len("/a"):]
		e, err := w.a.Stat(ctx, rel)
		if err != nil || e.Size != int64(len(o.data)) {
			w.t.Errorf("server has %s with %d bytes (%v), want %d", p, e.Size, err, len(o.data))
			continue
		}
		got := make([]byte, e.Size)
		if _, err := w.a.ReadAt(ctx, remote.Ref{Path: rel, Size: e.Size}, got, 0); err != nil && err != io.EOF || !bytes.Equal(got, o.data) {
			w.t.Errorf("server has other bytes in %s: %v", p, err)
		}
	}
	for _, d := range []string{"/", "/d0", "/d1"} {
		err := w.a.List(ctx, d, func(e remote.Entry) error {
			if p := "/a" + e.Path; m.names[p] == nil && !m.dirs[p] {
				w.t.Errorf("server has %s, the model does not", p)
			}
			return nil
		})
		if err != nil && remote.KindOf(err) != remote.NotExist {
			w.t.Error(err)
		}
	}
}
