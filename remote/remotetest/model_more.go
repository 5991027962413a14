package remotetest

import (
	"fmt"
	"maps"

	"pgregory.net/rapid"

	"github.com/meshmount/meshmount/remote"
)

// optional adds the operations of the abilities that the backend has.
func (m *modelRun) optional(all map[string]func(*rapid.T)) {
	if m.env.symlinker() != nil {
		all["symlink"] = m.symlink
	}
	if x, ok := remote.As[remote.Xattrer](m.env.b); ok {
		all["setxattr"] = func(t *rapid.T) { m.setXattr(t, x) }
		all["removexattr"] = func(t *rapid.T) { m.removeXattr(t, x) }
		all["xattrs"] = func(t *rapid.T) { m.xattrs(t, x) }
	}
	if p, ok := remote.As[remote.Patcher](m.env.b); ok {
		all["patch"] = func(t *rapid.T) { m.patch(t, p) }
	}
	if r, ok := remote.As[remote.TreeRemover](m.env.b); ok {
		all["removetree"] = func(t *rapid.T) { m.removeTree(t, r) }
	}
}

// withXattrs draws a path for a call that is about attributes. Those of links are
// not defined.
func (m *modelRun) withXattrs(t *rapid.T) (string, object, []remote.Kind) {
	path := m.somePath(t, "path")
	o, kinds := m.resolve(path)
	if kinds == nil && o.kind == remote.Symlink {
		t.Skip("attributes of links are not defined")
	}
	return path, o, kinds
}

func (m *modelRun) setXattr(t *rapid.T, x remote.Xattrer) {
	path, o, kinds := m.withXattrs(t)
	name := x.XattrPrefix() + rapid.SampledFrom([]string{"p", "q"}).Draw(t, "name")
	value := rapid.SampledFrom([]string{"1", "2", "three"}).Draw(t, "value")
	mode := rapid.SampledFrom([]remote.XattrMode{remote.XattrAny, remote.XattrCreate, remote.XattrReplace}).Draw(t, "mode")
	_, there := o.xattrs[name]
	switch {
	case kinds != nil:
	case there && mode == remote.XattrCreate:
		kinds = oneOf(remote.Exist)
	case !there && mode == remote.XattrReplace:
		kinds = oneOf(remote.NoXattr)
	}
	err := x.SetXattr(m.env.ctx, path, name, []byte(value), mode)
	if m.want(t, fmt.Sprintf("setxattr %q of %q, mode %d", name, path, mode), err, kinds) {
		after := map[string]string{name: value}
		for n, v := range o.xattrs {
			if n != name {
				after[n] = v
			}
		}
		o.xattrs = after
		m.tree[path] = o
	}
}

func (m *modelRun) removeXattr(t *rapid.T, x remote.Xattrer) {
	path, o, kinds := m.withXattrs(t)
	name := x.XattrPrefix() + rapid.SampledFrom([]string{"p", "q"}).Draw(t, "name")
	if _, there := o.xattrs[name]; kinds == nil && !there {
		kinds = oneOf(remote.NoXattr)
	}
	err := x.RemoveXattr(m.env.ctx, path, name)
	if m.want(t, fmt.Sprintf("removexattr %q of %q", name, path), err, kinds) {
		o.xattrs = maps.Clone(o.xattrs)
		delete(o.xattrs, name)
		m.tree[path] = o
	}
}

func (m *modelRun) xattrs(t *rapid.T, x remote.Xattrer) {
	path, o, kinds := m.withXattrs(t)
	all, err := x.Xattrs(m.env.ctx, path)
	if m.want(t, fmt.Sprintf("xattrs of %q", path), err, kinds) {
		m.wantXattrs(t, path, o, all)
	}
}

func (m *modelRun) wantXattrs(t *rapid.T, path string, o object, all map[string][]byte) {
	got := map[string]string{}
	for name, value := range all {
		got[name] = string(value)
	}
	if !maps.Equal(got, o.xattrs) {
		t.Fatalf("xattrs of %q: %q, want %q", path, got, o.xattrs)
	}
}

// compareXattrs looks at the attributes of all of the tree.
func (m *modelRun) compareXattrs() {
	x, ok := remote.As[remote.Xattrer](m.env.b)
	if !ok {
		return
	}
	for path, o := range m.tree {
		if o.kind == remote.Symlink {
			continue
		}
		all, err := x.Xattrs(m.env.ctx, path)
		if err != nil {
			m.Fatalf("xattrs of %q at the end: %v", path, err)
		}
		m.wantXattrs(m.T, path, o, all)
	}
}

func (m *modelRun) removeTree(t *rapid.T, r remote.TreeRemover) {
	path := m.somePath(t, "path")
	o, kinds := m.resolve(path)
	if kinds == nil && o.kind != remote.Dir {
		kinds = oneOf(remote.NotDir)
	}
	err := r.RemoveTree(m.env.ctx, path)
	if !m.want(t, fmt.Sprintf("removal of the tree %q", path), err, kinds) {
		return
	}
	for p := range m.tree {
		if remote.Within(p, path) {
			delete(m.tree, p)
		}
	}
}

// patch replaces one byte in ten of a file, and sets its size. The base is the present
// version or an earlier one.
func (m *modelRun) patch(t *rapid.T, p remote.Patcher) {
	path := m.somePath(t, "path")
	before, kinds := m.resolve(path)
	if kinds != nil || before.kind != remote.File || before.version == "" {
		t.Skip("there is no file of a proven version")
	}
	base := before.version
	if before.old != "" && m.env.caps.Overwrite != remote.GuardNone && rapid.IntRange(0, 5).Draw(t, "base") == 0 {
		base, kinds = before.old, oneOf(remote.Conflict)
	}
	size := rapid.SampledFrom([]int{0, 10, 4000, 6000}).Draw(t, "size")
	var ranges []int
	for off := rapid.IntRange(0, 500).Draw(t, "offset"); off+100 <= size; off += 1000 {
		ranges = append(ranges, off, 100)
	}
	c := changeOf(before.data, size, rapid.Byte().Draw(t, "seed"), ranges...)
	got, err := p.Patch(m.env.ctx, path, c.Patch, remote.PutOptions{Cond: remote.Cond{Version: base}})
	what := fmt.Sprintf("patch %q of version %q to %d bytes", path, base, size)
	if m.want(t, what, err, kinds) {
		if got.Size != int64(size) || got.Type != remote.File || got.Path != path {
			t.Fatalf("%s returned %+v", what, got)
		}
		m.tree[path] = before.with(c.after, got)
	}
}
