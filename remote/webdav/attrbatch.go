package webdav

import (
	"context"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// attrBatch is how many entries' attributes are set together: few enough that what was
// listed of them at the beginning is young at the end.
const attrBatch = 500

// AttrBatches implements remote.AttrBatcher.
func (b *Backend) AttrBatches() int { return attrBatch }

// SetAttrBatch implements remote.AttrBatcher. Directories of which some files are concerned
// are listed in place of a look at each file, and once more where setting a time makes
// another version (Nextcloud); then there is one PROPPATCH for each file, as many at a time
// as there are connections. Files that nothing changes take none.
func (b *Backend) SetAttrBatch(ctx context.Context, items []remote.AttrItem) ([]remote.BatchResult, error) {
	if len(items) == 0 {
		return nil, nil
	}
	ctx, _, done, err := b.begin(ctx, "setattr", items[0].Path)
	if err != nil {
		return nil, err
	}
	defer done()
	d := &dressing{b: b, all: make([]*dressed, len(items))}
	for i, it := range items {
		m := &dressed{c: &call{b: b, op: "setattr", path: it.Path}, attrs: it.Attrs}
		m.f, m.known = m.c.made(it.Attrs)
		d.all[i] = m
	}
	b.Warm(len(items))
	d.run(ctx)
	results := make([]remote.BatchResult, len(items))
	for i, m := range d.all {
		results[i] = remote.BatchResult{Entry: m.f.Entry, Err: m.err}
	}
	return results, nil
}

// dressing is one SetAttrBatch.
type dressing struct {
	b   *Backend
	all []*dressed
}

// dressed is an entry of a dressing. One goroutine at a time has it.
type dressed struct {
	c     *call
	attrs remote.Attrs
	f     found
	known bool // f is what a listing has just shown
	timed bool // the server's own time was set, and f is older
	err   error
}

func (d *dressing) run(ctx context.Context) {
	d.look(ctx, d.all)
	d.each(ctx, d.all, (*dressed).setTime)
	var timed []*dressed
	for _, m := range d.all {
		if m.timed && m.err == nil {
			m.known = false
			timed = append(timed, m)
		}
	}
	d.look(ctx, timed)
	d.each(ctx, d.all, (*dressed).set)
}

// each does something for each of some, at the same time.
func (d *dressing) each(ctx context.Context, some []*dressed, f func(*dressed, context.Context)) {
	d.b.inLanes(ctx, len(some), func(i int) {
		if err := remote.ContextErr(ctx); err != nil && some[i].err == nil {
			some[i].err = err
		}
		if some[i].err == nil {
			f(some[i], ctx)
		}
		remote.Progress(ctx)
	})
}

// look lists the directories that hold more than a few of some. What is not found so is left
// to be looked at alone.
func (d *dressing) look(ctx context.Context, some []*dressed) {
	dirs := map[string]map[string]*dressed{}
	for _, m := range some {
		if m.known {
			continue
		}
		dir, name := remote.Split(m.c.path)
		if dirs[dir] == nil {
			dirs[dir] = map[string]*dressed{}
		}
		dirs[dir][name] = m
	}
	var lists []string
	for dir, in := range dirs {
		if len(in) >= fewLooks && !d.b.hidden(dir) && !d.b.vast.holds(dir, vastAnyway+vastEach*len(in)) {
			lists = append(lists, dir)
		}
	}
	d.b.inLanes(ctx, len(lists), func(i int) {
		d.list(ctx, lists[i], dirs[lists[i]])
		remote.Progress(ctx)
	})
}

// list looks at those in one directory. What goes wrong is found out by the looks that follow.
func (d *dressing) list(ctx context.Context, dir string, in map[string]*dressed) {
	names := 0
	l := &listing{c: &call{b: d.b, op: "setattr", path: dir}, h: d.b.hrefs(strings.TrimSuffix(dir, "/"))}
	l.yield = func(f found) error {
		if names++; names > vastAnyway+vastEach*len(in) {
			return errVast
		}
		if _, name := remote.Split(f.Path); in[name] != nil {
			in[name].f, in[name].known = f, true
		}
		return nil
	}
	if err := l.run(ctx); err == errVast {
		d.b.vast.add(dir, names)
	}
}

// found looks at the entry, unless a listing has shown it.
func (m *dressed) found(ctx context.Context) bool {
	if m.known {
		return true
	}
	if m.c.b.hidden(m.c.path) {
		m.err = m.c.fail(remote.NotExist, nil)
		return false
	}
	if err := remote.CheckPath("setattr", m.c.path); err != nil {
		m.err = err
		return false
	}
	f, err := m.c.lookAt(ctx, m.c.path)
	if err != nil {
		m.err = m.c.explain(ctx, err)
		return false
	}
	m.f, m.known = f, true
	return true
}

// setTime sets the server's own time of a file, where there is one.
func (m *dressed) setTime(ctx context.Context) {
	if !m.found(ctx) || m.f.Type == remote.Dir || !m.c.native(m.attrs) {
		return
	}
	m.timed, m.err = m.c.patchNative(ctx, &m.f, m.attrs)
}

// set sets what is to be set yet.
func (m *dressed) set(ctx context.Context) {
	if m.found(ctx) {
		m.f, m.err = m.c.setAttr(ctx, m.f, m.attrs)
	}
}
