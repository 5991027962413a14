package remotetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/meshmount/meshmount/remote"
)

// RunModel does random operations on one target and on a map, which must agree in
// every result and in the tree and contents at the end. Each of rapid's runs has a
// directory of its own. The number of runs and steps is set by rapid's flags
// (-rapid.checks, -rapid.steps).
func RunModel(t *testing.T, f Factory) {
	e := newEnv(t, f)
	runs := 0
	rapid.Check(t, func(rt *rapid.T) {
		runs++
		m := &modelRun{T: rt, env: e, root: fmt.Sprintf("/run %d", runs), tree: map[string]object{}}
		m.tree[m.root] = object{kind: remote.Dir}
		if _, err := e.b.Mkdir(e.ctx, m.root); err != nil {
			rt.Fatalf("mkdir of the run's directory: %v", err)
		}
		all := map[string]func(*rapid.T){
			"put": m.put, "mkdir": m.mkdir, "remove": m.remove, "rename": m.rename,
			"stat": m.stat, "list": m.listDir, "read": m.readAt,
		}
		m.optional(all)
		rt.Repeat(all)
		m.compare()
		m.compareXattrs()
	})
}

// object is what the model knows of one path.
type object struct {
	kind    remote.Type
	data    []byte
	target  string
	version string            // current, if it is proof
	old     string            // an earlier one that differs from version, if it is proof
	xattrs  map[string]string // by full name, never changed in place
}

// modelRun is one run: a directory of the backend and the map it must agree with.
// Only the T's of rapid may fail it.
type modelRun struct {
	*rapid.T
	env  *env
	root string
	tree map[string]object // by full path; has root
}

var modelNames = []string{"a", "b", "c d"}

// anyPath draws a path in the run's directory, up to three deep, that need not exist.
func (m *modelRun) anyPath(t *rapid.T, label string) string {
	names := rapid.SliceOfN(rapid.SampledFrom(modelNames), 1, 3).Draw(t, label)
	return m.root + "/" + strings.Join(names, "/")
}

// somePath draws a path that exists, most of the time.
func (m *modelRun) somePath(t *rapid.T, label string) string {
	all := slices.Sorted(maps.Keys(m.tree))
	if len(all) == 1 || rapid.IntRange(0, 4).Draw(t, label+" anywhere") == 0 {
		return m.anyPath(t, label)
	}
	return rapid.SampledFrom(all[1:]).Draw(t, label) // the first is the root
}

// want fails unless err is of one of the kinds, or nil if there are none. It tells
// whether the call succeeded.
func (m *modelRun) want(t *rapid.T, what string, err error, kinds []remote.Kind) bool {
	switch {
	case err == nil && len(kinds) == 0:
		return true
	case err != nil && slices.ContainsFunc(kinds, func(k remote.Kind) bool { return errors.Is(err, k) }):
		return false
	}
	t.Fatalf("%s: error %v, want %v", what, err, kinds)
	return false
}

func oneOf(kinds ...remote.Kind) []remote.Kind { return kinds }

// resolve returns what is at path, or the kinds of error of a call that needs it.
func (m *modelRun) resolve(path string) (object, []remote.Kind) {
	if kinds := m.parent(path); kinds != nil {
		return object{}, kinds
	}
	if o, ok := m.tree[path]; ok {
		return o, nil
	}
	return object{}, oneOf(remote.NotExist)
}

// parent returns the kinds of error of a call that needs the parent of path.
func (m *modelRun) parent(path string) []remote.Kind {
	if path == m.root {
		return nil
	}
	dir, _ := remote.Split(path)
	switch o, kinds := m.resolve(dir); {
	case kinds != nil:
		return kinds
	case o.kind != remote.Dir:
		return oneOf(remote.NotDir, remote.NotExist)
	}
	return nil
}

func (m *modelRun) empty(dir string) bool {
	for path := range m.tree {
		if path != dir && remote.Within(path, dir) {
			return false
		}
	}
	return true
}

func (m *modelRun) put(t *rapid.T) {
	path := m.somePath(t, "path")
	size := rapid.SampledFrom([]int{0, 1, 10, 10, 5000}).Draw(t, "size")
	data := Pattern(size, rapid.Byte().Draw(t, "seed"))
	before, absent := m.resolve(path)
	cond, kinds := m.drawCond(t, before, absent == nil)
	switch {
	case m.parent(path) != nil:
		kinds = m.parent(path)
	case absent == nil && before.kind == remote.Dir:
		kinds = append(kinds, remote.IsDir)
	}
	got, err := m.env.b.Put(m.env.ctx, path, Bytes(data), remote.PutOptions{Cond: cond})
	what := fmt.Sprintf("put %q with %+v", path, cond)
	if !m.want(t, what, err, kinds) {
		return
	}
	if got.Size != int64(size) || got.Type != remote.File || got.Path != path {
		t.Fatalf("%s returned %+v", what, got)
	}
	m.tree[path] = before.with(data, got)
}

// with is the object after a change of its content that returned got.
func (o object) with(data []byte, got remote.Entry) object {
	after := object{kind: remote.File, data: data}
	if o.kind == remote.File {
		after.xattrs = o.xattrs
	}
	if got.Version != "" && !got.Provisional {
		after.version = got.Version
		if o.version != got.Version {
			after.old = o.version
		}
	}
	return after
}

// drawCond draws a condition and says with what it would fail.
func (m *modelRun) drawCond(t *rapid.T, o object, exists bool) (remote.Cond, []remote.Kind) {
	caps := m.env.caps
	switch rapid.IntRange(0, 5).Draw(t, "condition") {
	case 0:
		if caps.Create == remote.GuardNone {
			break
		}
		if exists {
			return remote.Cond{NotExist: true}, oneOf(remote.Exist)
		}
		return remote.Cond{NotExist: true}, nil
	case 1:
		if o.version != "" {
			return remote.Cond{Version: o.version}, nil
		}
	case 2:
		if o.old != "" && caps.Overwrite != remote.GuardNone {
			return remote.Cond{Version: o.old}, oneOf(remote.Conflict)
		}
	}
	return remote.Cond{}, nil
}

func (m *modelRun) mkdir(t *rapid.T) {
	path := m.anyPath(t, "path")
	kinds := m.parent(path)
	if _, exists := m.tree[path]; exists && kinds == nil {
		kinds = oneOf(remote.Exist)
	}
	_, err := m.env.b.Mkdir(m.env.ctx, path)
	if m.want(t, fmt.Sprintf("mkdir %q", path), err, kinds) {
		m.tree[path] = object{kind: remote.Dir}
	}
}

func (m *modelRun) symlink(t *rapid.T) {
	s := m.env.symlinker()
	path := m.anyPath(t, "path")
	kinds := m.parent(path)
	if o, exists := m.tree[path]; exists && kinds == nil {
		kinds = oneOf(remote.Exist)
		if o.kind == remote.Dir {
			kinds = append(kinds, remote.IsDir)
		}
	}
	target := rapid.SampledFrom([]string{"a", "../x"}).Draw(t, "target")
	_, err := s.Symlink(m.env.ctx, path, target)
	if m.want(t, fmt.Sprintf("symlink %q", path), err, kinds) {
		m.tree[path] = object{kind: remote.Symlink, target: target}
	}
}

func (m *modelRun) remove(t *rapid.T) {
	path := m.somePath(t, "path")
	asDir := rapid.Bool().Draw(t, "as directory")
	o, kinds := m.resolve(path)
	opts := remote.RemoveOptions{Type: remote.File}
	if asDir {
		opts.Type = remote.Dir
	}
	switch {
	case kinds != nil:
	case asDir && o.kind != remote.Dir:
		kinds = oneOf(remote.NotDir)
	case !asDir && o.kind == remote.Dir:
		kinds = oneOf(remote.IsDir)
	case !m.empty(path):
		kinds = oneOf(remote.NotEmpty)
	case o.kind == remote.Symlink:
		opts.Type = remote.Symlink
	}
	err := m.env.b.Remove(m.env.ctx, path, opts)
	if m.want(t, fmt.Sprintf("remove %q as %v", path, opts.Type), err, kinds) {
		delete(m.tree, path)
	}
}

func (m *modelRun) rename(t *rapid.T) {
	from, to := m.somePath(t, "from"), m.somePath(t, "to")
	noReplace := rapid.Bool().Draw(t, "no replace")
	kinds := m.renameKinds(from, to, noReplace)
	err := m.env.b.Rename(m.env.ctx, from, to, remote.RenameOptions{NoReplace: noReplace})
	if !m.want(t, fmt.Sprintf("rename %q to %q, no replace %v", from, to, noReplace), err, kinds) || from == to {
		return
	}
	moved := map[string]object{}
	for path, o := range m.tree {
		switch {
		case remote.Within(path, from):
			o.version, o.old = "", "" // a server may give it a new one
			moved[to+path[len(from):]] = o
		case path != to:
			moved[path] = o
		}
	}
	m.tree = moved
}

func (m *modelRun) renameKinds(from, to string, noReplace bool) []remote.Kind {
	source, kinds := m.resolve(from)
	if kinds != nil {
		return kinds
	}
	isDir := source.kind == remote.Dir
	into := isDir && from != to && remote.Within(to, from)
	if kinds := m.parent(to); kinds != nil {
		if into {
			kinds = append(kinds, remote.Invalid)
		}
		return kinds
	}
	target, exists := m.tree[to]
	switch {
	case into:
		return oneOf(remote.Invalid)
	case !exists:
		return nil
	case noReplace:
		return oneOf(remote.Exist)
	case from == to:
		return nil
	case isDir && target.kind != remote.Dir:
		return oneOf(remote.NotDir)
	case !isDir && target.kind == remote.Dir:
		return oneOf(remote.IsDir)
	case isDir && !m.empty(to):
		return oneOf(remote.NotEmpty)
	}
	return nil
}

func (m *modelRun) stat(t *rapid.T) {
	path := m.somePath(t, "path")
	o, kinds := m.resolve(path)
	got, err := m.env.b.Stat(m.env.ctx, path)
	if m.want(t, fmt.Sprintf("stat %q", path), err, kinds) {
		m.wantEntry(t, o, got)
	}
}

func (m *modelRun) wantEntry(t *rapid.T, o object, got remote.Entry) {
	if got.Type != o.kind || got.Target != o.target || o.kind == remote.File && got.Size != int64(len(o.data)) {
		t.Fatalf("entry %+v, want a %v of %d bytes to %q", got, o.kind, len(o.data), o.target)
	}
}

func (m *modelRun) listDir(t *rapid.T) {
	path := m.somePath(t, "path")
	o, kinds := m.resolve(path)
	if kinds == nil && o.kind != remote.Dir {
		kinds = oneOf(remote.NotDir)
	}
	m.wantList(t, path, kinds)
}

// wantList lists path and compares each child.
func (m *modelRun) wantList(t *rapid.T, path string, kinds []remote.Kind) {
	left := map[string]object{}
	for p, o := range m.tree {
		if dir, _ := remote.Split(p); dir == path {
			left[p] = o
		}
	}
	err := m.env.b.List(m.env.ctx, path, func(got remote.Entry) error {
		o, ok := left[got.Path]
		if !ok {
			t.Fatalf("list %q shows %q, which is not there or came before", path, got.Path)
		}
		m.wantEntry(t, o, got)
		delete(left, got.Path)
		return nil
	})
	if m.want(t, fmt.Sprintf("list %q", path), err, kinds) && len(left) > 0 {
		t.Fatalf("list %q does not show %q", path, slices.Collect(maps.Keys(left)))
	}
}

func (m *modelRun) readAt(t *rapid.T) {
	path := m.somePath(t, "path")
	off := rapid.SampledFrom([]int{0, 0, 1, 9, 10, 4000, 6000}).Draw(t, "offset")
	n := rapid.SampledFrom([]int{1, 9, 10, 6000}).Draw(t, "length")
	o, kinds := m.resolve(path)
	switch {
	case kinds == nil && o.kind == remote.Dir:
		kinds = oneOf(remote.IsDir)
	case kinds == nil && o.kind == remote.Symlink:
		t.Skip("reading a link is not defined")
	}
	p := make([]byte, n)
	got, err := m.env.b.ReadAt(m.env.ctx, remote.Ref{Path: path, Version: o.version, Size: -1}, p, int64(off))
	want := o.data[min(off, len(o.data)):min(off+n, len(o.data))]
	if kinds == nil && len(want) < n {
		if err != io.EOF {
			t.Fatalf("read %q past its end: %v", path, err)
		}
		err = nil
	}
	if m.want(t, fmt.Sprintf("read %q", path), err, kinds) && !bytes.Equal(p[:got], want) {
		t.Fatalf("read %q at %d: %s", path, off, difference(p[:got], want))
	}
}

// compare looks at all of the tree.
func (m *modelRun) compare() {
	for path, o := range m.tree {
		switch o.kind {
		case remote.Dir:
			m.wantList(m.T, path, nil)
		case remote.File:
			p := make([]byte, len(o.data)+1)
			n, err := m.env.b.ReadAt(m.env.ctx, remote.Ref{Path: path, Size: -1}, p, 0)
			if err != io.EOF || !bytes.Equal(p[:n], o.data) {
				m.Fatalf("%q at the end: %s, %v", path, difference(p[:n], o.data), err)
			}
		}
	}
}
