package mount

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

// node is one object that the kernel knows. Its number is never used again.
type node struct {
	id  uint64 // the kernel's name for it
	key identity

	parent   *node  // guarded by tree.mu; nil for the root and for what has lost its name
	name     string // guarded by tree.mu
	lookups  uint64 // guarded by tree.mu; how often the kernel was told of it and did not forget
	children int    // guarded by tree.mu; nodes whose parent this is

	// changes counts what was changed through this mount in a directory: names and
	// the attributes of what they stand for.
	changes atomic.Uint64
	// shown is what was last told of a directory, for when it has lost its name
	// but is still open or somebody's working directory.
	shown atomic.Pointer[fs.Attr]
}

// identity is what makes two sightings the same object for the kernel, which does
// not allow a node to change its type.
type identity struct {
	ino uint64
	typ remote.Type
}

// place is a name in a directory.
type place struct {
	parent *node
	name   string
}

// tree holds the nodes. Its lock is held for moments, never while anything is
// called. Safe for concurrent use.
type tree struct {
	mu     sync.Mutex
	root   *node
	byID   map[uint64]*node   // guarded by mu
	byKey  map[identity]*node // guarded by mu
	byName map[place]*node    // guarded by mu
	nextID uint64             // guarded by mu

	holds holds // guarded by mu
}

func newTree(rootIno uint64) *tree {
	root := &node{id: fuse.FUSE_ROOT_ID, key: identity{rootIno, remote.Dir}, lookups: 1}
	t := &tree{root: root, nextID: root.id + 1, byID: map[uint64]*node{root.id: root},
		byKey: map[identity]*node{root.key: root}, byName: map[place]*node{}}
	t.holds.changed.L = &t.mu
	return t
}

// node returns the node with the kernel's number id, nil if there is none.
func (t *tree) node(id uint64) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[id]
}

// enter records that name in parent is the object with the attributes a and that
// the kernel is being told so, and returns its node.
func (t *tree) enter(parent *node, name string, a *fs.Attr) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := identity{a.Ino, a.Type}
	n := t.byKey[key]
	if n == nil {
		n = &node{id: t.nextID, key: key}
		t.nextID++
		t.byID[n.id], t.byKey[key] = n, n
	}
	n.lookups++
	t.put(n, place{parent, name})
	return n
}

// put gives n the place p and takes it from whatever was there. Guarded by mu.
func (t *tree) put(n *node, p place) {
	if t.byName[p] == n || n.above(p.parent) {
		return
	}
	p.parent.children++ // first, so that it cannot be dropped on the way
	if old := t.byName[p]; old != nil {
		t.detach(old)
	}
	t.detach(n)
	p.name = strings.Clone(p.name) // it may be a part of a long path
	n.parent, n.name = p.parent, p.name
	t.byName[p] = n
}

// above tells whether n is d or above it: such an n has its place, whatever somebody
// claims. Guarded by mu.
func (n *node) above(d *node) bool {
	for ; d != nil; d = d.parent {
		if d == n {
			return true
		}
	}
	return false
}

// detach takes n's name from it. Guarded by mu.
func (t *tree) detach(n *node) {
	parent := n.parent
	if parent == nil {
		return
	}
	delete(t.byName, place{parent, n.name})
	n.parent, n.name = nil, ""
	parent.children--
	t.drop(parent)
}

// drop removes n if neither the kernel nor a node below needs it. Guarded by mu.
func (t *tree) drop(n *node) {
	if n.lookups > 0 || n.children > 0 || n == t.root {
		return
	}
	delete(t.byID, n.id)
	if t.byKey[n.key] == n {
		delete(t.byKey, n.key)
	}
	t.detach(n)
}

// forget takes back count of the times that the kernel was told of the node.
func (t *tree) forget(id, count uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byID[id]; n != nil {
		n.lookups -= min(count, n.lookups)
		t.drop(n)
	}
}

// remove records that name in parent is no more. What had the name keeps its node
// for as long as the kernel uses it; its inode number may go to nobody else.
func (t *tree) remove(parent *node, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byName[place{parent, name}]; n != nil {
		t.detach(n)
	}
}

// rename moves what is known of one name to another.
func (t *tree) rename(from, to place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.byName[from]; n != nil {
		t.put(n, to)
	} else if old := t.byName[to]; old != nil {
		t.detach(old)
	}
}

// path returns n's present path; ok is false if n, or a directory above it, has lost
// its name. Guarded by mu.
func (t *tree) path(n *node) (path string, ok bool) {
	size := 0
	for d := n; d != t.root; d = d.parent {
		if d.parent == nil {
			return "", false
		}
		size += 1 + len(d.name)
	}
	if n == t.root {
		return "/", true
	}
	buf := make([]byte, size)
	for d := n; d != t.root; d = d.parent {
		size -= len(d.name)
		copy(buf[size:], d.name)
		size--
		buf[size] = '/'
	}
	return string(buf), true
}

// where returns the present path of a node without holding it: for what must never
// wait.
func (t *tree) where(n *node) (path string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.path(n)
}

// size returns how many nodes there are.
func (t *tree) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID)
}

// parentIno returns the inode number of the directory that holds n.
func (t *tree) parentIno(n *node) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.parent == nil {
		return t.root.key.ino
	}
	return n.parent.key.ino
}

// touch records a change at n's name, so that listings under way know.
func (t *tree) touch(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.parent != nil {
		n.parent.changes.Add(1)
	}
}

// known returns the numbers that the kernel has for an inode.
func (t *tree) known(ino uint64) (ids []uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for typ := remote.File; typ <= remote.Symlink; typ++ {
		if n := t.byKey[identity{ino, typ}]; n != nil && n.lookups > 0 {
			ids = append(ids, n.id)
		}
	}
	return ids
}

// find returns the kernel's number of the directory at path, if it has one.
func (t *tree) find(path string) (id uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if path == "/" {
		return t.root.id, true
	}
	dir, name := remote.Split(path)
	n := t.descend(dir, name)
	return idOf(n), n != nil && n.lookups > 0
}

func idOf(n *node) uint64 {
	if n == nil {
		return 0
	}
	return n.id
}

// descend finds name in the directory at dir. Guarded by mu.
func (t *tree) descend(dir, name string) *node {
	parent := t.root
	if dir != "/" {
		up, last := remote.Split(dir)
		if parent = t.descend(up, last); parent == nil {
			return nil
		}
	}
	return t.byName[place{parent, name}]
}
