package irods

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strconv"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// store has the server extract the archive and finds out what it has stored. If the
// connection breaks after the extraction, another one serves for the rest.
func (t *batch) store(ctx context.Context) error {
	err := t.finish(ctx)
	if err != nil && t.answered && remote.ContextErr(ctx) == nil && remote.Retryable(err) {
		err = t.finish(ctx)
	}
	switch {
	case err == nil:
		t.conclude()
		return nil
	case !t.sent:
		return sure(err)
	case !t.answered && remote.ContextErr(ctx) == nil:
		t.b.batching.failed(err) // perhaps the server cannot bear the archive
	}
	return doubtful(err)
}

// conclude fills in the entries of what is stored.
func (t *batch) conclude() {
	for _, i := range slices.Clone(t.in) {
		it := t.items[i]
		o := t.seen[t.b.full(it.Path)]
		if o == nil || !t.fits(i, o) {
			t.doubt(i, remote.Unavailable, errors.New("it is not there any more as it was written"))
			continue
		}
		t.results[i].Entry = t.b.objectEntry(it.Path, o)
	}
	if len(t.in) == 0 || t.alien {
		t.b.batching.failed(t.refusal)
	} else {
		t.b.batching.worked()
	}
}

// doubt takes out an item that may be stored nevertheless.
func (t *batch) doubt(i int, kind remote.Kind, cause error) {
	t.fault(i, &remote.Error{Op: opBatch, Path: t.items[i].Path, Kind: kind, Err: cause, Unsure: true})
}

// finish is what store does on one connection.
func (t *batch) finish(ctx context.Context) error {
	return t.b.do(ctx, opBatch, t.root, true, func(s *session) error {
		var err error
		if t.answered {
			_, _, err = t.inspect(ctx, s, nil, nil)
		} else {
			err = t.extract(ctx, s)
		}
		if err == nil {
			err = t.prove(ctx, s)
		}
		if err == nil {
			err = t.restore(ctx, s)
		}
		return err
	})
}

// loadPerFile is what a file counts in bytes for the patience with the extraction: the
// server says nothing meanwhile, which for 1,000 files took up to 15 s (measured on a
// busy machine).
const loadPerFile = 2 << 20

// extract makes the call for the extraction, and those that look at its result, prove the
// guards and remove the archive, in one round trip.
func (t *batch) extract(ctx context.Context, s *session) error {
	calls := []*wire.Call{t.extractCall()}
	for _, g := range t.guards {
		calls = append(calls, sumCall(g.path))
	}
	end := t.b.vigil.watch(ctx, t.b.opts.address(), batchBytes+int64(len(t.in))*loadPerFile)
	results, gone, err := t.inspect(ctx, s, calls, []*wire.Call{t.b.dropCall(t.hidden)})
	end()
	var broken *wire.BrokenError
	t.answered = len(results) > 0
	t.sent = t.answered || errors.As(err, &broken) && broken.Sent
	if t.answered {
		t.refusal = results[0].Err
	}
	t.proved = len(results) == len(calls)
	for i, r := range results[min(1, len(results)):] {
		same, known := sameSum(calls[1+i], r.Err, t.guards[i].data)
		t.proved, t.alien = t.proved && same, t.alien || !known
	}
	t.littered = len(gone) == 0 || gone[0].Err != nil
	return err
}

// extractCall asks for the extraction. The files lie where the archive lies. Many are
// registered at a time.
func (t *batch) extractCall() *wire.Call {
	in := &wire.StructFileExtAndRegInp{Path: t.b.full(t.tar), Collection: t.b.full(t.root)}
	in.Cond.Set(wire.KwDataType, "tar file")
	in.Cond.Set(wire.KwBulk, "")
	return &wire.Call{API: wire.APIStructFileExtAndReg, In: in}
}

// sumCall asks for the checksum of an object, which is computed if there is none.
func sumCall(path string) *wire.Call {
	return &wire.Call{API: wire.APIDataObjChksum, In: &wire.DataObjInp{Path: path}, Out: &wire.STR{}}
}

// dropCall removes a collection with all that is in it.
func (b *Backend) dropCall(rel string) *wire.Call {
	in := &wire.CollInp{Name: b.full(rel)}
	in.Cond.Set(wire.KwForce, "")
	in.Cond.Set(wire.KwRecursive, "")
	return &wire.Call{API: wire.APIRmColl, In: in, Out: &wire.CollOprStat{}}
}

// sameSum compares the answer to sumCall with bytes. known is false if there was an answer
// that cannot be compared.
func sameSum(call *wire.Call, err error, data []byte) (same, known bool) {
	if err != nil {
		return false, true
	}
	return sameBytes(data, parseChecksum(call.Out.(*wire.STR).Text))
}

// inspect asks for all objects of the tree that are new since the archive was stored,
// between calls before and behind that. It returns the results of both, as far as there
// are any.
func (t *batch) inspect(ctx context.Context, s *session, before, behind []*wire.Call) (first, last []wire.Result, err error) {
	objects, marks, levels := t.news()
	cursors := []*cursor{objects, marks}
	if levels != nil {
		cursors = append(cursors, levels)
	}
	all := slices.Clone(before)
	for _, c := range cursors {
		all = append(all, c.page())
	}
	results, err := s.conn.Pipeline(ctx, append(all, behind...))
	first = results[:min(len(results), len(before))]
	last = results[min(len(results), len(all)):]
	if len(results) < len(all) {
		return first, last, err
	}
	for i, c := range cursors {
		if err := c.took(results[len(before)+i].Err); err != nil {
			return first, last, err
		}
	}
	return first, last, t.read(ctx, s, objects, marks, levels)
}

// news asks for the new objects, for our marks on them and, for an administrator, for the
// levels of access.
func (t *batch) news() (objects, marks, levels *cursor) {
	root := t.b.full(t.root)
	tree := wire.Equal(root)
	if slices.ContainsFunc(t.in, func(i int) bool { dir, _ := remote.Split(t.items[i].Path); return dir != t.root }) {
		tree += " || " + wire.Like(wider.Replace(root)+"/%")
	}
	within := func(c *cursor) *cursor {
		return c.most(pageRows).where(wire.ColCollName, tree).where(wire.ColDataID, "> '"+strconv.FormatInt(t.after, 10)+"'")
	}
	objects = within(t.b.askObjects(t.joins))
	objects.in.Select(wire.ColCollName)
	marks = within(ask(t.b.zone, wire.ColMetaDataName, wire.ColMetaDataValue).orderBy(wire.ColDataID)).
		where(wire.ColMetaDataName, ourMarks)
	if !t.joins {
		levels = t.b.ofObjects(within(ask(t.b.zone, wire.ColDataAccessType).orderBy(wire.ColDataID)))
	}
	return objects, marks, levels
}

// read reads the answers to news.
func (t *batch) read(ctx context.Context, s *session, objects, marks, levels *cursor) error {
	t.seen = map[string]*object{}
	if err := eachRow(ctx, s, []*cursor{objects}, func(c *cursor) error { return addObject(t.seen, c) }); err != nil {
		return err
	}
	ids := map[int64]*object{}
	for _, o := range t.seen {
		ids[o.id] = o
	}
	err := eachRow(ctx, s, []*cursor{marks}, func(c *cursor) error {
		id, err := c.number(wire.ColDataID)
		if o := ids[id]; o != nil && err == nil {
			o.marks.set(c.text(wire.ColMetaDataName), c.text(wire.ColMetaDataValue))
		}
		return err
	})
	if err != nil || levels == nil {
		return err
	}
	return eachRow(ctx, s, []*cursor{levels}, func(c *cursor) error {
		id, err := c.number(wire.ColDataID)
		if err != nil {
			return err
		}
		level, err := c.number(wire.ColDataAccessType)
		if o := ids[id]; o != nil && err == nil {
			o.level = max(o.level, int(level))
		}
		return err
	})
}

// prove finds out which files are stored. If the server says that all are and the guards
// are whole, those are that are there with their sizes; otherwise, and where there is a
// checksum already, each is compared by that. What is not there goes alone.
func (t *batch) prove(ctx context.Context, s *session) error {
	trusted := t.refusal == nil && t.proved && !t.b.opts.Checksums
	var doubted []int
	var calls []*wire.Call
	for _, i := range slices.Clone(t.in) {
		path := t.b.full(t.items[i].Path)
		switch o := t.seen[path]; {
		case o == nil:
			t.settle(i, remote.Unsupported, errors.Join(errExtracted, t.refusal))
		case !trusted || !t.untouched(i):
			doubted, calls = append(doubted, i), append(calls, sumCall(path))
		}
	}
	if len(doubted) == 0 {
		return nil
	}
	results, err := s.conn.Pipeline(ctx, calls)
	if err != nil {
		return err
	}
	for n, i := range doubted {
		if err := t.compare(ctx, s, i, calls[n], results[n].Err); err != nil {
			return err
		}
	}
	t.dated = true // now there are checksums
	return nil
}

// fits tells whether the object is whole and of the file's size.
func (t *batch) fits(i int, o *object) bool {
	r, state := o.best()
	return state == whole && r.size == t.items[i].Source.Size()
}

// compare settles a doubted file by its checksum. One with wrong bytes that is ours for
// certain is removed.
func (t *batch) compare(ctx context.Context, s *session, i int, call *wire.Call, refusal error) error {
	path := t.b.full(t.items[i].Path)
	same, err := t.is(i, parseChecksum(call.Out.(*wire.STR).Text))
	switch {
	case refusal != nil:
		t.doubt(i, kindOfErr(refusal), refusal)
	case err != nil:
		t.doubt(i, remote.Unavailable, err)
	case same && t.fits(i, t.seen[path]):
	case t.refusal != nil && t.proved:
		t.settle(i, remote.Exist, errors.New("somebody else has made it meanwhile"))
	case t.refusal != nil:
		t.doubt(i, remote.Corrupt, errors.New("the server has other bytes, or somebody else has made it meanwhile"))
	case !t.untouched(i):
		t.doubt(i, remote.Conflict, errors.New("somebody else has written it since"))
	default:
		err := t.b.discard(ctx, s, path)
		if err != nil && code(err) == 0 {
			return err
		}
		if err != nil {
			t.doubt(i, remote.Corrupt, err)
			return nil
		}
		t.settle(i, remote.Unsupported, errors.New("the server has extracted other bytes"))
	}
	return nil
}

// untouched tells whether an object is as an extraction leaves it: nearly all that write
// change the size or leave a checksum.
func (t *batch) untouched(i int) bool {
	o := t.seen[t.b.full(t.items[i].Path)]
	r, _ := o.best()
	return t.fits(i, o) && r.checksum == ""
}

// is tells whether a file has the checksum.
func (t *batch) is(i int, sum remote.Checksum) (same bool, err error) {
	h := remote.NewHash(sum.Algorithm)
	if h == nil {
		return false, errors.New("the server's checksum is of a kind that is not known")
	}
	r, err := t.items[i].Source.Open()
	if err != nil {
		return false, err
	}
	_, err = io.Copy(h, r)
	if closing := r.Close(); err == nil {
		err = closing
	}
	return hex.EncodeToString(h.Sum(nil)) == sum.Hex, err
}

// restore sets what of times and permission bits is not as asked for, and looks again, in one
// round trip. Where that may come later it is told instead: it takes the server more time than
// all that the batch does, and the other batches can go on meanwhile.
func (t *batch) restore(ctx context.Context, s *session) error {
	var calls []*wire.Call
	var owner []int
	for _, i := range t.in {
		attrs := t.items[i].Attrs
		if t.items[i].Loose {
			attrs.MTime = nil
		}
		path := t.b.full(t.items[i].Path)
		o := t.seen[path]
		if o == nil {
			continue
		}
		if t.items[i].Later {
			t.results[i].Rest = found{object: o}.lacks(attrs)
			continue
		}
		more, err := attrCalls(path, found{object: o}, attrs)
		if err != nil {
			return err
		}
		for _, c := range more {
			calls, owner = append(calls, c), append(owner, i)
		}
	}
	if len(calls) == 0 && !t.dated {
		return nil
	}
	results, _, err := t.inspect(ctx, s, calls, nil)
	if err != nil {
		return err
	}
	t.dated = false
	for n, i := range owner {
		if err := results[n].Err; err != nil && t.results[i].Err == nil {
			t.doubt(i, kindOfErr(err), err)
		}
	}
	return nil
}
