package mount

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/fs"
	"github.com/meshmount/meshmount/remote"
)

func file(ino uint64) *fs.Attr { return &fs.Attr{Ino: ino, Type: remote.File} }
func dir(ino uint64) *fs.Attr  { return &fs.Attr{Ino: ino, Type: remote.Dir} }

// wantPath checks the path of n; "" means that it has lost its name.
func wantPath(t *testing.T, tr *tree, n *node, want string) {
	t.Helper()
	if path, ok := tr.where(n); path != want || ok != (want != "") {
		t.Errorf("path of inode %d is %q (%v), want %q", n.key.ino, path, ok, want)
	}
}

// check tests what must always hold of a tree.
func (t *tree) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	children := map[*node]int{}
	for p, n := range t.byName {
		if n.parent != p.parent || n.name != p.name {
			return fmt.Errorf("inode %d is filed at another place than it has", n.key.ino)
		}
		children[p.parent]++
		if t.byID[p.parent.id] != p.parent {
			return fmt.Errorf("inode %d is in a directory that was dropped", n.key.ino)
		}
	}
	named := 0
	for id, n := range t.byID {
		if n.id != id || t.byKey[n.key] != n {
			return fmt.Errorf("inode %d is filed wrongly", n.key.ino)
		}
		if n.children != children[n] {
			return fmt.Errorf("inode %d counts %d children and has %d", n.key.ino, n.children, children[n])
		}
		if n.lookups == 0 && n.children == 0 {
			return fmt.Errorf("nobody needs inode %d", n.key.ino)
		}
		if n.parent != nil {
			named++
		}
	}
	if len(t.byKey) != len(t.byID) || named != len(t.byName) {
		return fmt.Errorf("%d by number, %d by inode, %d with a name, %d by name",
			len(t.byID), len(t.byKey), named, len(t.byName))
	}
	return nil
}

func TestTreePaths(t *testing.T) {
	tr := newTree(fs.RootIno)
	a := tr.enter(tr.root, "a", dir(10))
	b := tr.enter(a, "b", dir(11))
	f := tr.enter(b, "f", file(12))
	wantPath(t, tr, tr.root, "/")
	wantPath(t, tr, f, "/a/b/f")
	tr.rename(place{tr.root, "a"}, place{tr.root, "c"})
	wantPath(t, tr, f, "/c/b/f")
	g := tr.enter(b, "g", file(13))
	tr.rename(place{b, "f"}, place{b, "g"}) // over g
	wantPath(t, tr, f, "/c/b/g")
	wantPath(t, tr, g, "")
	tr.remove(b, "g")
	wantPath(t, tr, f, "")
	if n := tr.enter(b, "g", file(14)); n == f || n == g {
		t.Error("a new inode got an old node")
	}
	if n := tr.enter(b, "f2", file(12)); n != f {
		t.Error("a known inode got a new node")
	}
	wantPath(t, tr, f, "/c/b/f2")
	tr.remove(tr.root, "c")
	wantPath(t, tr, f, "")
	if err := tr.check(); err != nil {
		t.Error(err)
	}
}

// The kernel may forget a directory before what is in it.
func TestTreeForget(t *testing.T) {
	tr := newTree(fs.RootIno)
	a := tr.enter(tr.root, "a", dir(10))
	f := tr.enter(a, "f", file(11))
	tr.enter(a, "f", file(11))
	tr.forget(a.id, 1)
	tr.forget(f.id, 1)
	wantPath(t, tr, f, "/a/f")
	if again := tr.enter(tr.root, "a", dir(10)); again != a {
		t.Error("a directory with known children got another node")
	}
	tr.forget(a.id, 1)
	tr.forget(f.id, 1)
	if len(tr.byID) != 1 || len(tr.byKey) != 1 || len(tr.byName) != 0 {
		t.Errorf("left: %d by number, %d by inode, %d by name", len(tr.byID), len(tr.byKey), len(tr.byName))
	}
	tr.forget(f.id, 5)
	tr.forget(tr.root.id, 1)
	if tr.node(tr.root.id) != tr.root {
		t.Error("the root was forgotten")
	}
}

func TestTreeNoCycle(t *testing.T) {
	tr := newTree(fs.RootIno)
	a := tr.enter(tr.root, "a", dir(10))
	b := tr.enter(a, "b", dir(11))
	tr.enter(b, "x", dir(10))         // a directory below itself
	tr.enter(b, "y", dir(fs.RootIno)) // the root below itself
	wantPath(t, tr, b, "/a/b")
	if err := tr.check(); err != nil {
		t.Error(err)
	}
}

func TestTreeTypeChange(t *testing.T) {
	tr := newTree(fs.RootIno)
	f := tr.enter(tr.root, "x", file(10))
	d := tr.enter(tr.root, "x", dir(10))
	if f == d {
		t.Fatal("a node changed its type")
	}
	wantPath(t, tr, f, "")
	wantPath(t, tr, d, "/x")
	if ids := tr.known(10); len(ids) != 2 {
		t.Errorf("inode 10 has the numbers %v", ids)
	}
	if id, ok := tr.find("/x"); !ok || id != d.id {
		t.Errorf("find: %d, %v", id, ok)
	}
	if _, ok := tr.find("/x/y/z"); ok {
		t.Error("found what is not there")
	}
}

// modelTree is the same as tree, as a map from path to inode.
type modelTree map[string]uint64

func (m modelTree) move(from, to string) {
	m.drop(to)
	for p, ino := range m {
		if remote.Within(p, from) {
			delete(m, p)
			m[to+strings.TrimPrefix(p, from)] = ino
		}
	}
}

func (m modelTree) drop(path string) {
	for p := range m {
		if remote.Within(p, path) {
			delete(m, p)
		}
	}
}

func TestTreeModel(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	tr := newTree(fs.RootIno)
	model := modelTree{"/": fs.RootIno}
	nodes := map[uint64]*node{fs.RootIno: tr.root} // by inode; all are directories
	ino := uint64(100)
	anyDir := func() string {
		for p := range model {
			return p
		}
		return "/"
	}
	for step := range 20_000 {
		dirPath, name := anyDir(), fmt.Sprint(rnd.IntN(4))
		parent, path := nodes[model[dirPath]], remote.Join(dirPath, name)
		switch rnd.IntN(4) {
		case 0:
			if len(path) > 12 || model[path] != 0 {
				continue
			}
			ino++
			nodes[ino] = tr.enter(parent, name, dir(ino))
			model[path] = ino
		case 1:
			tr.remove(parent, name)
			model.drop(path)
		case 2:
			from := anyDir()
			if from == "/" || remote.Within(path, from) || remote.Within(from, path) {
				continue
			}
			up, last := remote.Split(from)
			tr.rename(place{nodes[model[up]], last}, place{parent, name})
			model.move(from, path)
		case 3:
			if n := nodes[model[path]]; n != nil {
				tr.enter(parent, name, dir(n.key.ino))
			}
		}
		if step%100 != 0 {
			continue
		}
		paths := map[uint64]string{}
		for p, i := range model {
			paths[i] = p
		}
		for i, n := range nodes {
			if got, _ := tr.where(n); got != paths[i] {
				t.Fatalf("seed %d, step %d: inode %d is at %q, want %q", seed, step, i, got, paths[i])
			}
		}
		if err := tr.check(); err != nil {
			t.Fatalf("seed %d, step %d: %v", seed, step, err)
		}
	}
	for _, n := range nodes {
		tr.forget(n.id, 1<<40)
	}
	if len(tr.byID) != 1 || len(tr.byName) != 0 {
		t.Errorf("seed %d: %d nodes and %d names are left", seed, len(tr.byID), len(tr.byName))
	}
}
