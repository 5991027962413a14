package write_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// model is what a branch must hold after some operations have returned, if the process
// that serves the mount dies now.
type model struct {
	nodes map[string]*node
	open  [slots]*node // nil: not open
	// appends tells of open files that all writes go to their ends (O_APPEND).
	appends [slots]bool
}

// node is a file, directory or symbolic link.
type node struct {
	kind   fs.FileMode // type bits
	target string
	// versions are what the file may hold: what was acknowledged last, and what it has
	// become since by each operation that no fsync or close has covered yet.
	versions []version
	// fresh: no fsync or close of the new file has returned, so that it may be missing.
	fresh bool
	mode  int64 // -1: unknown
	mtime int64 // seconds, -1: unknown
}

// version is the content of a file after an operation. If that was a write, its first part
// alone may be there.
type version struct {
	data     []byte
	off, len int64 // what was written
}

func newModel() *model { return &model{nodes: map[string]*node{}} }

// clone returns a copy that can be changed.
func (m *model) clone() *model {
	c, twins := newModel(), map[*node]*node{nil: nil}
	c.appends = m.appends
	twin := func(n *node) *node {
		if twins[n] == nil && n != nil {
			copied := *n
			copied.versions = slices.Clone(n.versions)
			twins[n] = &copied
		}
		return twins[n]
	}
	for path, n := range m.nodes {
		c.nodes[path] = twin(n)
	}
	for i, n := range m.open {
		c.open[i] = twin(n)
	}
	return c
}

// last is what programs see in the file now.
func (n *node) last() []byte { return n.versions[len(n.versions)-1].data }

// become adds a version that no fsync covers yet.
func (n *node) become(v version) {
	n.versions, n.mtime = append(n.versions, v), -1
}

// commit makes the present content the only one there may be.
func (n *node) commit() { n.versions, n.fresh = n.versions[len(n.versions)-1:], false }

// isOpen tells whether a slot has the file.
func (m *model) isOpen(n *node) bool { return slices.Contains(m.open[:], n) }

// below returns the paths below a directory.
func (m *model) below(dir string) []string {
	var found []string
	for path := range m.nodes {
		if strings.HasPrefix(path, dir+"/") {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return found
}

// apply does what an operation does that succeeds.
func (m *model) apply(o *op) {
	n := m.nodes[o.Path]
	switch o.Verb {
	case "open":
		m.openFile(o, n)
	case "write", "ftruncate", "fsync":
		m.change(o)
	case "close":
		m.open[o.Slot].commit()
		m.open[o.Slot] = nil
	case "truncate":
		n.become(version{data: resized(n.last(), o.Off)})
		n.commit()
	case "mkdir":
		m.nodes[o.Path] = &node{kind: fs.ModeDir}
	case "symlink":
		m.nodes[o.Path] = &node{kind: fs.ModeSymlink, target: o.To}
	case "rmdir", "unlink":
		delete(m.nodes, o.Path)
	case "rename":
		m.rename(o.Path, o.To)
	case "chmod":
		n.mode = int64(o.Mode)
	case "utimens":
		n.mtime = o.Time
	}
}

func (m *model) openFile(o *op, n *node) {
	if n == nil {
		n = &node{versions: []version{{}}, fresh: true, mode: 0o644, mtime: -1}
		m.nodes[o.Path] = n
	} else if o.Flags&unix.O_TRUNC != 0 {
		n.become(version{})
	}
	m.open[o.Slot], m.appends[o.Slot] = n, o.Flags&unix.O_APPEND != 0
}

// change does what an operation on an open file does.
func (m *model) change(o *op) {
	n := m.open[o.Slot]
	old := n.last()
	switch o.Verb {
	case "write":
		if o.Len == 0 {
			return // not even the size is another
		}
		off := o.Off
		if m.appends[o.Slot] {
			off = int64(len(old))
		}
		n.become(version{data: written(old, content(o.Seed, o.Len), off), off: off, len: int64(o.Len)})
	case "ftruncate":
		n.become(version{data: resized(old, o.Off)})
	case "fsync":
		n.commit()
	}
}

// written returns data with p at off. It never changes what data holds.
func written(data, p []byte, off int64) []byte {
	if off == int64(len(data)) {
		return append(data, p...)
	}
	changed := slices.Clone(resized(data, max(int64(len(data)), off+int64(len(p)))))
	copy(changed[off:], p)
	return changed
}

// resized returns data of another size. It never changes what data holds.
func resized(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size:size]
	}
	return append(slices.Clip(data), make([]byte, size-int64(len(data)))...)
}

func (m *model) rename(from, to string) {
	n, target := m.nodes[from], m.nodes[to]
	for _, path := range m.below(from) {
		m.nodes[to+strings.TrimPrefix(path, from)] = m.nodes[path]
		delete(m.nodes, path)
	}
	delete(m.nodes, from)
	m.nodes[to] = n
	for _, path := range append(m.below(to), to) {
		// Zones give what is renamed a new time. It is set back behind that, unless the
		// process is killed between the two.
		m.nodes[path].mtime = -1
	}
	if target != nil && n.fresh { // the name has had a content that counts
		n.versions, n.fresh = append(slices.Clone(target.versions), n.versions...), target.fresh
		n.mode, n.mtime = -1, -1
	}
}

// blur forgets times that a server sets anew when it carries out an operation, until they
// are set back.
func (m *model) blur(o *op) {
	if o.Verb == "rename" {
		m.nodes[o.To].mtime = -1
		for _, path := range m.below(o.To) {
			m.nodes[path].mtime = -1
		}
	}
}

// compare tells how a tree differs from what there may be. Of symbolic links onServer wants
// only that something stands for them, and of attributes nothing.
func (m *model) compare(found tree, onServer bool) []string {
	var faults []string
	for _, path := range slices.Sorted(maps.Keys(m.nodes)) {
		n, e := m.nodes[path], found[path]
		if _, there := found[path]; !there {
			if n.kind != 0 || !n.fresh {
				faults = append(faults, fmt.Sprintf("%s is missing, which was %v", path, n))
			}
		} else if fault := n.differs(e, onServer); fault != "" {
			faults = append(faults, fmt.Sprintf("%s is a %v: %s", path, e, fault))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		if m.nodes[path] == nil {
			faults = append(faults, fmt.Sprintf("%s should not be there: a %v", path, found[path]))
		}
	}
	return faults
}

// differs tells what is wrong with what stands in the place of a node.
func (n *node) differs(e entry, onServer bool) string {
	if onServer && n.kind == fs.ModeSymlink {
		return ""
	}
	switch {
	case e.Type != n.kind:
		return fmt.Sprintf("want %v", n)
	case n.kind == fs.ModeSymlink && e.Target != n.target:
		return "another target than " + n.target
	case n.kind != 0:
		return ""
	case !n.may(e.Data):
		return fmt.Sprintf("want %v", n)
	case !onServer && n.mode >= 0 && int64(e.Mode) != n.mode:
		return fmt.Sprintf("want mode %o", n.mode)
	case !onServer && n.mtime >= 0 && e.MTime != n.mtime:
		return fmt.Sprintf("want mtime %d", n.mtime)
	}
	return ""
}

// may tells whether a file may hold data: one of the versions, or the first part of the last
// write. What came after a commit may be there in part, as on a local disk: within the size
// that was committed, each byte is that of this version or of a later one.
func (n *node) may(data []byte) bool {
	for i, v := range n.versions {
		if len(v.data) == len(data) && mixed(data, n.versions[i:]) || i > 0 && v.len > 0 && partly(n.versions[i-1].data, v, data) {
			return true
		}
	}
	return false
}

// mixed tells whether each byte of data is that of one of the versions.
func mixed(data []byte, versions []version) bool {
	for at := 0; at < len(data); {
		longest := 0
		for _, v := range versions {
			longest = max(longest, common(data[at:], v.data[min(at, len(v.data)):]))
		}
		if longest == 0 {
			return false
		}
		at += longest
	}
	return true
}

// common returns for how many bytes two contents begin alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	const piece = 4 << 10
	at := 0
	for ; n-at > piece && bytes.Equal(a[at:at+piece], b[at:at+piece]); at += piece {
	}
	for at < n && a[at] == b[at] {
		at++
	}
	return at
}

// partly tells whether data is old with the first part of what v wrote in it.
func partly(old []byte, v version, data []byte) bool {
	p := v.data[v.off : v.off+v.len]
	base := resized(old, max(int64(len(old)), v.off))
	if int64(len(data)) < v.off {
		return false
	}
	same := common(p, data[v.off:])
	return bytes.Equal(data, written(base, p[:same], v.off))
}

// String tells a node to people.
func (n *node) String() string {
	switch n.kind {
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "link to " + n.target
	}
	var b strings.Builder
	b.WriteString("file of")
	for _, v := range n.versions[max(0, len(n.versions)-8):] {
		fmt.Fprintf(&b, " %d bytes (%.8x...)", len(v.data), v.data[:min(8, len(v.data))])
	}
	fmt.Fprintf(&b, ", fresh %v, mode %o, mtime %d", n.fresh, n.mode, n.mtime)
	return b.String()
}

// observed returns the model of what was found: nothing is uncertain any more.
func observed(found tree) *model {
	m := newModel()
	for path, e := range found {
		m.nodes[path] = &node{kind: e.Type, target: e.Target, versions: []version{{data: e.Data}}, mode: int64(e.Mode), mtime: e.MTime}
	}
	return m
}
