package keep_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// exploreDirs are there at first, the first of which now and then has the name of exploreMoved.
var exploreDirs = []string{"/d0", "/d1", "/d1/s"}

const exploreMoved = "/d2"

type errandKey struct{}

// errand is one thing that a client does.
type errand struct {
	number int
	node   *exploreNode
	start  int
	spared bool // no request of it fails
	rng    *rand.Rand

	// Guarded by explorer.mu.
	what   string
	faults int // requests of it that were made to fail
	late   int // requests of it that will have their effect later
	ended  bool
	overAt int // 0: not yet
	failed bool
}

func (e *errand) id() int {
	if e == nil {
		return 0
	}
	return e.number
}

// broken tells whether a sweep was cut off.
func (e *errand) broken() bool { return e.failed || e.faults > 0 || e.node.dead }

// do does something random.
func (e *errand) do() {
	ctx := context.WithValue(context.Background(), errandKey{}, e)
	total := 0
	for _, d := range exploreDeeds {
		total += d.share
	}
	at := e.rng.IntN(total)
	for _, d := range exploreDeeds {
		if at -= d.share; at < 0 {
			e.note(d.name)
			e.what = d.name
			d.do(e, ctx)
			return
		}
	}
}

// exploreDeeds are what errands do, with how often they do it.
var exploreDeeds = []struct {
	name  string
	share int
	do    func(*errand, context.Context)
}{
	{"batch", 20, (*errand).batch},
	{"create", 8, (*errand).create},
	{"again", 8, (*errand).again},
	{"overwrite", 9, (*errand).overwrite},
	{"blind overwrite", 2, (*errand).blind},
	{"remove", 15, (*errand).remove},
	{"rename", 9, (*errand).rename},
	{"set attributes", 3, (*errand).setAttr},
	{"look", 12, (*errand).look},
	{"pack", 3, (*errand).pack},
	{"unpack", 2, (*errand).unpack},
	{"rename directory", 2, (*errand).renameDir},
	{"mkdir", 2, (*errand).mkdir},
	{"rmdir", 2, (*errand).rmdir},
	{"prune", 2, (*errand).prune},
}

func (e *errand) note(format string, args ...any) {
	e.node.x.mu.Lock()
	defer e.node.x.mu.Unlock()
	e.node.x.note("node %d, errand %d: "+format, append([]any{e.node.number, e.number}, args...)...)
}

// state tells what has become of something by its error.
func (e *errand) state(err error) actState {
	x := e.node.x
	x.mu.Lock()
	defer x.mu.Unlock()
	x.note("node %d, errand %d: its result is %v", e.node.number, e.number, err)
	var of *remote.Error
	switch {
	case err == nil:
		return done
	case e.node.dead, !errors.As(err, &of), of.Unsure:
		return unsure
	}
	return nothing
}

// dir returns a directory, which may not be there.
func (e *errand) dir() string {
	if e.node.x.plan.narrow {
		return exploreDirs[1]
	}
	if e.rng.IntN(8) == 0 {
		return exploreMoved
	}
	return exploreDirs[e.rng.IntN(len(exploreDirs))]
}

// name returns one that is wanted often.
func (e *errand) name(dir string) string {
	names := 7
	if e.node.x.plan.narrow {
		names = 3
	}
	return remote.Join(dir, string(rune('a'+e.rng.IntN(names))))
}

// content makes a new one for path.
func (e *errand) content(path string) *known {
	x := e.node.x
	x.mu.Lock()
	defer x.mu.Unlock()
	c := &known{number: len(x.model.contents), names: []string{path}}
	size := e.rng.IntN(100)
	if e.rng.IntN(4) == 0 {
		size = 20<<10 + e.rng.IntN(40<<10)
	}
	c.text = fmt.Sprintf("content %d of %s by errand %d%s", c.number, path, e.number, strings.Repeat(".", size))
	c.when = time.Unix(1_700_000_000+int64(c.number), 0)
	if x.model.byText == nil {
		x.model.byText, x.model.versions = map[string]*known{}, map[string]*known{}
	}
	x.model.contents = append(x.model.contents, c)
	x.model.byText[c.text] = c
	x.note("node %d, errand %d: content %d for %s", e.node.number, e.number, c.number, path)
	return c
}

func (c *known) source() remote.Source { return remotetest.Bytes([]byte(c.text)) }

func (c *known) attrs() remote.Attrs { return remote.Attrs{MTime: &c.when} }

// act notes that something begins that concerns a content.
func (e *errand) act(c *known, put, kill bool) *act {
	e.node.x.mu.Lock()
	defer e.node.x.mu.Unlock()
	a := &act{errand: e, put: put, sure: true}
	if kill {
		c.kills = append(c.kills, a)
	} else {
		c.carriers = append(c.carriers, a)
	}
	return a
}

// stored notes what has become of a Put of a content.
func (e *errand) stored(c *known, a *act, s actState) {
	x := e.node.x
	x.mu.Lock()
	defer x.mu.Unlock()
	a.state = s
	switch {
	case s == done && !c.stored:
		c.stored, c.since = true, x.clock
	case s == unsure:
		c.maybe = true
	}
}

// resolve notes what has become of something else.
func (e *errand) resolve(a *act, s actState) {
	e.node.x.mu.Lock()
	defer e.node.x.mu.Unlock()
	a.state = s
}

// batch stores some files of one directory, sometimes of two.
func (e *errand) batch(ctx context.Context) {
	var all []*known
	used := map[string]bool{}
	dir := e.dir()
	for range 1 + e.rng.IntN(6) {
		if e.rng.IntN(12) == 0 {
			dir = e.dir()
		}
		path := e.name(dir)
		if e.rng.IntN(3) == 0 {
			path = fmt.Sprintf("%s/u%d-%d", dir, e.number, len(all))
		}
		if !used[path] {
			used[path] = true
			all = append(all, e.content(path))
		}
	}
	e.putBatch(ctx, all, false)
}

// putBatch stores contents in a batch, and those alone that cannot be in one.
func (e *errand) putBatch(ctx context.Context, all []*known, redo bool) {
	items, acts := make([]remote.BatchItem, len(all)), make([]*act, len(all))
	for i, c := range all {
		items[i] = remote.BatchItem{Path: c.names[0], Source: c.source(), Attrs: c.attrs(), Loose: e.rng.IntN(2) == 0, Redo: redo}
		acts[i] = e.act(c, true, false)
	}
	got, err := e.node.k.PutBatch(ctx, items)
	for i, c := range all {
		if err == nil && errors.Is(got[i].Err, remote.Unsupported) {
			e.put(ctx, c, remote.PutOptions{Cond: remote.Cond{NotExist: true}, Redo: redo}, acts[i])
			continue
		}
		one := err
		if err == nil {
			one = got[i].Err
		}
		e.stored(c, acts[i], e.state(one))
	}
}

// put stores a content alone.
func (e *errand) put(ctx context.Context, c *known, opts remote.PutOptions, a *act) actState {
	opts.Attrs = c.attrs()
	_, err := e.node.k.Put(ctx, c.names[0], c.source(), opts)
	s := e.state(err)
	e.stored(c, a, s)
	return s
}

func (e *errand) create(ctx context.Context) {
	c := e.content(e.name(e.dir()))
	e.put(ctx, c, remote.PutOptions{Cond: remote.Cond{NotExist: true}}, e.act(c, true, false))
}

// again repeats what somebody was told may be stored, as a client does that comes back, or
// stores what is there once more, as one does that unpacks the same files.
func (e *errand) again(ctx context.Context) {
	x := e.node.x
	copies := e.rng.IntN(4) == 0
	x.mu.Lock()
	var all []*known
	for _, c := range x.model.contents {
		idle := !slices.ContainsFunc(c.carriers, func(a *act) bool { return a.state == running })
		back := c.maybe && !c.stored && idle
		if (back || copies && (c.maybe || c.stored)) && len(c.kills) == 0 && len(c.names) == 1 {
			all = append(all, c)
		}
	}
	x.mu.Unlock()
	e.rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	all = slices.CompactFunc(slices.SortedFunc(slices.Values(all[:min(len(all), 4)]), func(a, b *known) int {
		return strings.Compare(a.names[0], b.names[0])
	}), func(a, b *known) bool { return a.names[0] == b.names[0] })
	switch {
	case len(all) == 0:
	case e.rng.IntN(4) == 0:
		e.put(ctx, all[0], remote.PutOptions{Cond: remote.Cond{NotExist: true}, Redo: true}, e.act(all[0], true, false))
	default:
		e.putBatch(ctx, all, true)
	}
}

// entries lists a directory, and checks what shows. from is when it began.
func (e *errand) entries(ctx context.Context, dir string) (all []remote.Entry, from int, err error) {
	x := e.node.x
	x.mu.Lock()
	from = x.clock
	faults := e.faults
	x.mu.Unlock()
	err = e.node.k.List(ctx, dir, func(entry remote.Entry) error { all = append(all, entry); return nil })
	x.mu.Lock()
	defer x.mu.Unlock()
	paths := map[string]bool{}
	for _, entry := range all {
		if paths[entry.Path] {
			x.violated("errand %d: %s is listed twice", e.number, entry.Path)
		}
		paths[entry.Path] = true
	}
	faultless := e.faults == faults && !e.node.dead
	for _, c := range x.model.contents {
		if !x.model.still(c, dir, from, e) {
			continue
		}
		switch shown := slices.ContainsFunc(all, func(entry remote.Entry) bool { return c.wasAt(entry.Path) }); {
		case err != nil && faultless:
			x.violated("errand %d: a listing of %s without a fault: %v", e.number, dir, err)
			return all, from, err
		case err == nil && !shown:
			x.violated("errand %d: HIDDEN in a listing: %v", e.number, c)
		}
	}
	return all, from, err
}

// still tells whether nobody has touched a content of dir since a time.
func (m *exploreModel) still(c *known, dir string, from int, but *errand) bool {
	if !c.stored || c.since > from || slices.ContainsFunc(c.kills, (*act).counts) {
		return false
	}
	if len(c.names) != 1 || m.aimedAt(c, from) {
		return false
	}
	if parent, _ := remote.Split(c.names[0]); parent != dir {
		return false
	}
	return !slices.ContainsFunc(m.handled(c), func(a *act) bool {
		return a.errand == nil || a.errand.over() > from
	})
}

// read reads what was listed since from, and returns the content that it is. It is nil if it
// cannot be read.
func (e *errand) read(ctx context.Context, entry remote.Entry, from int) *known {
	x := e.node.x
	x.mu.Lock()
	faults := e.faults
	x.mu.Unlock()
	text, err := readEntry(ctx, e.node.k, entry)
	x.mu.Lock()
	defer x.mu.Unlock()
	c, key := x.model.byText[text], entry.Path+"\x00"+entry.Version
	before := x.model.versions[key]
	switch {
	case err != nil:
		dir, _ := remote.Split(entry.Path)
		if before != nil && e.faults == faults && !e.node.dead && x.model.still(before, dir, from, e) &&
			entry.Path == before.names[0] && !x.model.contested(before, from) {
			x.violated("errand %d: %s cannot be read, without a fault: %v", e.number, entry.Path, err)
		}
		return nil
	case c == nil:
		x.violated("errand %d: WRONG BYTES in %s: %.60q", e.number, entry.Path, text)
	case before != nil && before != c:
		x.violated("errand %d: %s of version %s is content %d, and was %d", e.number, entry.Path, entry.Version, c.number, before.number)
	case !c.wasAt(entry.Path) && !x.model.hasMoved(c, entry.Path):
		x.violated("errand %d: WRONG NAME %s of %v", e.number, entry.Path, c)
	default:
		x.model.versions[key] = c
	}
	if c != nil {
		x.note("node %d, errand %d: %s is content %d, of version %s", e.node.number, e.number, entry.Path, c.number, entry.Version)
	}
	return c
}

// pick returns a file that shows, and what is in it; nil if that cannot be told.
func (e *errand) pick(ctx context.Context) (remote.Entry, *known) {
	all, from, err := e.entries(ctx, e.dir())
	all = slices.DeleteFunc(all, func(entry remote.Entry) bool { return entry.Type != remote.File })
	if err != nil || len(all) == 0 {
		return remote.Entry{}, nil
	}
	slices.SortFunc(all, func(a, b remote.Entry) int { return strings.Compare(a.Path, b.Path) })
	entry := all[e.rng.IntN(len(all))]
	return entry, e.read(ctx, entry, from)
}
