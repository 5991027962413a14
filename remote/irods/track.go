package irods

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// The catalog has no journal. What it has, by the server's source (5.0.2):
//
//   - The making, removal and renaming of an entry, and a put in one call, set the modify
//     time of the collections concerned to the server's clock, after the change itself.
//   - An overwrite sets the modify time of the object, its end also the size.
//   - A touch sets any time, also a past one, and nothing else.
//   - Changes of permissions and of AVUs change no time of the entry. An AVU has a time of
//     its own, but entries with the same AVU share it, and one that is gone leaves none.
//   - Bulk registration and the unpacking of archives change no time of a collection.
//
// So a tree is asked for fingerprints, one row of sums for each collection: identifiers,
// sizes, states, the first and the last modify time, levels of access and our own AVUs. Of
// a tree with more than mostColls collections only what has a time since the mark is
// asked for, and objects with higher identifiers.

const (
	// mostColls bounds the rows of an answer, and so the directories that are told.
	mostColls = 1000
	// mostKept is how many fingerprints of a large tree are kept from call to call
	// before the time of the mark moves on.
	mostKept = 200
	// settling is the time after which nothing can be changed any more under the second
	// that a time stamp shows.
	settling = 2 * time.Second
	// slack is by how far the clocks of a zone's servers may differ.
	slack = 10 * time.Second
)

// Changed implements remote.Tracker. It is one round trip of four questions, six for an
// administrator, whatever the number of objects; two if the tree has more than 1,000
// collections and there is no mark or too much has changed.
//
// In a tree of up to 1,000 collections it tells everything that an entry shows, whoever
// has made the change, but for this: the modify time of an object that is set back by
// another program to one between those of others in the collection, without a change of
// the bytes; and two changes that cancel out in the sums.
//
// In a larger tree it does not tell of changes of permissions, of the removal of mode bits
// (not their setting), and of modify times that are set back: nothing in the catalog shows
// them to who asks for what is recent.
func (b *Backend) Changed(ctx context.Context, dir, mark string) (c remote.Changes, err error) {
	const op = "changed"
	if err := b.check(op, dir); err != nil {
		return c, absent(op, dir, err)
	}
	err = b.do(ctx, op, dir, false, func(s *session) error {
		t := &tracking{b: b, s: s, dir: b.full(dir), begun: time.Now()}
		t.old, t.known = readTrackMark(mark, t.dir)
		c, err = t.run(ctx)
		return err
	})
	if err != nil {
		return remote.Changes{}, err
	}
	if _, known := readTrackMark(mark, b.full(dir)); !known {
		c.All = mark != ""
	}
	return c, nil
}

// tracking is one call of Changed.
type tracking struct {
	b     *Backend
	s     *session
	dir   string
	begun time.Time
	old   trackMark
	known bool // old is of use

	large  bool
	found  bool                // dir is there
	prints map[string]*imprint // by path in the zone
	news   []string            // paths in the zone of collections with new identifiers
	newest int64               // of all times seen
	lastID int64
}

// imprint is what the catalog says of one collection.
type imprint struct {
	sum    fingerprint
	newest int64
}

// run asks in the way that the mark wants, and in the other way if the tree turns out to
// be larger.
func (t *tracking) run(ctx context.Context) (remote.Changes, error) {
	joins, err := t.b.joins(ctx, t.s)
	if err != nil {
		return remote.Changes{}, err
	}
	t.large = t.known && t.old.large
	whole, err := t.ask(ctx, joins)
	switch {
	case err != nil:
		return remote.Changes{}, err
	case !whole:
		return t.startLarge(ctx)
	case !t.found:
		return remote.Changes{}, t.missing()
	}
	return t.compare(), nil
}

func (t *tracking) missing() error {
	return &remote.Error{Op: "changed", Path: t.rel(t.dir), Kind: remote.NotExist}
}

// questions returns what to ask.
func (t *tracking) questions(joins bool) []*trackQuestion {
	colls := t.question(wire.ColCollModifyTime, wire.ColCollName, wire.ColCollParentName, wire.ColCollID, wire.ColCollModifyTime)
	colls.kind = isColls
	objects := t.question(wire.ColDataModifyTime, wire.ColCollName)
	objects.fold(wire.SelectCount, wire.ColDataName)
	objects.fold(wire.SelectSum, wire.ColDataID, wire.ColDataSize, wire.ColReplStatus)
	objects.fold(wire.SelectMin, wire.ColDataModifyTime)
	objects.fold(wire.SelectMax, wire.ColDataModifyTime)
	marks := t.question(wire.ColMetaDataModifyTime, wire.ColCollName)
	marks.fold(wire.SelectCount, wire.ColMetaDataName)
	marks.fold(wire.SelectSum, wire.ColMetaDataID)
	marks.fold(wire.SelectMax, wire.ColMetaDataModifyTime)
	marks.where(wire.ColMetaDataName, ourMarks)
	collMarks := t.question(wire.ColMetaCollModifyTime, wire.ColCollParentName)
	collMarks.fold(wire.SelectCount, wire.ColMetaCollName)
	collMarks.fold(wire.SelectSum, wire.ColMetaCollID)
	collMarks.fold(wire.SelectMax, wire.ColMetaCollModifyTime)
	collMarks.where(wire.ColMetaCollName, ourMarks)
	list := []*trackQuestion{colls, objects, marks, collMarks}
	switch {
	case t.large:
		return append(list, t.existence(), t.registered())
	case joins:
		colls.fold(wire.SelectMax, wire.ColCollAccessType)
		t.b.ofColls(colls.cursor)
		objects.fold(wire.SelectSum, wire.ColDataAccessType)
		t.b.ofObjects(objects.cursor)
		return list
	}
	return append(list, t.levels()...)
}

// levels asks for our levels of access, for an administrator: they cannot be joined.
func (t *tracking) levels() []*trackQuestion {
	objects := t.question(0, wire.ColCollName)
	objects.fold(wire.SelectSum, wire.ColDataAccessType)
	t.b.ofObjects(objects.cursor)
	colls := t.question(0, wire.ColCollParentName)
	colls.fold(wire.SelectSum, wire.ColCollAccessType)
	t.b.ofColls(colls.cursor)
	return []*trackQuestion{objects, colls}
}

// existence asks whether dir is there.
func (t *tracking) existence() *trackQuestion {
	return &trackQuestion{cursor: ask(t.b.zone, wire.ColCollID).equal(wire.ColCollName, t.dir), kind: isHere}
}

// registered asks for objects that are new by their identifiers.
func (t *tracking) registered() *trackQuestion {
	q := t.question(0, wire.ColCollName)
	q.fold(wire.SelectMax, wire.ColDataID)
	q.where(wire.ColDataID, "> '"+strconv.FormatInt(t.old.id, 10)+"'")
	q.kind = isNew
	return q
}

// trackQuestion is a question about all collections of the tree, each with a row.
type trackQuestion struct {
	*cursor
	kind trackKind
}

// trackKind tells what the rows of an answer mean.
type trackKind byte

const (
	isPrint trackKind = iota // they are part of the fingerprints
	isColls                  // and a collection each
	isHere                   // dir is there
	isNew                    // a collection with new objects each
)

// question asks for the tree. In a large one only for what has a time since the mark.
func (t *tracking) question(when int, columns ...int) *trackQuestion {
	c := ask(t.b.zone, columns...).most(t.b.tree + 1)
	c.in.Options = 0 // rows that are alike come once
	condition := wire.Like(wider.Replace(t.dir) + "/%")
	if t.dir == wider.Replace(t.dir) {
		condition = wire.Equal(t.dir) + " || " + condition
	} else {
		condition = wire.Like(wider.Replace(t.dir)) + " || " + condition
	}
	c.where(wire.ColCollName, condition)
	if t.large && when != 0 {
		c.where(when, ">= '"+stamp(t.old.since)+"'")
	}
	return &trackQuestion{cursor: c}
}

// ask asks and collects the fingerprints. whole is false if there were too many.
func (t *tracking) ask(ctx context.Context, joins bool) (whole bool, err error) {
	t.prints = map[string]*imprint{}
	list := t.questions(joins)
	cursors := make([]*cursor, len(list))
	for i, q := range list {
		cursors[i] = q.cursor
	}
	if err := begin(ctx, t.s, cursors...); err != nil {
		return false, err
	}
	whole = true
	for i, q := range list {
		if !q.ended {
			whole = false
			q.end(ctx, t.s)
		}
		if err := t.collect(i, q); err != nil {
			return false, err
		}
	}
	return whole, nil
}

// collect adds the rows of an answer to the fingerprints.
func (t *tracking) collect(number int, q *trackQuestion) error {
	for q.step() {
		path, parent := q.text(wire.ColCollName), q.text(wire.ColCollParentName)
		switch {
		case q.kind == isHere:
			t.found = true
			continue
		case q.kind == isColls && !t.inside(path):
			continue // nor is its parent
		}
		t.found = t.found || path == t.dir
		if q.kind == isNew {
			id, err := q.number(wire.ColDataID)
			if err != nil {
				return err
			}
			t.lastID = max(t.lastID, id)
			if t.inside(path) {
				t.news = append(t.news, strings.Clone(path))
			}
			continue
		}
		at, err := newestOf(q.cursor)
		if err != nil {
			return err
		}
		t.newest = max(t.newest, at)
		row := rowPrint(number, q.cursor)
		if path != "" {
			t.add(path, row, at)
		}
		if parent != "" {
			t.add(parent, row, at)
		}
	}
	return nil
}

// timeColumns are those that newestOf looks at.
var timeColumns = []int{wire.ColCollModifyTime, wire.ColDataModifyTime, wire.ColMetaDataModifyTime, wire.ColMetaCollModifyTime}

// newestOf returns the latest time of the present row.
func newestOf(c *cursor) (newest int64, err error) {
	for _, r := range c.out.Results {
		if !slices.Contains(timeColumns, r.Column) {
			continue
		}
		n, err := parseNumber(r.Column, r.Values[c.row])
		if err != nil {
			return 0, err
		}
		newest = max(newest, n)
	}
	return newest, nil
}

// add adds to the fingerprint of a collection. What is outside the tree is the parent of
// its top.
func (t *tracking) add(path string, row fingerprint, at int64) {
	if !t.inside(path) {
		if parent, _ := splitFull(t.dir); path != parent {
			return // the pattern fits more
		}
		path = t.dir
	}
	p := t.prints[path]
	if p == nil {
		p = &imprint{}
		t.prints[strings.Clone(path)] = p
	}
	p.sum += row
	p.newest = max(p.newest, at)
}

// inside tells whether a path lies in the tree and is not hidden.
func (t *tracking) inside(path string) bool {
	return path == t.dir || strings.HasPrefix(path, t.dir+"/") && !isHidden(path)
}

// rel is the path in the branch.
func (t *tracking) rel(path string) string {
	if path == t.b.opts.Root {
		return "/"
	}
	return strings.TrimPrefix(path, t.b.opts.Root)
}
