package writeback

import (
	"context"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// attrLull is how long a change of attributes waits for others, so that those of a tree leave
// together, and the next ones of the same entry with it. At a flush it does not.
const attrLull = 500 * time.Millisecond

// dressable tells whether a change may leave with others of its kind. Guarded by store.mu.
func (b *Branch) dressable(c *change) bool {
	return c.kind == opSetAttr && !c.lone && c.source == "" && c.tries < maxBatchTries
}

// gatherAttrs takes the changes of attributes that leave together now: none if it is not
// their time, and then how long that may take. Very few are put among those that go alone.
// Guarded by store.mu.
func (b *Branch) gatherAttrs(now time.Time) (group []*change, wait time.Duration) {
	q := &b.queue
	first, other := q.attrs.top(), q.heap.top()
	switch {
	case first == nil, other != nil && other.before(first):
		return nil, idleLook // it is looked at again after the other one
	case first.due().After(now):
		return nil, first.due().Sub(now)
	case b.pace.why != nil: // one finds out whether a branch that is held can go on
		q.alone(first)
		return nil, 0
	case b.dressing > 0:
		return nil, idleLook // the end of the other one tells
	}
	most := b.dresser.AttrBatches()
	for c := first; c != nil && len(group) < most && !c.retry.After(now); c = q.attrs.top() {
		q.drop(c)
		group = append(group, c)
	}
	if len(group) >= fewest {
		return group, 0
	}
	for _, c := range group {
		q.alone(c)
	}
	return nil, 0
}

// sendAttrs sends a batch of changes of attributes.
func (b *Branch) sendAttrs(ctx context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	list := make([]remote.AttrItem, len(items))
	for i, it := range items {
		list[i] = remote.AttrItem{Path: it.Path, Attrs: it.Attrs}
	}
	return b.dresser.SetAttrBatch(ctx, list)
}
