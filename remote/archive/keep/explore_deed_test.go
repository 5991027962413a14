package keep_test

import (
	"context"
	"errors"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// overwrite replaces a file by the version that was seen.
func (e *errand) overwrite(ctx context.Context) {
	entry, old := e.pick(ctx)
	if old == nil {
		return
	}
	c := e.content(entry.Path)
	x := e.node.x
	x.mu.Lock()
	x.model.swaps = append(x.model.swaps, swap{old, c})
	x.mu.Unlock()
	kill, a := e.act(old, false, true), e.act(c, true, false)
	s := e.put(ctx, c, remote.PutOptions{Cond: remote.Cond{Version: entry.Version, Provisional: entry.Provisional}}, a)
	e.resolve(kill, s)
}

// blind stores a file over whatever is there.
func (e *errand) blind(ctx context.Context) {
	c := e.content(e.name(e.dir()))
	kill := &act{errand: e}
	e.aim(c.names[0], "")
	e.weakly(kill, c.names[0], c)
	e.resolve(kill, e.put(ctx, c, remote.PutOptions{}, e.act(c, true, false)))
	e.weakly(kill, c.names[0], c)
}

// aim notes that something begins that concerns whatever is at a path, and to where it goes.
func (e *errand) aim(path, to string) {
	e.node.x.mu.Lock()
	defer e.node.x.mu.Unlock()
	e.node.x.model.moves = append(e.node.x.model.moves, move{e, path, to})
}

// weakly notes what an act may remove.
func (e *errand) weakly(a *act, path string, but *known) {
	e.node.x.mu.Lock()
	defer e.node.x.mu.Unlock()
	if a.counts() {
		e.node.x.model.weakly(a, path, but)
	}
}

// remove removes a file, of the version that was seen or of any.
func (e *errand) remove(ctx context.Context) {
	entry, c := e.pick(ctx)
	if c == nil {
		return
	}
	opts := remote.RemoveOptions{Type: remote.File, Version: entry.Version}
	a := &act{errand: e}
	if e.rng.IntN(8) == 0 {
		opts.Version = ""
		e.aim(entry.Path, "")
		e.weakly(a, entry.Path, nil)
	} else {
		a = e.act(c, false, true)
	}
	a.sure = opts.Version != ""
	e.resolve(a, e.state(e.node.k.Remove(ctx, entry.Path, opts)))
	if opts.Version == "" {
		e.weakly(a, entry.Path, nil)
	}
}

// rename gives a file another name, sometimes that of another file.
func (e *errand) rename(ctx context.Context) {
	entry, c := e.pick(ctx)
	if c == nil {
		return
	}
	dir, _ := remote.Split(entry.Path)
	if e.rng.IntN(3) == 0 {
		dir = e.dir()
	}
	to := e.name(dir)
	opts := remote.RenameOptions{NoReplace: e.rng.IntN(3) > 0}
	x := e.node.x
	x.mu.Lock()
	all := x.model.at(entry.Path)
	x.mu.Unlock()
	e.aim(entry.Path, to)
	a, kill := &act{errand: e, sure: true}, &act{errand: e}
	e.carries(a, all, to)
	if !opts.NoReplace {
		e.weakly(kill, to, c)
	}
	s := e.state(e.node.k.Rename(ctx, entry.Path, to, opts))
	e.resolve(a, s)
	e.resolve(kill, s)
	if !opts.NoReplace {
		e.weakly(kill, to, c)
	}
	e.renamed(a, all, entry.Path, to)
}

// carries notes that an act makes files of contents at a path.
func (e *errand) carries(a *act, all []*known, to string) {
	e.node.x.mu.Lock()
	defer e.node.x.mu.Unlock()
	for _, c := range all {
		c.addName(to)
		if !slices.Contains(c.carriers, a) {
			c.carriers = append(c.carriers, a)
		}
	}
}

// renamed notes what names contents have after a rename. If only one can have been meant,
// and nobody else was about, it has the new name only.
func (e *errand) renamed(a *act, before []*known, from, to string) {
	if !a.counts() {
		return
	}
	x := e.node.x
	x.mu.Lock()
	defer x.mu.Unlock()
	after := x.model.at(from)
	lone := a.state == done && len(before) == 1 && len(after) == 1 && before[0] == after[0]
	for _, c := range slices.Concat(before, after) {
		c.addName(to)
		if !slices.Contains(c.carriers, a) {
			c.carriers = append(c.carriers, a)
		}
	}
	if !lone || from == to {
		return
	}
	if x.model.mayDouble(before[0]) {
		return // it may be left where it was
	}
	met := func(b *act) bool { return b != a && (b.errand == nil || b.errand.over() >= e.start) }
	if c := before[0]; !slices.ContainsFunc(x.model.handled(c), met) && !slices.ContainsFunc(c.kills, met) {
		c.past = append(c.past, c.names...)
		c.names = []string{to}
	}
}

// renameDir moves a directory to and fro.
func (e *errand) renameDir(ctx context.Context) {
	from, to := exploreDirs[0], exploreMoved
	if e.rng.IntN(2) == 0 {
		from, to = to, from
	}
	x := e.node.x
	a := &act{errand: e, sure: true}
	x.mu.Lock()
	x.model.moved(a, from, to)
	x.mu.Unlock()
	e.resolve(a, e.state(e.node.k.Rename(ctx, from, to, remote.RenameOptions{})))
	if !a.counts() {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.model.moved(a, from, to)
}

// setAttr changes the permissions of a file.
func (e *errand) setAttr(ctx context.Context) {
	entry, c := e.pick(ctx)
	if c == nil {
		return
	}
	mode := uint32(0o600 + e.rng.IntN(64))
	x := e.node.x
	x.mu.Lock()
	all := x.model.at(entry.Path)
	x.mu.Unlock()
	a := &act{errand: e}
	e.carries(a, all, entry.Path)
	_, err := e.node.k.SetAttr(ctx, entry.Path, remote.Attrs{Mode: &mode})
	e.resolve(a, e.state(err))
}

// look lists a directory and reads all that is in it.
func (e *errand) look(ctx context.Context) {
	all, from, err := e.entries(ctx, e.dir())
	if err != nil {
		return
	}
	for _, entry := range all {
		if entry.Type == remote.File {
			e.read(ctx, entry, from)
		}
	}
}

// sweeping notes a conversion of a directory.
func (e *errand) sweeping() string {
	x := e.node.x
	dir := e.dir()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.model.sweeps = append(x.model.sweeps, sweep{e, dir})
	x.note("node %d, errand %d: in %s", e.node.number, e.number, dir)
	return dir
}

func (e *errand) swept(files int, whole bool, err error) {
	e.note("%d files, whole %v, %v", files, whole, err)
	e.node.x.mu.Lock()
	defer e.node.x.mu.Unlock()
	e.failed = err != nil || !whole
}

func (e *errand) pack(ctx context.Context) {
	done, err := e.node.k.Pack(ctx, e.sweeping(), 1<<20)
	e.swept(done.Files, len(done.Left) == 0, err)
}

func (e *errand) unpack(ctx context.Context) {
	done, err := e.node.k.Unpack(ctx, e.sweeping())
	e.swept(done.Files, len(done.Left) == 0, err)
}

func (e *errand) mkdir(ctx context.Context) {
	_, err := e.node.k.Mkdir(ctx, exploreDirs[e.rng.IntN(len(exploreDirs))])
	e.state(err)
}

// rmdir removes a directory if it is empty. What is on the way into it then never comes.
func (e *errand) rmdir(ctx context.Context) {
	dir := e.dir()
	err := e.node.k.Remove(ctx, dir, remote.RemoveOptions{Type: remote.Dir})
	e.gone(dir, e.state(err))
}

func (e *errand) gone(dir string, s actState) {
	if s == nothing {
		return
	}
	x := e.node.x
	x.mu.Lock()
	defer x.mu.Unlock()
	x.dropLate(dir)
}

// prune removes a directory with what it has seen in it.
func (e *errand) prune(ctx context.Context) {
	dir := e.dir()
	p, ok := remote.As[remote.Pruner](remote.Backend(e.node.k))
	if !ok || !p.Prunes() {
		return
	}
	var all []remote.Known
	var kills []*act
	for todo := []string{dir}; len(todo) > 0; todo = todo[1:] {
		entries, from, err := e.entries(ctx, todo[0])
		if err != nil {
			break
		}
		for _, entry := range entries {
			all = append(all, remote.Known{Path: entry.Path, Type: entry.Type, Version: entry.Version})
			if entry.Type == remote.Dir {
				todo = append(todo, entry.Path)
			} else if c := e.read(ctx, entry, from); c != nil {
				kills = append(kills, e.act(c, false, true))
			} else {
				all = all[:len(all)-1] // it is not known what it is
			}
		}
	}
	err := p.Prune(ctx, dir, all)
	s := e.state(err)
	if errors.Is(err, remote.NotExist) {
		s = nothing
	}
	for _, a := range kills {
		e.resolve(a, s)
	}
	e.gone(dir, s)
}
