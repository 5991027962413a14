package keep_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

var errExplored = errors.New("the explorer has it fail")

// lateRequest is one whose client was told that it failed, and that has its effect later.
type lateRequest struct {
	errand *errand
	call   *remote.Call
	do     func(ctx context.Context) error
}

// pass carries out a request as the scheduler wants it.
func (n *exploreNode) pass(ctx context.Context, c *remote.Call, next remote.Next) error {
	v, err := n.ask(ctx, c, false)
	if err != nil {
		return err
	}
	failed := c.Fail(remote.Unavailable, errExplored)
	failed.Unsure = c.Op.Mutates() && v.coin%2 == 0
	do := func() error { return n.x.carry(ctx, c, next) }
	if c.Op.Mutates() && v.fault != failsBefore {
		defer n.x.tell(c.Path, n.x.what(c.Path))
	}
	switch {
	case v.fault == failsBefore:
		return failed
	case v.fault == comesLate && c.Op.Mutates():
		failed.Unsure = true
		if !n.x.delay(ctx, c) {
			failed.Unsure = false
		}
		return failed
	case c.Op == remote.OpList:
		do = func() error { return n.list(ctx, c, next, v) }
	}
	err = do()
	if v.fault != goesWell {
		failed.Unsure = c.Op.Mutates()
		err = failed
	}
	if err != nil {
		n.x.mu.Lock()
		n.x.note("      %s %s: %v", c.Op, c.Path, err)
		n.x.mu.Unlock()
	}
	return err
}

// what names the content of a plain file on the server.
func (x *explorer) what(path string) string {
	e, err := x.server.Stat(context.Background(), path)
	if err != nil || e.Type != remote.File || hidden(path) {
		return "nothing"
	}
	text, err := readEntry(context.Background(), x.server, e)
	x.mu.Lock()
	defer x.mu.Unlock()
	if c := x.model.byText[text]; err == nil && c != nil {
		return fmt.Sprintf("content %d", c.number)
	}
	return "something"
}

// tell logs what a plain file on the server was and has become.
func (x *explorer) tell(path, before string) {
	if after := x.what(path); after != before {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.note("      %s was %s and is %s", path, before, after)
	}
}

// carry has the server do it, or the lie that is tried.
func (x *explorer) carry(ctx context.Context, c *remote.Call, next remote.Next) error {
	if x.plan.lie != nil {
		return x.plan.lie(x, c, func() error { return next(ctx) })
	}
	return next(ctx)
}

// list carries out a listing. A torn one takes a while: what changes meanwhile shows as it
// was before, or as it is afterwards.
func (n *exploreNode) list(ctx context.Context, c *remote.Call, next remote.Next, v verdict) error {
	yield := c.Yield
	defer func() { c.Yield = yield }()
	look := func() (map[string]remote.Entry, error) {
		all := map[string]remote.Entry{}
		c.Yield = func(e remote.Entry) error { all[e.Path] = e; return nil }
		return all, n.x.carry(ctx, c, next)
	}
	all, err := look()
	if err == nil && v.torn {
		begun, before := time.Now(), all
		if _, err := n.ask(ctx, c, true); err != nil {
			return err
		}
		all, err = look()
		if time.Since(begun) < 30*time.Second && err == nil { // no listing takes longer
			all = tear(before, all, v.coin)
		}
	}
	if err != nil {
		return err
	}
	for _, path := range slices.Sorted(maps.Keys(all)) {
		if err := yield(all[path]); err != nil {
			c.Halt = err
			return nil
		}
	}
	return nil
}

// tear mixes two looks at a directory. What is in both, as the same, is in the mixture.
func tear(before, after map[string]remote.Entry, seed uint64) map[string]remote.Entry {
	rng, all := rand.New(rand.NewPCG(seed, 0)), map[string]remote.Entry{}
	both := maps.Clone(before)
	maps.Copy(both, after)
	for _, path := range slices.Sorted(maps.Keys(both)) {
		from := after
		if rng.IntN(2) == 0 {
			from = before
		}
		if e, ok := from[path]; ok {
			all[path] = e
		}
	}
	return all
}

// delay keeps a change for later, and tells whether it can.
func (x *explorer) delay(ctx context.Context, c *remote.Call) bool {
	l := lateRequest{call: c}
	l.errand, _ = ctx.Value(errandKey{}).(*errand)
	switch path, to, put, remove, rename := c.Path, c.To, c.Put, c.Remove, c.Rename; c.Op {
	case remote.OpPut:
		data, err := readSource(c.Source)
		if err != nil {
			return false
		}
		l.do = func(ctx context.Context) error {
			_, err := x.server.Put(ctx, path, remotetest.Bytes(data), put)
			return err
		}
	case remote.OpRemove:
		l.do = func(ctx context.Context) error { return x.server.Remove(ctx, path, remove) }
	case remote.OpRename:
		l.do = func(ctx context.Context) error { return x.server.Rename(ctx, path, to, rename) }
	case remote.OpMkdir:
		l.do = func(ctx context.Context) error { _, err := x.server.Mkdir(ctx, path); return err }
	default:
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.late = append(x.late, l)
	if l.errand != nil {
		l.errand.late++
	}
	return true
}

func readSource(s remote.Source) ([]byte, error) {
	r, err := s.Open()
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	return data, errors.Join(err, r.Close())
}

// land has a late request take effect.
func (x *explorer) land(i int) {
	x.mu.Lock()
	l := x.late[i]
	x.late = slices.Delete(x.late, i, i+1)
	x.mu.Unlock()
	err := l.do(context.Background())
	x.mu.Lock()
	defer x.mu.Unlock()
	x.note("%s %s of errand %d lands: %v", l.call.Op, l.call.Path, l.errand.id(), err)
	if err == nil {
		x.model.landed(l)
	}
	x.settle(l)
}

// settle notes that a late request is over. mu is held.
func (x *explorer) settle(l lateRequest) {
	if l.errand != nil {
		l.errand.late--
		l.errand.close(x.clock)
	}
}

// dropLate has those late requests never land that are of a directory which has gone. mu is
// held.
func (x *explorer) dropLate(dir string) {
	x.late = slices.DeleteFunc(x.late, func(l lateRequest) bool {
		gone := remote.Within(l.call.Path, dir)
		if gone {
			x.settle(l)
		}
		return gone
	})
}
