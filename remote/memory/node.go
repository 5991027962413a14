package memory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// node is one object of the tree. Backend.mu guards all fields; the bytes of data
// are never changed in place while readers may see them, so a slice of it stays good
// without the lock.
type node struct {
	kind      remote.Type
	parent    *node
	name      string           // in parent
	children  map[string]*node // of a directory
	data      []byte           // of a file
	tear      *tear            // of a file, nil if it is whole
	sum       string           // of data, if checksums are shown
	target    string           // of a symbolic link
	mtime     time.Time
	changed   time.Time // last change of the content, by our clock
	mode      uint32
	modeKnown bool
	xattrs    map[string][]byte // by full name, the values are never changed in place
	version   uint64
	id        uint64
}

// newNode returns a node of its own identity that hangs nowhere. mu is held, or b
// is not shared yet.
func (b *Backend) newNode(kind remote.Type) *node {
	b.serial++
	n := &node{kind: kind, id: b.serial}
	if kind == remote.Dir {
		n.children = map[string]*node{}
	}
	b.renew(n)
	return n
}

// renew gives n a new version and the present time.
func (b *Backend) renew(n *node) {
	b.serial++
	n.version = b.serial
	n.changed = b.opts.Clock()
	n.mtime = b.cut(n.changed)
}

// touch tells the directories above a change of it. With childrenChanged the
// nearest one has another set of children.
func (b *Backend) touch(dir *node, childrenChanged bool) {
	b.track(dir)
	if dir != nil && childrenChanged {
		b.renew(dir)
		dir = dir.parent
	}
	for ; dir != nil && b.opts.Propagate; dir = dir.parent {
		b.serial++
		dir.version = b.serial
	}
}

func (b *Backend) cut(t time.Time) time.Time {
	if b.opts.Granularity > 0 {
		return t.Truncate(b.opts.Granularity)
	}
	return t.Round(0)
}

// find walks to path: NotExist if an element is missing, NotDir if one on the way
// is no directory.
func (b *Backend) find(op, path string) (*node, error) {
	n := b.root
	if path == "/" {
		return n, nil
	}
	for rest := path[1:]; ; {
		name, tail, more := strings.Cut(rest, "/")
		if n.kind != remote.Dir {
			return nil, fail(op, path, remote.NotDir)
		}
		next, ok := n.children[name]
		if !ok {
			return nil, fail(op, path, remote.NotExist)
		}
		if n = next; !more {
			return n, nil
		}
		rest = tail
	}
}

// place is where an entry is or could be: its directory, which exists, its name,
// and the node there, nil if there is none.
type place struct {
	path, name string
	dir, node  *node
}

// place finds where path is or could be. NotExist and NotDir speak of the parent.
// It must not be asked for "/".
func (b *Backend) place(op, path string) (place, error) {
	parent, name := remote.Split(path)
	dir, err := b.find(op, parent)
	switch {
	case err != nil:
		return place{}, fail(op, path, remote.KindOf(err))
	case dir.kind != remote.Dir:
		return place{}, fail(op, path, remote.NotDir)
	}
	return place{path, name, dir, dir.children[name]}, nil
}

// put hangs n at the place, in the stead of what was there.
func (b *Backend) put(at place, n *node) {
	n.parent, n.name = at.dir, at.name
	at.dir.children[at.name] = n
	b.touch(at.dir, true)
	b.trackTree(n)
}

// drop takes away what is at the place, with all below it.
func (b *Backend) drop(at place) {
	b.used -= at.node.size()
	delete(at.dir.children, at.name)
	b.touch(at.dir, true)
}

// size is the number of bytes in n and below it.
func (n *node) size() int64 {
	total := int64(len(n.data))
	for _, child := range n.children {
		total += child.size()
	}
	return total
}

// entry shows n as the entry at path.
func (b *Backend) entry(path string, n *node) remote.Entry {
	e := remote.Entry{
		Path: path, Type: n.kind, MTime: n.mtime, Target: n.target,
		Version: fmt.Sprintf("v%d", n.version), ID: fmt.Sprintf("id%d", n.id),
		Mode: n.mode, ModeKnown: n.modeKnown,
	}
	if b.opts.Access&remote.AccessKnown != 0 {
		e.Access = b.opts.Access
	}
	if n.kind != remote.File {
		return e
	}
	e.Size = int64(len(n.data))
	if n.sum != "" {
		e.Checksum = remote.Checksum{Algorithm: "sha256", Hex: n.sum}
	}
	if b.opts.WeakVersions {
		when := b.cut(n.changed)
		e.Version = fmt.Sprintf("w%d-%d", len(n.data), when.UnixNano())
		e.Provisional = b.opts.Clock().Before(when.Add(b.opts.Granularity))
	}
	return e
}

// setData gives a file other content.
func (b *Backend) setData(n *node, data []byte) {
	b.used += int64(len(data)) - int64(len(n.data))
	n.data, n.tear = data, nil
	if b.opts.Checksums {
		sum := sha256.Sum256(data)
		n.sum = hex.EncodeToString(sum[:])
	}
	b.renew(n)
}

// setAttrs sets what is kept of a.
func (b *Backend) setAttrs(n *node, a remote.Attrs) {
	if a.MTime != nil && !b.opts.NoMTime {
		n.mtime = b.cut(*a.MTime)
	}
	if a.Mode != nil && !b.opts.NoMode && (n.modeKnown || !a.Spares(n.kind)) {
		n.mode, n.modeKnown = *a.Mode&0o7777, true
	}
}

// checkVersion tells whether n still has the wanted version, if one is wanted.
func (b *Backend) checkVersion(op, path string, n *node, want string, kind remote.Kind) error {
	if want != "" && b.entry(path, n).Version != want {
		return fail(op, path, kind)
	}
	return nil
}

// begin checks what every call checks before it does anything.
func (b *Backend) begin(ctx context.Context, op, path string) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := b.alive(ctx, op, path); err != nil {
		return err
	}
	return remote.CheckPath(op, path)
}

// alive is checked again whenever the lock was not held for a while.
func (b *Backend) alive(ctx context.Context, op, path string) error {
	if b.closed {
		return fail(op, path, remote.BadHandle)
	}
	return remote.ContextErr(ctx)
}

// beginChange adds to begin what changes need: a branch that takes them and a name
// that the branch takes.
func (b *Backend) beginChange(ctx context.Context, op, path string) error {
	if err := b.begin(ctx, op, path); err != nil {
		return err
	}
	if b.Caps().ReadOnly {
		return fail(op, path, remote.ReadOnly)
	}
	_, name := remote.Split(path)
	if b.opts.MaxName > 0 && len(name) > b.opts.MaxName {
		return fail(op, path, remote.NameTooLong)
	}
	if b.opts.RefuseName != nil && name != "" && b.opts.RefuseName(name) {
		return fail(op, path, remote.Invalid)
	}
	return nil
}
