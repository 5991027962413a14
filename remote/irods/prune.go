package irods

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// How many removals a connection gets at a time. An object costs the server about 10 ms
// (measured on 5.0.2), so that the way there and back does not count. The removal of a
// collection has a protocol in which nothing may follow it on its way.
const (
	pruneObjects = 50
	pruneColls   = 4
)

// Prunes implements remote.Pruner.
func (b *Backend) Prunes() bool { return true }

// Prune implements remote.Pruner. The proof is two questions to the catalog, and one more for
// each 2,500 replicas. With Options.Trash the tree then goes to the trash in one call, which
// only renames it. Otherwise it is not left to the server's recursive removal, which takes
// whatever it finds for as long as it runs (10 ms for each object): the objects that are known
// are removed, over all connections but one, many at a time, each lot after one more question
// whether it is still as it was, and then the collections, each of which the server removes
// only if it is empty.
func (b *Backend) Prune(ctx context.Context, path string, known []remote.Known) error {
	const op = "prune"
	if err := b.check(op, path); err != nil {
		return absent(op, path, err)
	}
	if path == "/" {
		return &remote.Error{Op: op, Path: path, Kind: remote.Invalid, Err: errors.New("the root of a branch")}
	}
	table, err := remote.KnownPaths(op, path, known)
	if err != nil {
		return err
	}
	p := &pruning{b: b, path: path, known: table}
	if err := b.do(ctx, op, path, false, func(s *session) error { return p.prove(ctx, s) }); err != nil {
		return err
	}
	if b.opts.Trash {
		return b.RemoveTree(ctx, path)
	}
	return p.remove(ctx)
}

// pruning is one Prune.
type pruning struct {
	b     *Backend
	path  string
	known map[string]remote.Known

	objects []doomed         // what is there
	colls   map[int][]string // paths in the zone of collections, by their depths
}

// doomed is an object that is to be removed.
type doomed struct {
	id      int64
	full    string // its path in the zone
	version string
}

func (p *pruning) fail(kind remote.Kind, rel, why string) error {
	return &remote.Error{Op: "prune", Path: rel, Kind: kind, Err: errors.New(why)}
}

// prove compares what is there with what is known.
func (p *pruning) prove(ctx context.Context, s *session) error {
	top := p.b.full(p.path)
	f, err := p.b.lookAt(ctx, s, top)
	switch {
	case err != nil:
		return err
	case f.object != nil:
		return p.fail(remote.NotDir, p.path, "an object")
	case f.coll == nil:
		return &remote.Error{Op: "prune", Path: p.path, Kind: remote.NotExist}
	case f.coll.special:
		return p.fail(remote.Unsupported, p.path, "a mounted or linked collection")
	}
	below := wire.Like(wider.Replace(top) + "/%")
	at := wire.Equal(top)
	if wider.Replace(top) != top {
		at = wire.Like(wider.Replace(top))
	}
	objects := ask(p.b.zone, slices.Concat([]int{wire.ColCollName}, objectColumns)...).most(pageRows).
		where(wire.ColCollName, at+" || "+below).orderBy(wire.ColDataID)
	colls := ask(p.b.zone, wire.ColCollName, wire.ColCollType).most(pageRows).where(wire.ColCollName, below)
	defer objects.end(ctx, s)
	defer colls.end(ctx, s)
	if err := begin(ctx, s, objects, colls); err != nil {
		return err
	}
	p.colls = map[int][]string{}
	p.addColl(top)
	if err := p.proveColls(ctx, s, colls); err != nil {
		return err
	}
	return p.proveObjects(ctx, s, objects)
}

func (p *pruning) addColl(full string) {
	depth := strings.Count(full, "/")
	p.colls[depth] = append(p.colls[depth], full)
}

// rel returns the path in the branch of one in the zone; false if it is not in the tree: a
// pattern may fit more than was meant.
func (p *pruning) rel(full string) (string, bool) {
	if !remote.Within(full, p.b.full(p.path)) {
		return "", false
	}
	return p.path + full[len(p.b.full(p.path)):], true
}

// proveColls compares the collections.
func (p *pruning) proveColls(ctx context.Context, s *session, c *cursor) error {
	return eachRow(ctx, s, []*cursor{c}, func(c *cursor) error {
		full := strings.Clone(c.text(wire.ColCollName))
		rel, ok := p.rel(full)
		switch k, known := p.known[rel]; {
		case !ok:
			return nil
		case !known || k.Type != remote.Dir:
			return p.fail(remote.Conflict, rel, "a collection that was not seen before")
		case c.text(wire.ColCollType) != "":
			return p.fail(remote.Unsupported, rel, "a mounted or linked collection")
		}
		p.addColl(full)
		return nil
	})
}

// proveObjects compares the objects.
func (p *pruning) proveObjects(ctx context.Context, s *session, c *cursor) error {
	return eachObject(ctx, s, c, func(full string, o *object) error {
		rel, ok := p.rel(full)
		switch k, known := p.known[rel]; {
		case !ok:
			return nil
		case !known || k.Type == remote.Dir:
			return p.fail(remote.Conflict, rel, "an object that was not seen before")
		case !o.is(k.Version):
			return p.fail(remote.Conflict, rel, "the object was changed")
		default:
			p.objects = append(p.objects, doomed{id: o.id, full: full, version: k.Version})
		}
		return nil
	})
}

// eachObject reads the objects of an answer with objectColumns and the collection's name. The
// rows of one object's replicas follow each other.
func eachObject(ctx context.Context, s *session, c *cursor, do func(full string, o *object) error) error {
	var o *object
	full := ""
	flush := func() error {
		if o == nil {
			return nil
		}
		return do(full, o)
	}
	err := eachRow(ctx, s, []*cursor{c}, func(c *cursor) error {
		id, err := c.number(wire.ColDataID)
		if err == nil && o != nil && o.id == id {
			return o.addReplica(c)
		}
		if err = cmp.Or(err, flush()); err != nil {
			return err
		}
		full = c.text(wire.ColCollName) + "/" + c.text(wire.ColDataName)
		o, err = readObject(c)
		return err
	})
	return cmp.Or(err, flush())
}

// remove removes the objects, and then the collections from the lowest up.
func (p *pruning) remove(ctx context.Context) error {
	err := p.all(len(p.objects), pruneObjects, func(from, to int) error { return p.removeObjects(ctx, p.objects[from:to]) })
	for _, depth := range slices.Backward(slices.Sorted(maps.Keys(p.colls))) {
		if err != nil {
			break
		}
		colls := p.colls[depth]
		err = p.all(len(colls), pruneColls, func(from, to int) error { return p.removeColls(ctx, colls[from:to]) })
	}
	return err
}

// removeObjects removes some objects, those of them that are still as they were.
func (p *pruning) removeObjects(ctx context.Context, list []doomed) error {
	return p.b.do(ctx, "prune", p.path, true, func(s *session) error {
		left, changed := p.unchanged(ctx, s, list)
		var calls []*wire.Call
		for _, d := range left {
			in := &wire.DataObjInp{Path: d.full}
			in.Cond.Set(wire.KwForce, "")
			calls = append(calls, &wire.Call{API: wire.APIDataObjUnlink, In: in})
		}
		return cmp.Or(p.make(ctx, s, calls), changed)
	})
}

// unchanged returns those of some objects that are still what they were, and an error if
// others are something else by now. Who is gone is of no consequence.
func (p *pruning) unchanged(ctx context.Context, s *session, list []doomed) (left []doomed, err error) {
	ids := make([]string, len(list))
	byID := make(map[int64]doomed, len(list))
	for i, d := range list {
		ids[i] = strconv.FormatInt(d.id, 10)
		byID[d.id] = d
	}
	c := ask(p.b.zone, slices.Concat([]int{wire.ColCollName}, objectColumns)...).most(pageRows).
		where(wire.ColDataID, "in ('"+strings.Join(ids, "','")+"')").orderBy(wire.ColDataID)
	defer c.end(ctx, s)
	if err := begin(ctx, s, c); err != nil {
		return nil, err
	}
	var changed error
	err = eachObject(ctx, s, c, func(full string, o *object) error {
		d, ok := byID[o.id]
		switch {
		case !ok:
		case full == d.full && o.is(d.version):
			left = append(left, d)
		default:
			rel, _ := p.rel(d.full)
			changed = p.fail(remote.Conflict, rel, "the object was changed")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return left, changed
}

// removeColls removes some collections, if they are empty.
func (p *pruning) removeColls(ctx context.Context, list []string) error {
	var calls []*wire.Call
	for _, full := range list {
		in := &wire.CollInp{Name: full}
		in.Cond.Set(wire.KwForce, "")
		calls = append(calls, &wire.Call{API: wire.APIRmColl, In: in})
	}
	return p.b.do(ctx, "prune", p.path, true, func(s *session) error { return p.make(ctx, s, calls) })
}

// all does the work on n things, some at a time on each of some connections. What is not
// there is as it should be. After an error no more begin; a part is done then.
func (p *pruning) all(n, some int, do func(from, to int) error) error {
	var (
		mu     sync.Mutex
		next   int // guarded by mu
		failed error
		work   sync.WaitGroup
	)
	take := func() (from, to int) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil {
			return 0, 0
		}
		from = next
		next = min(next+some, n)
		return from, next
	}
	for range min(max(1, p.b.opts.MaxConns-1), (n+some-1)/some) {
		work.Go(func() {
			for from, to := take(); from < to; from, to = take() {
				if err := do(from, to); err != nil {
					mu.Lock()
					failed = cmp.Or(failed, err)
					mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	return partly(failed)
}

// make makes some calls on one connection.
func (p *pruning) make(ctx context.Context, s *session, calls []*wire.Call) error {
	if len(calls) == 0 {
		return nil
	}
	results, err := s.conn.Pipeline(ctx, calls)
	remote.Progress(ctx)
	for i, r := range results {
		if r.Err != nil && kindOfErr(r.Err) != remote.NotExist {
			return fmt.Errorf("%v: %w", calls[i].API, r.Err)
		}
	}
	return err
}

// partly marks an error of something that may be done in part.
func partly(err error) error {
	var e *remote.Error
	if !errors.As(err, &e) {
		return err
	}
	marked := *e
	marked.Unsure = true
	return &marked
}
