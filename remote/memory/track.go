package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// defaultJournal is the number of changes that are remembered without Options.Journal.
const defaultJournal = 1 << 16

// journal knows the directories of the last changes, in their order.
type journal struct {
	owner string   // of the marks
	first uint64   // number of the oldest change in paths
	paths []string // as they were when the change was made
	most  int      // at least so many are kept, and less than twice as many
}

// add takes note of a change in dir.
func (j *journal) add(dir string) {
	j.paths = append(j.paths, dir)
	if len(j.paths) >= 2*j.most { // not one by one: that would move all of them each time
		over := len(j.paths) - j.most
		j.first += uint64(over)
		j.paths = slices.Delete(j.paths, 0, over)
	}
}

func (j *journal) mark() string { return fmt.Sprintf("%s %d", j.owner, j.first+uint64(len(j.paths))) }

// since returns the directories of the changes after mark; ok is false if that cannot
// be told.
func (j *journal) since(mark string) (dirs []string, ok bool) {
	var owner string
	var n uint64
	if got, err := fmt.Sscanf(mark, "%s %d", &owner, &n); err != nil || got != 2 || owner != j.owner {
		return nil, false
	}
	if n < j.first || n > j.first+uint64(len(j.paths)) {
		return nil, false
	}
	return j.paths[n-j.first:], true
}

// Changed implements remote.Tracker. It tells all if more has changed than
// Options.Journal.
func (b *Backend) Changed(ctx context.Context, dir, mark string) (remote.Changes, error) {
	if err := b.begin(ctx, "changed", dir); err != nil {
		return remote.Changes{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find("changed", dir)
	switch {
	case err != nil:
		return remote.Changes{}, err
	case n.kind != remote.Dir:
		return remote.Changes{}, fail("changed", dir, remote.NotDir)
	}
	c := remote.Changes{Mark: b.journal.mark()}
	if mark == "" {
		return c, nil
	}
	all, ok := b.journal.since(mark)
	if !ok {
		c.All = true
		return c, nil
	}
	seen := map[string]bool{}
	for _, path := range all {
		if !seen[path] && remote.Within(path, dir) {
			seen[path] = true
			c.Dirs = append(c.Dirs, path)
		}
	}
	return c, nil
}

// track takes note of a change in dir. The time of dir itself may have changed by that,
// so that the directory that shows it counts as well.
func (b *Backend) track(dir *node) {
	if dir == nil {
		dir = b.root
	}
	path := dir.path()
	b.journal.add(path)
	if dir.parent != nil {
		up, _ := remote.Split(path)
		b.journal.add(up)
	}
}

// trackTree takes note of a directory that is at another path now, with all below.
func (b *Backend) trackTree(n *node) {
	if n.kind != remote.Dir {
		return
	}
	b.journal.add(n.path())
	for _, child := range n.children {
		b.trackTree(child)
	}
}

// path returns where n hangs.
func (n *node) path() string {
	if n.parent == nil {
		return "/"
	}
	return remote.Join(n.parent.path(), n.name)
}
