package irods

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// listing is the contents of a collection as they come: rows of objects and of
// collections, sorted by identifier, and beside them what belongs to the rows, sorted
// alike, so that nothing has to be remembered. What is seldom needed is asked for when
// the first row needs it.
type listing struct {
	b     *Backend
	s     *session
	joins bool
	rel   string
	path  string
	out   *outbox

	object *object // read, but perhaps not yet with all its rows
	coll   *collection
	name   string // of either

	objects, colls   *cursor
	marks, collMarks *cursor
	facts            side // the marks of the present table
	levels           side
}

// side is a question whose rows belong to rows of another one, by identifier.
type side struct {
	c       *cursor
	id      int // column of the identifier
	present bool
	over    bool
}

// List implements remote.Backend. A collection with less than 2,500 replicas takes four
// questions in one round trip, which several listings share (see sharing). A larger one
// is begun anew, with three questions, one more for each 2,500 replicas, and one for the
// marks of collections in it. (Replicas count twice where we have two levels of access,
// our own and that of a group.) For an administrator permissions take more.
func (b *Backend) List(ctx context.Context, dir string, yield func(remote.Entry) error) error {
	const op = "list"
	if err := b.check(op, dir); err != nil {
		return absent(op, dir, err)
	}
	out := &outbox{ctx: ctx, yield: yield}
	shared, err := b.listShared(ctx, dir, out)
	if !shared {
		err = b.do(ctx, op, dir, false, func(s *session) error {
			l := &listing{b: b, s: s, rel: dir, path: b.full(dir), out: out}
			defer l.end(ctx)
			return l.run(ctx)
		})
	}
	if err == nil {
		err = out.empty()
	}
	if out.halt != nil {
		return out.halt
	}
	return err
}

// outbox holds entries back while a connection is in use, so that a slow receiver, or
// one that makes calls of its own, holds none. Only a very large listing goes out in
// several parts, to bound the memory.
type outbox struct {
	ctx     context.Context
	yield   func(remote.Entry) error
	waiting []remote.Entry
	any     bool
	halt    error // of yield
}

// outboxMost is how many entries are held back.
const outboxMost = 8 * pageRows

func (o *outbox) add(e remote.Entry) error {
	o.any = true
	o.waiting = append(o.waiting, e)
	if len(o.waiting) < outboxMost {
		return nil
	}
	return o.empty()
}

func (o *outbox) empty() error {
	for _, e := range o.waiting {
		if err := remote.ContextErr(o.ctx); err != nil {
			return err
		}
		if o.halt = o.yield(e); o.halt != nil {
			return o.halt
		}
	}
	o.waiting = o.waiting[:0]
	return nil
}

// ask prepares the questions.
func (l *listing) ask(joins bool) {
	l.joins = joins
	l.objects = l.b.askObjects(joins).most(pageRows).equal(wire.ColCollName, l.path)
	l.colls = l.b.askColls(joins).most(pageRows).equal(wire.ColCollParentName, l.path)
	l.marks = ask(l.b.zone, wire.ColMetaDataName, wire.ColMetaDataValue).most(pageRows).
		orderBy(wire.ColDataID).equal(wire.ColCollName, l.path).where(wire.ColMetaDataName, ourMarks)
	l.collMarks = ask(l.b.zone, wire.ColMetaCollName, wire.ColMetaCollValue).most(pageRows).
		orderBy(wire.ColCollID).equal(wire.ColCollParentName, l.path).where(wire.ColMetaCollName, ourMarks)
}

// run asks the questions and goes through the rows.
func (l *listing) run(ctx context.Context) error {
	joins, err := l.b.joins(ctx, l.s)
	if err != nil {
		return err
	}
	l.ask(joins)
	start := time.Now()
	if err := begin(ctx, l.s, l.objects, l.colls, l.marks); err != nil {
		return err
	}
	if l.objects.out.Rows < 100 {
		l.b.pace.saw(time.Since(start))
	}
	if err := l.rows(ctx); err != nil || l.out.any {
		return err
	}
	return l.mustExist(ctx)
}

// rows goes through the answers.
func (l *listing) rows(ctx context.Context) error {
	l.facts = side{id: wire.ColDataID, c: l.marks}
	if err := l.runObjects(ctx); err != nil {
		return err
	}
	l.marks.end(ctx, l.s)
	l.facts, l.levels = side{id: wire.ColCollID, c: l.collMarks}, side{}
	return l.runColls(ctx)
}

// end gives up what was not read.
func (l *listing) end(ctx context.Context) {
	for _, c := range []*cursor{l.objects, l.colls, l.marks, l.collMarks, l.levels.c} {
		if c != nil {
			c.end(ctx, l.s)
		}
	}
}

// runObjects yields the objects. The rows of one object's replicas follow each other.
func (l *listing) runObjects(ctx context.Context) error {
	for {
		more, err := l.objects.next(ctx, l.s)
		if err != nil {
			return err
		}
		if !more {
			return l.flush(ctx)
		}
		id, err := l.objects.number(wire.ColDataID)
		if err != nil {
			return err
		}
		if l.object != nil && l.object.id == id {
			if err := l.object.addReplica(l.objects); err != nil {
				return err
			}
			continue
		}
		if err := l.flush(ctx); err != nil {
			return err
		}
		if l.object, err = readObject(l.objects); err != nil {
			return err
		}
		l.name = strings.Clone(l.objects.text(wire.ColDataName))
	}
}

// flush yields the object whose replicas are complete.
func (l *listing) flush(ctx context.Context) error {
	o := l.object
	if o == nil {
		return nil
	}
	l.object = nil
	rel := remote.Join(l.rel, l.name)
	if !l.usable(rel) {
		return nil
	}
	err := l.facts.rows(ctx, l.s, o.id, func(c *cursor) error {
		o.marks.set(c.text(wire.ColMetaDataName), c.text(wire.ColMetaDataValue))
		return nil
	})
	if err == nil {
		err = l.level(ctx, o.id, &o.level, wire.ColDataAccessType, func() side {
			c := ask(l.b.zone, wire.ColDataAccessType).most(pageRows).orderBy(wire.ColDataID)
			return side{id: wire.ColDataID, c: l.b.ofObjects(c.equal(wire.ColCollName, l.path))}
		})
	}
	if err != nil {
		return err
	}
	return l.out.add(l.b.objectEntry(rel, o))
}

// runColls yields the collections.
func (l *listing) runColls(ctx context.Context) error {
	for {
		more, err := l.colls.next(ctx, l.s)
		if err != nil {
			return err
		}
		if !more {
			return l.flushColl(ctx)
		}
		id, err := l.colls.number(wire.ColCollID)
		if err != nil {
			return err
		}
		if l.coll != nil && l.coll.id == id {
			if err := l.coll.addLevel(l.colls); err != nil {
				return err
			}
			continue
		}
		if err := l.flushColl(ctx); err != nil {
			return err
		}
		if l.coll, err = readColl(l.colls); err != nil {
			return err
		}
		_, l.name = splitFull(strings.Clone(l.colls.text(wire.ColCollName)))
	}
}

// flushColl yields the collection whose levels are complete.
func (l *listing) flushColl(ctx context.Context) error {
	x := l.coll
	if x == nil {
		return nil
	}
	l.coll = nil
	rel := remote.Join(l.rel, l.name)
	if !l.usable(rel) {
		return nil
	}
	if err := l.collFacts(ctx, x); err != nil {
		return err
	}
	return l.out.add(l.b.collEntry(rel, x))
}

// collFacts finds marks and level of a collection.
func (l *listing) collFacts(ctx context.Context, x *collection) error {
	err := l.facts.rows(ctx, l.s, x.id, func(c *cursor) error {
		x.marks.set(c.text(wire.ColMetaCollName), c.text(wire.ColMetaCollValue))
		return nil
	})
	if err == nil {
		err = l.level(ctx, x.id, &x.level, wire.ColCollAccessType, func() side {
			c := ask(l.b.zone, wire.ColCollAccessType).most(pageRows).orderBy(wire.ColCollID)
			return side{id: wire.ColCollID, c: l.b.ofColls(c.equal(wire.ColCollParentName, l.path))}
		})
	}
	return err
}

// level finds out the highest level of the user and the groups, if it did not come with
// the entry.
func (l *listing) level(ctx context.Context, id int64, level *int, column int, question func() side) error {
	if l.joins {
		return nil
	}
	if l.levels.c == nil {
		l.levels = question()
	}
	return l.levels.rows(ctx, l.s, id, func(c *cursor) error {
		n, err := c.number(column)
		*level = max(*level, int(n))
		return err
	})
}

// usable tells whether a name can be shown in the tree.
func (l *listing) usable(rel string) bool {
	if isHidden(rel) {
		return false
	}
	if err := l.b.check("list", rel); err != nil {
		l.b.opts.Logger.Warn("name left out", "path", rel, "err", err)
		return false
	}
	return true
}

// mustExist tells whether an empty collection is one.
func (l *listing) mustExist(ctx context.Context) error {
	f, err := l.b.lookAt(ctx, l.s, l.path)
	switch {
	case err != nil:
		return err
	case f.object != nil:
		return &remote.Error{Op: "list", Path: l.rel, Kind: remote.NotDir}
	case f.coll == nil:
		return &remote.Error{Op: "list", Path: l.rel, Kind: remote.NotExist}
	}
	return f.coll.listable(l.rel)
}

// listable tells whether the catalog has what is in a collection.
func (x *collection) listable(rel string) error {
	if x.special {
		return &remote.Error{Op: "list", Path: rel, Kind: remote.Unsupported,
			Err: errors.New("a mounted or linked collection: the catalog does not have its entries")}
	}
	return nil
}

// rows calls f for the rows that belong to id, and skips those of smaller ones.
func (d *side) rows(ctx context.Context, s *session, id int64, f func(*cursor) error) error {
	for {
		if !d.present && !d.over {
			more, err := d.c.next(ctx, s)
			if err != nil {
				return err
			}
			d.present, d.over = more, !more
		}
		if d.over {
			return nil
		}
		at, err := d.c.number(d.id)
		if err != nil || at > id {
			return err
		}
		if at == id {
			if err := f(d.c); err != nil {
				return err
			}
		}
		d.present = false
	}
}
