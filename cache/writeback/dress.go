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

// restPatience is how long attributes that a batch of files has left give way to content.
const restPatience = 30 * time.Second

// gatherRest takes attributes that batches of files have left to be set, if they need not give
// way: as long as there are new files that wait to be sent or are under way, the content of
// these is worth more, for a while. Without any it tells how long that may take. Guarded by
// store.mu.
func (b *Branch) gatherRest(now time.Time) (group []*change, wait time.Duration) {
	q := &b.queue
	first := q.rest.top()
	if first == nil || b.dressing > 0 { // the end of the other one tells
		return nil, idleLook
	}
	if d := first.retry.Sub(now); d > 0 {
		return nil, d
	}
	content := b.batching > 0 || q.small.top() != nil
	wanted := first.urgent && b.store.draining == 0
	if d := first.since.Add(restPatience).Sub(now); d > 0 && content && !wanted {
		return nil, d
	}
	most := b.dresser.AttrBatches()
	for c := first; c != nil && len(group) < most && !c.retry.After(now); c = q.rest.top() {
		q.drop(c)
		group = append(group, c)
		if b.pace.why != nil {
			break // one finds out whether a branch that is held can go on
		}
	}
	if len(group) >= fewest {
		return group, 0
	}
	for _, c := range group {
		c.later, c.delay = false, time.Time{}
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
