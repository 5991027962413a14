package webdav

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/meshmount/meshmount/remote"
)

// Bounds of a batch. A file of more than batchFile loses little by going alone.
const (
	batchFiles = 500
	batchBytes = 64 << 20
	batchFile  = 1 << 20
)

// batchFaults is how many files of a batch may meet a server that is away until the
// others are not sent any more.
const batchFaults = 4

// Batches implements remote.Batcher. It is zero where a new file goes to a temporary name
// first: what a batch could save there is one look in three or four requests.
func (b *Backend) Batches() remote.Batches {
	if !b.traits.putsNew() {
		return remote.Batches{}
	}
	return remote.Batches{Files: batchFiles, Bytes: batchBytes, Size: batchFile, Parallel: 2}
}

// putsNew tells whether a new file is stored by one PUT that the server itself refuses if
// there is something.
func (t *traits) putsNew() bool { return t.fresh == wayPut && t.noneMatch && !t.deepMkcol }

// PutBatch implements remote.Batcher. A file costs one PUT, many at a time over connections
// that are there, and what has arrived is looked at by one listing for each directory.
// Nextcloud takes many files in one request, see bulkupload.go; what that does not store
// goes by PUT. A time that is to be kept, and a mode, cost a PROPPATCH each on servers that
// do not take them with the file.
func (b *Backend) PutBatch(ctx context.Context, items []remote.BatchItem) ([]remote.BatchResult, error) {
	ctx, _, done, err := b.begin(ctx, "put", "/")
	if err != nil {
		return nil, err
	}
	defer done()
	results := make([]remote.BatchResult, len(items))
	r := &batch{b: b}
	for i, it := range items {
		r.add(it, &results[i])
	}
	r.run(ctx)
	return results, nil
}

// batch is one PutBatch.
type batch struct {
	b   *Backend
	all []*member // those that may go in it

	faults atomic.Int32                 // meetings with a server that is away
	halt   atomic.Pointer[remote.Error] // why no more is sent, or nil
}

// member is a file of a batch on its way. It belongs to one goroutine at a time.
type member struct {
	*upload
	result *remote.BatchResult
	later  bool // attributes that cost a request may be set later

	phase phase
	err   error  // of a PUT, not explained yet
	sent  stored // what the server said when it took the file
	bulk  bool   // it came by the bulk upload

	// What a look showed: what is there, or why that is not known (NotExist: nothing is,
	// perhaps because there is no such directory).
	seen    *found
	seenErr error
	orphan  bool
}

// phase is how far a member is.
type phase uint8

const (
	pending phase = iota // nothing is known to have been done
	doubted              // a server that did not say so may have stored it
	refused              // a PUT was, see member.err
	taken                // the server says that it has it
	over                 // its result is there
)

// add makes a member of an item, or gives it its result at once.
func (r *batch) add(it remote.BatchItem, result *remote.BatchResult) {
	c := &call{b: r.b, op: "put", path: it.Path}
	if result.Err = remote.CheckPath(c.op, it.Path); result.Err == nil {
		result.Err = c.checkItem(it)
	}
	if result.Err != nil {
		return
	}
	u := &upload{c: c, path: it.Path, src: it.Source, exclusive: true, way: wayPut, opts: remote.PutOptions{
		Cond: remote.Cond{NotExist: true}, Attrs: it.Attrs, Loose: it.Loose, Redo: it.Redo, Tag: it.Tag,
	}}
	r.all = append(r.all, &member{upload: u, result: result, later: it.Later})
}

// checkItem finds out whether an item may go in a batch.
func (c *call) checkItem(it remote.BatchItem) error {
	switch {
	case it.Path == "/":
		return c.fail(remote.IsDir, nil)
	case it.Source.Size() > c.b.Batches().Size:
		return c.failf(remote.Unsupported, "this file is to be stored alone")
	}
	return c.checkName(it.Path)
}

// run stores all members.
func (r *batch) run(ctx context.Context) {
	if r.b.bulk.on() {
		r.bulkUpload(ctx)
	}
	r.b.Warm(min(len(r.at(pending)), cap(r.b.lanes)))
	r.each(ctx, r.at(pending), (*member).send)
	r.explainAll(ctx)
	r.lookAtTaken(ctx)
	r.each(ctx, r.at(taken), func(m *member, ctx context.Context, _ *batch) { m.finish(ctx) })
}

// at returns the members in a phase.
func (r *batch) at(p phase) []*member {
	var some []*member
	for _, m := range r.all {
		if m.phase == p {
			some = append(some, m)
		}
	}
	return some
}

// each calls f for members, some at a time.
func (r *batch) each(ctx context.Context, some []*member, f func(*member, context.Context, *batch)) {
	r.b.inLanes(ctx, len(some), func(i int) { f(some[i], ctx, r) })
}

// inLanes calls f for 0 to n-1. Over all batches of the backend as many run at a time as
// it has connections for; a few are left to who waits for something else. Once ctx has
// ended nobody waits: f will not get far.
func (b *Backend) inLanes(ctx context.Context, n int, f func(int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, cap(b.lanes)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				b.inLane(ctx, func() { f(i) })
			}
		})
	}
	wg.Wait()
}

// inLane calls f once there is room for its requests.
func (b *Backend) inLane(ctx context.Context, f func()) {
	select {
	case b.lanes <- struct{}{}:
		defer func() { <-b.lanes }()
	case <-ctx.Done():
	}
	f()
}

// send stores one file by PUT. A busy server closes connections that wait for the next
// request, sometimes while that is on its way (Apache does when all its workers are busy):
// it is sent again then, which the condition makes safe.
func (m *member) send(ctx context.Context, r *batch) {
	lost := false // a request whose answer was lost may have stored it
	for try := 1; m.phase == pending; try++ {
		if err := r.stopped(ctx, m); err != nil {
			m.fail(sureUnless(lost, err))
			return
		}
		s, err := m.storePut(ctx)
		kind := remote.KindOf(err)
		cut := kind == remote.Unavailable && statusOf(err) == 0
		var e *remote.Error
		lost = lost || errors.As(err, &e) && e.Unsure
		switch {
		case err == nil:
			m.phase, m.sent = taken, s
		case (kind == remote.Locked || cut) && try <= len(patience) && sleep(ctx, patience[try-1]):
		case lost && kind == remote.Exist:
			m.fail(unsure(m.c.failf(remote.Unavailable, "there is a file, perhaps by a request whose answer was lost")))
		default:
			r.note(err)
			m.phase, m.err = refused, sureUnless(lost, err)
		}
	}
}

// sureUnless marks err if a request before it may have changed something.
func sureUnless(lost bool, err error) error {
	if lost {
		return unsure(err)
	}
	return err
}

// stopped tells why nothing more is sent for m, if so.
func (r *batch) stopped(ctx context.Context, m *member) error {
	if halt := r.halt.Load(); halt != nil {
		return m.c.adapt(halt)
	}
	return remote.ContextErr(ctx)
}

// note takes note of what is against sending more: credentials that are refused, a server
// that asks for a pause or is away.
func (r *batch) note(err error) {
	var e *remote.Error
	if !errors.As(err, &e) {
		return
	}
	away := e.Kind == remote.Unavailable && statusOf(err) != http.StatusInternalServerError
	switch {
	case e.Kind == remote.Auth, away && e.RetryAfter > 0, away && r.faults.Add(1) >= batchFaults:
		halt := *e
		halt.Unsure = false
		r.halt.CompareAndSwap(nil, &halt)
	}
}

// fail ends a member with an error.
func (m *member) fail(err error) { m.phase, m.result.Err = over, err }

// adapt makes an error of another call one of this.
func (c *call) adapt(err error) error {
	var e *remote.Error
	if !errors.As(err, &e) {
		return err
	}
	own := *e
	own.Op, own.Path = c.op, c.path
	return &own
}

// explainAll finds out what the refusals of PUTs mean. What is found out of one file is
// taken to be so of the others in its directory that got the same answer.
func (r *batch) explainAll(ctx context.Context) {
	type reason struct {
		dir    string
		status int
	}
	groups := map[reason][]*member{}
	var order []reason
	for _, m := range r.at(refused) {
		status := statusOf(m.err)
		if !ambiguous(status) {
			m.fail(m.err)
			continue
		}
		dir, _ := remote.Split(m.path)
		if at := (reason{dir, status}); groups[at] == nil {
			order = append(order, at)
		}
		groups[reason{dir, status}] = append(groups[reason{dir, status}], m)
	}
	r.b.inLanes(ctx, len(order), func(i int) { explainGroup(ctx, groups[order[i]]) })
}

// explainGroup explains the refusals of one kind in one directory.
func explainGroup(ctx context.Context, some []*member) {
	shared := remote.Other
	for _, m := range some {
		var e *remote.Error
		if errors.As(m.err, &e) && !e.Unsure && shared != remote.Other && e.Kind != remote.Exist {
			m.fail(m.c.fail(shared, e.Err))
			continue
		}
		err := m.explain(ctx, m.err)
		m.fail(err)
		switch kind := remote.KindOf(err); kind {
		case remote.NotExist, remote.NotDir, remote.Permission, remote.Unavailable:
			shared = kind
		}
	}
}

// lookAtTaken looks at what the server has taken, as far as its answers do not say enough.
func (r *batch) lookAtTaken(ctx context.Context) {
	var some []*member
	for _, m := range r.at(taken) {
		if f, ok := m.known(m.sent); ok {
			m.seen = &f
			continue
		}
		some = append(some, m)
	}
	r.look(ctx, some)
}

// finish compares what is there with what was sent and sets the attributes that did not
// come with the file.
func (m *member) finish(ctx context.Context) {
	if m.seen == nil {
		m.fail(unsure(m.c.adapt(m.seenErr)))
		return
	}
	if m.bulk {
		if id := m.sent.id; id != "" && m.seen.ID != "" && id != m.seen.ID {
			m.fail(unsure(m.c.failf(remote.Unavailable, "the server shows another file than it says to have stored")))
			return
		}
		m.sent.tag = "" // what is seen counts
	}
	if m.later {
		m.rest = &m.result.Rest
	}
	f, err := m.settleAs(ctx, *m.seen, m.sent)
	m.phase, m.result.Entry, m.result.Err = over, f.Entry, err
}
