package irods

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// mostListed bounds the text of a list in a question: the catalog makes one statement of
// it, in a buffer whose size differs between releases.
const mostListed = 2000

// listRows bounds the rows of an answer about listed names: mostly there are none.
const listRows = 256

// oneOf is the condition that a column is one of some values, which are packable.
func oneOf(values []string) string { return "in ('" + strings.Join(values, "','") + "')" }

// lists cuts values into lists that fit into a question.
func lists(values []string) (all [][]string) {
	size := mostListed
	for _, v := range values {
		if size += len(v) + 3; size > mostListed {
			all, size = append(all, nil), len(v)+3
		}
		all[len(all)-1] = append(all[len(all)-1], v)
	}
	return all
}

// survey is what lies where the batch goes.
type survey struct {
	parents map[string]*collection
	objects map[string]*object
	colls   map[string]bool

	askParents, askObjects, askColls []*cursor
}

// survey prepares the questions: about the parents, and about what has the names.
func (t *batch) survey() *survey {
	v := &survey{parents: map[string]*collection{}, objects: map[string]*object{}, colls: map[string]bool{}}
	paths := make([]string, len(t.in))
	dirs := map[string]bool{t.b.full(t.root): true}
	for n, i := range t.in {
		paths[n] = t.b.full(t.items[i].Path)
		dir, _ := splitFull(paths[n])
		dirs[dir] = true
	}
	for _, list := range lists(slices.Sorted(maps.Keys(dirs))) {
		v.askParents = append(v.askParents, t.b.askColls(t.joins).most(listRows).where(wire.ColCollName, oneOf(list)))
	}
	slices.Sort(paths)
	for _, list := range lists(paths) {
		v.askColls = append(v.askColls, ask(t.b.zone, wire.ColCollName).most(listRows).where(wire.ColCollName, oneOf(list)))
		v.askObjects = append(v.askObjects, t.named(list))
	}
	return v
}

// named asks for the objects at some paths, and for those with the directory of one and
// the name of another.
func (t *batch) named(paths []string) *cursor {
	dirs, names := map[string]bool{}, map[string]bool{}
	for _, path := range paths {
		dir, name := splitFull(path)
		dirs[dir], names[name] = true, true
	}
	c := t.b.askObjects(t.joins).most(listRows)
	c.in.Select(wire.ColCollName)
	return c.where(wire.ColCollName, oneOf(slices.Sorted(maps.Keys(dirs)))).
		where(wire.ColDataName, oneOf(slices.Sorted(maps.Keys(names))))
}

func (v *survey) cursors() []*cursor {
	return slices.Concat(v.askParents, v.askObjects, v.askColls)
}

// read reads the answers.
func (v *survey) read(ctx context.Context, s *session) error {
	err := eachRow(ctx, s, v.askParents, func(c *cursor) (err error) {
		path := c.text(wire.ColCollName)
		if x := v.parents[path]; x != nil {
			return x.addLevel(c)
		}
		v.parents[strings.Clone(path)], err = readColl(c)
		return err
	})
	if err == nil {
		err = eachRow(ctx, s, v.askObjects, func(c *cursor) error {
			return addObject(v.objects, c)
		})
	}
	if err == nil {
		err = eachRow(ctx, s, v.askColls, func(c *cursor) error {
			v.colls[strings.Clone(c.text(wire.ColCollName))] = true
			return nil
		})
	}
	return err
}

// eachRow calls f for all rows of all answers.
func eachRow(ctx context.Context, s *session, cursors []*cursor, f func(*cursor) error) error {
	for _, c := range cursors {
		for {
			more, err := c.next(ctx, s)
			if err != nil {
				return err
			}
			if !more {
				break
			}
			if err := f(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// addObject adds the object of the present row, or what it has of one that is there.
func addObject(all map[string]*object, c *cursor) error {
	path := c.text(wire.ColCollName) + "/" + c.text(wire.ColDataName)
	id, err := c.number(wire.ColDataID)
	if err != nil {
		return err
	}
	if o := all[path]; o != nil && o.id == id {
		return o.addReplica(c)
	}
	all[path], err = readObject(c)
	return err
}

// prepare looks at what is there and makes the hidden collection, in one round trip. It
// takes out what cannot be stored or not in a batch.
func (t *batch) prepare(ctx context.Context) error {
	return t.b.do(ctx, opBatch, t.root, false, func(s *session) (err error) {
		if t.joins, err = t.b.joins(ctx, s); err != nil {
			return err
		}
		v := t.survey()
		var calls []*wire.Call
		for _, c := range v.cursors() {
			calls = append(calls, c.page())
		}
		t.littered = true
		results, err := s.conn.Pipeline(ctx, append(calls, t.b.mkdirCall(t.hidden)))
		if err != nil {
			return err
		}
		for i, c := range v.cursors() {
			if err := c.took(results[i].Err); err != nil {
				return err
			}
		}
		if err := v.read(ctx, s); err != nil {
			return err
		}
		t.judge(v, results[len(results)-1].Err)
		return nil
	})
}

// judge takes out what the survey speaks against. made is how the making of the hidden
// collection went.
func (t *batch) judge(v *survey, made error) {
	for _, i := range slices.Clone(t.in) {
		if kind := t.verdict(v, t.b.full(t.items[i].Path)); kind != 0 {
			t.settle(i, kind, nil)
		}
	}
	root := v.parents[t.b.full(t.root)]
	switch {
	case len(t.in) == 0:
	case root == nil || root.special || t.joins && root.level < levelDelete || made != nil && kindOfErr(made) == remote.Permission:
		t.b.batching.bar(t.root)
		t.allAlone(errAlone)
	case made != nil:
		t.forgo(made)
	}
	if made != nil {
		t.littered = false
	}
}

// verdict tells what is against storing a path in the batch, 0 if nothing. Where it could
// not be written, the call that puts it alone says why.
func (t *batch) verdict(v *survey, path string) remote.Kind {
	dir, _ := splitFull(path)
	parent, old := v.parents[dir], v.objects[path]
	switch {
	case parent == nil:
		return remote.NotExist
	case v.colls[path]:
		return remote.Exist
	case old != nil:
		if _, state := old.best(); state == whole {
			return remote.Exist
		}
		return remote.Unsupported
	case parent.special || t.joins && parent.level < levelModify:
		return remote.Unsupported
	}
	return 0
}

// idOf returns the number of an object that has just been stored.
func idOf(e remote.Entry) int64 {
	id, err := strconv.ParseInt(strings.TrimPrefix(e.ID, "d"), 10, 64)
	if err != nil {
		return 0 // all that there is may be new
	}
	return id
}
