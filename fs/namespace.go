package fs

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// namespace is the mount table. It is built once and never changes.
type namespace struct {
	branches []*branch           // longest prefix first
	above    map[string][]string // directory above a branch -> names of the next elements
}

func newNamespace(branches []*branch) (*namespace, error) {
	n := &namespace{above: map[string][]string{}}
	var errs []error
	seen := map[string]bool{}
	for _, b := range branches {
		if err := remote.CheckPath("mount", b.prefix); err != nil {
			errs = append(errs, fmt.Errorf("branch %q: %w", b.prefix, err))
			continue
		}
		if seen[b.prefix] {
			errs = append(errs, fmt.Errorf("branch %q is given twice", b.prefix))
		}
		seen[b.prefix] = true
		n.branches = append(n.branches, b)
		for p := b.prefix; p != "/"; {
			dir, name := remote.Split(p)
			if !slices.Contains(n.above[dir], name) {
				n.above[dir] = append(n.above[dir], name)
			}
			p = dir
		}
	}
	if len(branches) == 0 {
		errs = append(errs, errors.New("no branches to mount"))
	}
	slices.SortStableFunc(n.branches, func(a, b *branch) int { return len(b.prefix) - len(a.prefix) })
	return n, errors.Join(errs...)
}

// resolve returns the branch that holds path and the path within it, or nil if no
// branch does.
func (n *namespace) resolve(path string) (*branch, string) {
	for _, b := range n.branches {
		if remote.Within(path, b.prefix) {
			return b, b.rel(path)
		}
	}
	return nil, ""
}

// isRoot tells whether path is the root of a branch.
func (n *namespace) isRoot(path string) bool {
	return slices.ContainsFunc(n.branches, func(b *branch) bool { return b.prefix == path })
}

// fixed tells whether path is the root of a branch or lies above one: such names
// cannot be removed, renamed or replaced.
func (n *namespace) fixed(path string) bool {
	return len(n.above[path]) > 0 || path == "/" || n.isRoot(path)
}

// rel turns a path of the tree into one of the branch.
func (b *branch) rel(path string) string {
	if b.prefix == "/" {
		return path
	}
	if path == b.prefix {
		return "/"
	}
	return path[len(b.prefix):]
}

// abs turns a path of the branch into one of the tree.
func (b *branch) abs(rel string) string {
	switch {
	case b.prefix == "/":
		return rel
	case rel == "/":
		return b.prefix
	}
	return b.prefix + rel
}

// move returns path with its prefix from replaced by to.
func move(path, from, to string) string { return to + strings.TrimPrefix(path, from) }
