package irods

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// found is what lies at a path: an object, a collection or nothing.
type found struct {
	object *object
	coll   *collection
}

// glance is the questions that tell what lies at a path.
type glance struct {
	joins                  bool
	objects, colls         *cursor
	objectMarks, collMarks *cursor
}

func (b *Backend) glance(path string, joins bool) *glance {
	dir, name := splitFull(path)
	return &glance{
		joins:   joins,
		objects: b.askObjects(joins).equal(wire.ColCollName, dir).equal(wire.ColDataName, name),
		colls:   b.askColls(joins).equal(wire.ColCollName, path),
		objectMarks: ask(b.zone, wire.ColMetaDataName, wire.ColMetaDataValue).
			equal(wire.ColCollName, dir).equal(wire.ColDataName, name).where(wire.ColMetaDataName, ourMarks),
		collMarks: ask(b.zone, wire.ColMetaCollName, wire.ColMetaCollValue).
			equal(wire.ColCollName, path).where(wire.ColMetaCollName, ourMarks),
	}
}

// ourMarks is the condition that an AVU is one of marks.
const ourMarks = "in ('" + markMode + "','" + markTarget + "')"

func (g *glance) cursors() []*cursor {
	return []*cursor{g.objects, g.colls, g.objectMarks, g.collMarks}
}

// result reads the answers.
func (g *glance) result(ctx context.Context, s *session) (found, error) {
	o, err := readAlike(ctx, s, g.objects)
	if err != nil || o != nil {
		if o != nil {
			err = readMarks(ctx, s, g.objectMarks, wire.ColMetaDataName, wire.ColMetaDataValue, &o.marks)
		}
		return found{object: o}, err
	}
	x, err := readOneColl(ctx, s, g.colls)
	if err == nil && x != nil {
		err = readMarks(ctx, s, g.collMarks, wire.ColMetaCollName, wire.ColMetaCollValue, &x.marks)
	}
	return found{coll: x}, err
}

// readOneColl reads one collection with all its levels; nil if there is none.
func readOneColl(ctx context.Context, s *session, c *cursor) (x *collection, err error) {
	for {
		more, err := c.next(ctx, s)
		switch {
		case err != nil || !more:
			return x, err
		case x == nil:
			x, err = readColl(c)
		default:
			err = x.addLevel(c)
		}
		if err != nil {
			return nil, err
		}
	}
}

// readAlike reads one object with all its replicas; nil if there is none.
func readAlike(ctx context.Context, s *session, c *cursor) (o *object, err error) {
	for {
		more, err := c.next(ctx, s)
		switch {
		case err != nil || !more:
			return o, err
		case o == nil:
			o, err = readObject(c)
		default:
			err = o.addReplica(c)
		}
		if err != nil {
			return nil, err
		}
	}
}

func readMarks(ctx context.Context, s *session, c *cursor, name, value int, into *marks) error {
	for {
		more, err := c.next(ctx, s)
		if err != nil || !more {
			return err
		}
		into.set(c.text(name), c.text(value))
	}
}

// look tells what lies at each of some paths of the zone, in one round trip; for an
// administrator, the permissions take another one for each path.
func (b *Backend) look(ctx context.Context, s *session, paths ...string) ([]found, error) {
	joins, err := b.joins(ctx, s)
	if err != nil {
		return nil, err
	}
	glances := make([]*glance, len(paths))
	var all []*cursor
	for i, p := range paths {
		glances[i] = b.glance(p, joins)
		all = append(all, glances[i].cursors()...)
	}
	start := time.Now()
	if err := begin(ctx, s, all...); err != nil {
		return nil, err
	}
	b.pace.saw(time.Since(start))
	results := make([]found, len(paths))
	for i, g := range glances {
		var err error
		if results[i], err = g.result(ctx, s); err != nil {
			return nil, err
		}
		if err := b.permit(ctx, s, g, results[i]); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// lookAt is look at one path.
func (b *Backend) lookAt(ctx context.Context, s *session, path string) (found, error) {
	list, err := b.look(ctx, s, path)
	if err != nil {
		return found{}, err
	}
	return list[0], nil
}

// unseen is the error of a look after a change that the server has made.
type unseen struct{ err error }

func (u unseen) Error() string { return "it was made, but then: " + u.err.Error() }

// after makes calls that change something and then tells what lies at a path, in one
// round trip. The first refusal of a call is the error; that of the look is unseen.
func (b *Backend) after(ctx context.Context, s *session, path string, calls []*wire.Call) (f found, err error) {
	joins, err := b.joins(ctx, s)
	if err != nil {
		return f, err
	}
	g := b.glance(path, joins)
	cursors := g.cursors()
	all := slices.Clone(calls)
	for _, c := range cursors {
		all = append(all, c.page())
	}
	results, err := s.conn.Pipeline(ctx, all)
	for _, r := range results[:min(len(results), len(calls))] {
		if r.Err != nil {
			return f, r.Err
		}
	}
	if err != nil {
		return f, err
	}
	for i, c := range cursors {
		if err == nil {
			err = c.took(results[len(calls)+i].Err)
		}
	}
	if err == nil {
		f, err = g.result(ctx, s)
	}
	if err == nil {
		err = b.permit(ctx, s, g, f)
	}
	if code(err) != 0 {
		err = unseen{err}
	}
	return f, err
}

// permit finds out the level of access to what was found, if it did not come with it.
func (b *Backend) permit(ctx context.Context, s *session, g *glance, f found) error {
	switch {
	case g.joins:
	case f.object != nil:
		c := ask(b.zone, wire.ColDataAccessType).equal(wire.ColDataID, strconv.FormatInt(f.object.id, 10))
		return readLevel(ctx, s, b.ofObjects(c), wire.ColDataAccessType, &f.object.level)
	case f.coll != nil:
		c := ask(b.zone, wire.ColCollAccessType).equal(wire.ColCollID, strconv.FormatInt(f.coll.id, 10))
		return readLevel(ctx, s, b.ofColls(c), wire.ColCollAccessType, &f.coll.level)
	}
	return nil
}

// readLevel reads the highest level that the user or a group has.
func readLevel(ctx context.Context, s *session, c *cursor, column int, level *int) error {
	for {
		more, err := c.next(ctx, s)
		if err != nil || !more {
			return err
		}
		n, err := c.number(column)
		if err != nil {
			return err
		}
		*level = max(*level, int(n))
	}
}

// entry turns what was found into an entry, or NotExist.
func (b *Backend) entry(op, rel string, f found) (remote.Entry, error) {
	switch {
	case f.object != nil:
		return b.objectEntry(rel, f.object), nil
	case f.coll != nil:
		return b.collEntry(rel, f.coll), nil
	}
	return remote.Entry{}, &remote.Error{Op: op, Path: rel, Kind: remote.NotExist}
}

// Stat implements remote.Backend. It is one round trip; for an administrator it is two.
func (b *Backend) Stat(ctx context.Context, path string) (e remote.Entry, err error) {
	const op = "stat"
	if err := b.check(op, path); err != nil {
		return e, absent(op, path, err)
	}
	err = b.do(ctx, op, path, false, func(s *session) error {
		e, err = b.statWith(ctx, s, op, path)
		return err
	})
	return e, err
}

func (b *Backend) statWith(ctx context.Context, s *session, op, rel string) (remote.Entry, error) {
	f, err := b.lookAt(ctx, s, b.full(rel))
	if err != nil {
		return remote.Entry{}, err
	}
	return b.entry(op, rel, f)
}

// absent turns the refusal of a name that cannot be in the zone into NotExist, for
// those who only look.
func absent(op, rel string, err error) error {
	if errors.Is(err, errNotUTF8) || errors.Is(err, errHidden) {
		return &remote.Error{Op: op, Path: rel, Kind: remote.NotExist, Err: errors.Unwrap(err)}
	}
	return err
}
