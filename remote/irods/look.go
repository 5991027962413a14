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
	objects, colls         *cursor
	objectMarks, collMarks *cursor
}

func (b *Backend) glance(path string) *glance {
	dir, name := splitFull(path)
	return &glance{
		objects: ask(b.zone, objectColumns...).orderBy(wire.ColDataID).
			equal(wire.ColCollName, dir).equal(wire.ColDataName, name),
		colls: ask(b.zone, append(collColumns, wire.ColCollID)...).equal(wire.ColCollName, path),
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
	more, err := g.colls.next(ctx, s)
	if err != nil || !more {
		return found{}, err
	}
	x, err := readColl(g.colls)
	if err == nil {
		err = readMarks(ctx, s, g.collMarks, wire.ColMetaCollName, wire.ColMetaCollValue, &x.marks)
	}
	return found{coll: x}, err
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

// look tells what lies at each of some paths of the zone, in one round trip and, where
// somebody else is the owner, another one for the permissions.
func (b *Backend) look(ctx context.Context, s *session, paths ...string) ([]found, error) {
	glances := make([]*glance, len(paths))
	var all []*cursor
	for i, p := range paths {
		glances[i] = b.glance(p)
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
		if err := b.permit(ctx, s, results[i]); err != nil {
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

// after makes calls that change something and then tells what lies at a path, in one
// round trip; the first refusal is the error.
func (b *Backend) after(ctx context.Context, s *session, path string, calls []*wire.Call) (f found, err error) {
	g := b.glance(path)
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
		if err := c.took(results[len(calls)+i].Err); err != nil {
			return f, err
		}
	}
	if f, err = g.result(ctx, s); err == nil {
		err = b.permit(ctx, s, f)
	}
	return f, err
}

// permit finds out the level of access to what was found.
func (b *Backend) permit(ctx context.Context, s *session, f found) error {
	switch {
	case f.object != nil && f.object.owner == b.ownerName():
		f.object.level = levelOwn
	case f.coll != nil && f.coll.owner == b.ownerName():
		f.coll.level = levelOwn
	case f.object != nil:
		return b.askLevel(ctx, s, &f.object.level, wire.ColDataAccessType, wire.ColDataAccessUserID, wire.ColDataID, f.object.id)
	case f.coll != nil:
		return b.askLevel(ctx, s, &f.coll.level, wire.ColCollAccessType, wire.ColCollAccessUserID, wire.ColCollID, f.coll.id)
	}
	return nil
}

// askLevel asks for the highest level that the user or a group has.
func (b *Backend) askLevel(ctx context.Context, s *session, level *int, levelCol, userCol, idCol int, id int64) error {
	ids, err := b.idCondition(ctx, s)
	if err != nil {
		return err
	}
	c := ask(b.zone, levelCol).equal(idCol, strconv.FormatInt(id, 10)).where(userCol, ids)
	for {
		more, err := c.next(ctx, s)
		if err != nil || !more {
			return err
		}
		n, err := c.number(levelCol)
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

// Stat implements remote.Backend. It is one round trip, and one more for what belongs
// to somebody else.
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
	if errors.Is(err, errNotUTF8) {
		return &remote.Error{Op: op, Path: rel, Kind: remote.NotExist, Err: errNotUTF8}
	}
	return err
}
