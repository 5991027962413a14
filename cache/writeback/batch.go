package writeback

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Batching says which new files leave together, if their server can take many at a time
// (remote.Batcher).
type Batching struct {
	// Size is the largest file of a batch, in bytes; 0: there are no batches.
	Size int64
	// Files and Bytes bound a batch.
	Files int
	Bytes int64
	// Delay is how long a file whose time has come waits for others. A batch that is full (Files
	// or Bytes) waits neither for that nor for Policy.Delay, once nobody has had its files open
	// for a tenth of the latter. At a flush and at the
	// end of the mount it does not; one for which somebody waits (fsync to the server) goes
	// alone.
	Delay time.Duration
}

// within returns the bounds that hold with what the server can do; zero if nothing can
// leave together.
func (p Batching) within(most remote.Batches) Batching {
	p.Size = min(p.Size, most.Size)
	p.Files = min(p.Files, most.Files)
	p.Bytes = min(p.Bytes, most.Bytes)
	if p.Size <= 0 || p.Files <= 1 || p.Bytes < p.Size || most.Parallel < 1 {
		return Batching{}
	}
	return p
}

// fewest is how many files are worth a batch: fewer go each by its own request, at the
// same time.
const fewest = 3

// maxBatchTries is after how many failures a file goes alone.
const maxBatchTries = 3

// small tells whether a change is the upload of a new file that may leave with others.
// Guarded by store.mu.
func (b *Branch) small(c *change) bool {
	return c.kind == opPut && !c.lone && c.base.Type == 0 && c.grow == nil && c.pin == nil && c.token == "" &&
		c.size <= b.policy.Batch.Size && c.tries < maxBatchTries && c.tears < maxTears
}

// batches returns the bounds of batches at present, and how many may be under way.
func (b *Branch) batches() (Batching, int) {
	if b.batcher == nil {
		return Batching{}, 0
	}
	most := b.batcher.Batches()
	return b.policy.Batch.within(most), most.Parallel
}

// gather takes the small files that leave together now: none if it is not their time, and
// then how long that may take. What cannot go in a batch is put among those that go alone.
// Guarded by store.mu.
func (b *Branch) gather(now time.Time) ([]*change, time.Duration) {
	q := &b.queue
	bounds, parallel := b.batches()
	for {
		first := q.small.top()
		if first == nil {
			return nil, idleLook
		}
		if d := first.due().Sub(now); d > 0 {
			group, soon := b.gatherFull(now, bounds, parallel)
			return group, min(d, soon)
		}
		if bounds.Files == 0 || !b.small(first) || first.size > bounds.Size {
			q.alone(first)
			continue
		}
		if b.pace.why != nil { // one finds out whether a branch that is held can go on
			q.alone(first)
			return nil, 0
		}
		if b.batching >= parallel {
			return nil, idleLook // the end of another one tells
		}
		if len(q.small.list) > 1 && !first.urgent && first.tries == 0 { // others come
			if d := first.due().Add(bounds.Delay).Sub(now); d > 0 {
				group, soon := b.gatherFull(now, bounds, parallel)
				return group, min(d, soon)
			}
		}
		if group := b.together(now, bounds); len(group) > 0 {
			return group, 0
		}
	}
}

// together takes those out of the queue that leave now; very few are put among those that
// go alone. Guarded by store.mu.
func (b *Branch) together(now time.Time, bounds Batching) (group []*change) {
	q := &b.queue
	urgent, bytes := q.small.top().urgent, int64(0)
	for c := q.small.top(); c != nil && len(group) < bounds.Files; c = q.small.top() {
		if c.due().After(now) || c.urgent != urgent {
			break
		}
		if !b.small(c) || c.size > bounds.Size {
			q.alone(c) // it has become another since
			continue
		}
		if bytes+c.size > bounds.Bytes {
			break
		}
		bytes += c.size
		q.small.drop(c)
		group = append(group, c)
	}
	if len(group) < fewest {
		for _, c := range group {
			q.alone(c)
		}
		return nil
	}
	return group
}

// batch is files that leave together. Each is carried out by its own job; when all of them
// have come to the point where they would be sent, they are.
type batch struct {
	send   func(context.Context, []remote.BatchItem) ([]remote.BatchResult, error)
	under  *int // guarded by store.mu; the branch's count of those under way
	cancel context.CancelFunc
	ctx    context.Context
	done   chan struct{}

	mu      sync.Mutex
	coming  int // guarded by mu; jobs that have not come here and not ended
	wanted  int // guarded by mu; jobs that wait for the end
	items   []remote.BatchItem
	results []remote.BatchResult // set when done is closed
	err     error                // set when done is closed
	left    int                  // guarded by store.mu; jobs that have not ended
	trouble trouble              // guarded by store.mu; the worst that the pace is to know of
	retry   time.Time            // guarded by store.mu; when what has failed is tried again, together
}

// newBatch begins a batch of small files, or of changes of attributes. Guarded by store.mu.
func (b *Branch) newBatch(group []*change) *batch {
	n := len(group)
	x := &batch{done: make(chan struct{}), coming: n, left: n}
	if group[0].kind == opSetAttr {
		x.send, x.under = b.sendAttrs, &b.dressing
	} else {
		x.send, x.under = b.batcher.PutBatch, &b.batching
	}
	*x.under++
	x.ctx, x.cancel = context.WithCancel(remote.WithoutRetry(b.store.life))
	b.store.log.Debug("changes leave together", "branch", b.policy.Name, "op", group[0].kind.String(), "changes", n)
	return x
}

// errAlone is the outcome of a file that cannot go in a batch.
var errAlone = errors.New("it goes alone")

// put stores an item with the others, when all have come. It waits for the end also if ctx
// ends, as the content is read until then; if all give up, the batch is.
func (x *batch) put(ctx context.Context, it remote.BatchItem) (remote.BatchResult, error) {
	x.mu.Lock()
	n := len(x.items)
	x.items = append(x.items, it)
	x.wanted++
	x.mu.Unlock()
	stop := context.AfterFunc(ctx, x.giveUp)
	defer stop()
	x.come()
	<-x.done
	switch {
	case ctx.Err() != nil && x.err != nil:
		return remote.BatchResult{}, remote.ContextErr(ctx)
	case x.err != nil && remote.KindOf(x.err) == remote.Unsupported, x.err == nil && remote.KindOf(x.results[n].Err) == remote.Unsupported && x.results[n].Err != nil:
		return remote.BatchResult{}, errAlone
	case x.err != nil:
		return remote.BatchResult{}, x.err
	}
	return x.results[n], x.results[n].Err
}

// giveUp ends the batch if nobody wants it any more.
func (x *batch) giveUp() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.wanted--; x.wanted == 0 && x.coming == 0 {
		x.cancel()
	}
}

// come notes that one job has come or ended without; the last one sends.
func (x *batch) come() {
	x.mu.Lock()
	x.coming--
	last := x.coming == 0
	x.mu.Unlock()
	if !last {
		return
	}
	if len(x.items) > 0 {
		x.results, x.err = x.send(x.ctx, x.items)
		if x.err == nil && len(x.results) != len(x.items) {
			x.err = &remote.Error{Op: "put", Path: x.items[0].Path, Kind: remote.Corrupt, Unsure: true, Err: errors.New("the batch has not a result for each file")}
		}
	}
	x.cancel()
	close(x.done)
}

// sendBatched puts the content with others, unless it has become something for which that
// cannot be.
func (j *job) sendBatched(ctx context.Context, p *pin) (remote.Entry, error) {
	x := j.batch
	j.batch = nil // a second time it goes alone
	if j.base.Type != 0 {
		x.come()
		return remote.Entry{}, errAlone
	}
	o := j.options()
	r, err := x.put(ctx, remote.BatchItem{Path: j.path, Source: &counted{p, j.c}, Attrs: o.Attrs, Loose: o.Loose, Later: j.mayFollow(),
		Redo: o.Redo, Tag: o.Tag})
	switch remote.KindOf(err) {
	case remote.NotExist, remote.NotDir, remote.Exist, remote.Conflict, remote.IsDir:
		if err != nil { // what is to be done then takes requests of its own
			return remote.Entry{}, errAlone
		}
	}
	j.rest = r.Rest
	j.rest.Usual = nil
	return r.Entry, err
}

// trouble is what an attempt tells the pace of a branch about its server.
type trouble struct {
	err   error
	asked time.Duration // how long the server asked to wait
	none  bool          // it went well; without it and err there is nothing to tell
}

// worse tells whether t is more for the pace to know than another one.
func (t trouble) worse(than trouble) bool {
	rank := func(t trouble) int {
		switch k := remote.KindOf(t.err); {
		case t.err == nil && t.none:
			return 1
		case t.err == nil:
			return 0
		case k == remote.Auth:
			return 5
		case k == remote.NoSpace:
			return 4
		case k == remote.Unavailable:
			return 3
		}
		return 2
	}
	a, b := rank(t), rank(than)
	return a > b || a == b && t.asked > than.asked
}

// judge has the pace of the branch know how an attempt has ended. Of a batch it hears once,
// of the worst: many files that fail together are not as many troubles of the server, and
// those that went well beside them do not end a hold. Guarded by store.mu.
func (b *Branch) judge(x *batch, t trouble, start, now time.Time) {
	if x != nil {
		if t.worse(x.trouble) {
			x.trouble = t
		}
		if x.left > 0 {
			return
		}
		t = x.trouble
	}
	switch {
	case t.err != nil:
		b.pace.failed(t.err, start, now, t.asked)
	case t.none:
		b.pace.wentWell()
	}
}

// leaveBatch ends a job's part in a batch, and tells whether that was the last one's, or
// it had none: x is the batch that it was begun with. Guarded by store.mu.
func (b *Branch) leaveBatch(x *batch) bool {
	if x == nil {
		return true
	}
	if x.left--; x.left > 0 {
		return false
	}
	*x.under--
	return true
}
