package irods

import (
	"context"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// glimpse is the first page of all questions of a listing. It is a rider.
type glimpse struct {
	cursors  []*cursor
	answered int
	err      error // the first refusal
}

func (g *glimpse) load() int       { return 1 }
func (g *glimpse) unsettled() bool { return false }
func (g *glimpse) strayed() bool   { return false }

// board implements rider. The server keeps nothing for further pages.
func (g *glimpse) board(*session) (calls []*wire.Call) {
	for _, c := range g.cursors {
		c.in.Options |= wire.AutoClose
		calls = append(calls, c.page())
	}
	return calls
}

// took implements rider.
func (g *glimpse) took(_ *session, _ *wire.Call, result wire.Result) (last bool) {
	if err := g.cursors[g.answered].took(result.Err); g.err == nil {
		g.err = err
	}
	g.answered++
	return g.answered == len(g.cursors)
}

// whole tells whether there are no further pages: a full one may have been cut.
func (g *glimpse) whole() bool {
	for _, c := range g.cursors {
		if !c.ended || c.out.Rows >= c.in.MaxRows {
			return false
		}
	}
	return g.err == nil
}

// listShared lists a collection on a connection that others use. shared is false if that
// was not possible, and nothing has been listed: what it is that is not there, or empty,
// takes more questions.
func (b *Backend) listShared(ctx context.Context, dir string, out *outbox) (shared bool, err error) {
	b.who.mu.Lock()
	joins := b.who.known && b.who.joins
	b.who.mu.Unlock()
	if !joins {
		return false, nil
	}
	l := &listing{b: b, rel: dir, path: b.full(dir), out: out}
	l.ask(joins)
	g := &glimpse{cursors: []*cursor{l.objects, l.colls, l.marks, l.collMarks}}
	if !b.shared.make(ctx, g, false) || !g.whole() || l.objects.out.Rows+l.colls.out.Rows == 0 {
		return false, nil
	}
	return true, fail(ctx, "list", dir, false, l.rows(ctx))
}
