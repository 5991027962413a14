package efss

import (
	"encoding/xml"
	"strings"
	"time"
)

// attrs is what the catalog knows of a file or directory.
type attrs struct {
	ID       int64
	Dir      bool
	Size     int64 // bytes; of a directory the sum of everything below it
	MTime    time.Time
	Created  time.Time
	ETag     string // without quotes; "" where the dialect has none or computes it
	Uploaded int64  // Unix seconds of the last content change, 0 for directories
	Sum      string // checksums, as "SHA1:hex MD5:hex"
	Props    []deadProp
	ReadOnly bool
	Puts     int // how many PUTs in a row brought one and the same mtime
}

// deadProp is a property that the server only keeps. The slice that holds it is
// never changed in place, so that copies of attrs may share it.
type deadProp struct {
	Space string `json:"s"`
	Local string `json:"l"`
	Value string `json:"v"` // XML with its own name space declarations
}

func (p deadProp) name() xml.Name { return xml.Name{Space: p.Space, Local: p.Local} }

// node is one file or directory of the tree. Guarded by store.mu.
type node struct {
	attrs
	name     string
	parent   *node // nil for a user's root, and for what has been removed
	children map[string]*node
}

// info is a copy of a node that outlives the lock.
type info struct {
	attrs
	Name string
	Path string // rooted at the user's root, "/" for it
}

func (n *node) info(path string) info { return info{n.attrs, n.name, path} }

// child returns the child of that name, or nil.
func (n *node) child(name string) *node {
	if n == nil {
		return nil
	}
	return n.children[name]
}

// find returns the node at path below n, or nil.
func (n *node) find(path string) *node {
	for rest := strings.TrimPrefix(path, "/"); rest != "" && n != nil; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		n = n.child(name)
	}
	return n
}

// path returns the node's path below its user's root.
func (n *node) path() string {
	if n.parent == nil {
		return "/"
	}
	var names []string
	for ; n.parent != nil; n = n.parent {
		names = append(names, n.name)
	}
	var b strings.Builder
	for i := len(names) - 1; i >= 0; i-- {
		b.WriteByte('/')
		b.WriteString(names[i])
	}
	return b.String()
}

// within tells whether n is top or lies below it.
func (n *node) within(top *node) bool {
	for ; n != nil; n = n.parent {
		if n == top {
			return true
		}
	}
	return false
}

// attach makes n the child of parent and corrects the sizes above.
func (n *node) attach(parent *node, name string) {
	n.parent, n.name = parent, name
	if parent.children == nil {
		parent.children = map[string]*node{}
	}
	parent.children[name] = n
	parent.grow(n.Size)
}

// detach takes n out of its parent and corrects the sizes above.
func (n *node) detach() {
	if n.parent == nil {
		return
	}
	delete(n.parent.children, n.name)
	n.parent.grow(-n.Size)
	n.parent = nil
}

// grow adds delta to the size of n and of all directories above it.
func (n *node) grow(delta int64) {
	for ; n != nil; n = n.parent {
		n.Size += delta
	}
}

// splitPath returns the parent and last name of a clean path.
func splitPath(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/", path[i+1:]
	}
	return path[:i], path[i+1:]
}

// joinPath returns the path of a child.
func joinPath(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}
