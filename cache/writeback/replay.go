package writeback

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// orphan is a change in the journal of which no mounted branch knows yet.
type orphan struct {
	op      record
	parked  *record
	trusted bool // what it says of the disk is so, whatever the machine has been through
}

// records returns what the journal has to keep of it.
func (o *orphan) records() []record {
	op := o.op
	op.Doubt = !o.trusted
	if o.parked == nil {
		return []record{op}
	}
	return []record{op, *o.parked}
}

// conflictNote tells where somebody else's change met ours.
type conflictNote struct {
	branch, path, copy string
	at                 time.Time
}

func (n conflictNote) record() record {
	return record{Kind: recConflict, Branch: n.branch, Path: n.path, To: n.copy, Time: n.at}
}

// maxConflicts is how many conflicts are remembered.
const maxConflicts = 1000

// replay reads the journal.
func (s *Store) replay() error {
	err := s.journal.replay(func(r *record, sameBoot bool) error {
		s.lastID = max(s.lastID, r.ID)
		o := s.orphans[r.ID]
		switch {
		case r.Kind == recOp:
			s.orphans[r.ID] = &orphan{op: *r, trusted: r.Synced || sameBoot && !r.Doubt}
		case r.Kind == recConflict:
			s.remember(conflictNote{r.Branch, r.Path, r.To, r.Time})
		case o == nil:
		case r.Kind == recDone:
			delete(s.orphans, r.ID)
		case r.Kind == recParked:
			o.parked = r
		case r.Kind == recSynced && r.Gen == o.op.Gen:
			o.trusted, o.op.Synced = true, true
		}
		return nil
	})
	if err != nil {
		return err
	}
	needed, files := map[string]*record{}, map[string]bool{}
	for _, o := range s.orphans {
		if r := needed[o.op.Stage]; r == nil || r.ID < o.op.ID {
			needed[o.op.Stage] = &o.op
		}
		file, _, _ := fileOf(o.op.Stage)
		files[file] = true
	}
	s.staged, err = s.stages.sweep(func(name string) bool { return files[name] })
	for name, r := range needed {
		if file, _, shared := fileOf(name); shared && s.stages.slots.needs(file, r.Size) {
			s.staged[name] = true
		}
	}
	return err
}

func (s *Store) remember(n conflictNote) {
	s.conflicts = append(s.conflicts, n)
	if len(s.conflicts) > maxConflicts {
		s.conflicts = s.conflicts[1:]
	}
}

// adopt makes the changes that earlier mounts have left those of the branch. Guarded by
// mu.
func (s *Store) adopt(b *Branch) {
	var mine []*orphan
	for id, o := range s.orphans {
		if o.op.Branch == b.policy.Tree {
			mine = append(mine, o)
			delete(s.orphans, id)
		}
	}
	slices.SortFunc(mine, func(x, y *orphan) int { return cmp.Compare(x.op.ID, y.op.ID) })
	a := adopter{b: b, stages: map[string]*Stage{}, shown: map[string]string{}, latest: map[string]*record{}}
	for _, o := range mine {
		a.latest[o.op.Stage] = &o.op
	}
	begin := s.opts.Now().Add(s.opts.Grace)
	for _, o := range mine {
		c := a.change(o)
		if c.kind == opClean && !b.Caps().AtomicPut {
			b.torn[c] = struct{}{}
		} else {
			c.retry = begin
		}
		b.enqueue(c)
		if c.state == parked {
			b.queue.excuse(c)
		}
	}
	for _, o := range mine {
		if c := b.all[o.op.ID]; c != nil && c.kind == opRename && c.stage != nil && c.state == idle {
			b.putWritten(c)
		}
	}
	for _, st := range a.stages {
		st.Release()
	}
}

// putWritten looks whether what the server is to rename, which it has, was written here since:
// then that is seen, and the server is to have it. Guarded by mu.
func (b *Branch) putWritten(renamed *change) {
	st, first := renamed.stage, renamed
	for first.after != nil && first.after.stage == st { // of several renames, the first knows what was sent
		first = first.after
	}
	if first.kind != opRename || b.shown(renamed.to) != renamed || st.settle() != nil {
		return // it is to be sent as it is, or will be told when it is read
	}
	size, was := st.Size(), first.digest
	switch {
	case size < renamed.size:
	case !was.ok || st.digestOf(renamed.size, was.parts, maxAnnounce).equal(was):
		return
	}
	b.putCut(renamed, size)
}

// adopter makes changes of records.
type adopter struct {
	b      *Branch
	stages map[string]*Stage  // by name
	shown  map[string]string  // version that shows a stage, by its name
	latest map[string]*record // the last change of a stage, by its name: it says what it holds
}

func (a *adopter) change(o *orphan) *change {
	r := &o.op
	c := &change{b: a.b, id: r.ID, gen: r.Gen, kind: r.Op, path: r.Path, to: r.To, target: r.Target, typ: r.Type, size: r.Size,
		base: r.Base, since: r.Time, synced: r.Synced, replayed: true, token: r.Resume, digest: digest{r.HasSum, r.Size, r.Sum, r.Parts},
		deep: r.Op == opRemove && r.Type == remote.Dir || r.Op == opSetAttr && r.Type == remote.Dir}
	if IsLocal(r.ToBase.Version) {
		c.toAfter, _ = a.b.queue.tail(c.to)
	} else if r.ToBase.Type != 0 {
		c.toBase = &r.ToBase
	}
	if r.HasMTime {
		c.mtime = r.MTime
	}
	if r.SetMTime {
		at := r.MTime
		c.attrs.MTime, c.loose = &at, r.Loose
	}
	if r.HasMode {
		c.attrs.Mode = &r.Mode
	}
	if IsLocal(r.Base.Version) {
		c.base = remote.Entry{}
		c.after, _ = a.b.queue.tail(c.path)
	}
	for _, g := range r.Ghosts {
		c.ghosts = append(c.ghosts, ghost{size: g.Size, digest: digest{g.HasSum, g.Size, g.Sum, g.Parts}, mtime: g.MTime, since: g.Since})
	}
	switch c.kind {
	case opRemove:
		c.doubt = len(c.ghosts) > 0
	case opPut: // the staging file may have been written since
		c.announced = r.Sent
		c.ghosts = haunted(c.ghosts, c.traces()...)
	}
	if c.kind == opRename || c.kind == opSetAttr {
		c.source, c.target = r.Target, ""
	}
	c.version = a.version(c, r.Stage)
	if o.parked != nil {
		c.state, c.cause = parked, &remote.Error{Op: r.Op.String(), Path: r.Path, Kind: o.parked.ErrKind, Err: errors.New(o.parked.Cause)}
	}
	if r.Stage == "" {
		return c
	}
	if c.token != "" {
		token := c.token
		defer func() {
			if c.stage != nil {
				c.pin = c.stage.pin(c.size, false, func() { a.b.forgetToken(c, token) })
			}
		}()
	}
	if err := a.stage(c, o); err != nil {
		c.state, c.cause = parked, &remote.Error{Op: r.Op.String(), Path: r.Path, Kind: remote.Corrupt, Err: err}
		c.unsafe = errors.Is(err, errUnsafe)
		a.b.store.note(c.record(), c.parkedRecord())
		a.b.store.log.Error("a change of an earlier mount is not brought to the server", "branch", a.b.policy.Name, "path", c.path, "err", err)
	}
	return c
}

// version returns what the change shows: a rename shows what was there.
func (a *adopter) version(c *change, stage string) string {
	if c.kind == opRename && a.shown[stage] != "" {
		return a.shown[stage]
	}
	v := a.b.store.nextVersion()
	if stage != "" {
		a.shown[stage] = v
	}
	return v
}

// Why content of an earlier mount is not trusted.
var (
	errNoStage = errors.New("its staging file is gone")
	errUnsafe  = errors.New("the machine went down before its content was on stable storage, and what is there may not be what was written")
)

// stage gives c its staging file, and tells what is wrong with that.
func (a *adopter) stage(c *change, o *orphan) error {
	r := &o.op
	st := a.stages[r.Stage]
	if st == nil {
		l := a.latest[r.Stage]
		st = a.b.store.stages.adopt(a.b.below, l.Stage, l.Size, l.Limit, l.Have, l.From)
		st.loose = true
		a.stages[r.Stage] = st
	}
	c.stage = st
	if !a.b.store.staged[r.Stage] {
		return errNoStage
	}
	if o.trusted {
		return nil
	}
	if !c.digest.equal(st.digestOf(r.Size, r.Parts, maxAnnounce)) {
		return errUnsafe
	}
	return nil
}

// fit makes the size of a stage that of its file, if that is shorter: the program had cut
// it. If it is longer, the rest was not committed. Guarded by mu.
func (st *Stage) fit(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch size := info.Size(); {
	case size < st.size:
		st.size, st.limit = size, min(st.limit, size)
		st.home.space.give(st.have.cut(size))
	case size > st.size:
		return f.Truncate(st.size)
	}
	return nil
}

// settle compares size and file, if that was not done yet.
func (st *Stage) settle() error {
	_, err := st.opened()
	if err == nil {
		st.mu.RUnlock()
	}
	return err
}

// conflicted notes a conflict. Guarded by store.mu.
func (b *Branch) conflicted(c *change, r outcome) {
	n := conflictNote{branch: b.policy.Tree, path: c.path, copy: r.copy.Path, at: b.store.opts.Now()}
	if c.to != "" {
		n.path = c.to
	}
	b.store.remember(n)
	b.store.note(n.record())
	b.store.log.Warn("conflict: somebody else has changed what was changed here",
		"branch", b.policy.Name, "op", c.kind.String(), "path", n.path, "ours", n.copy, "what", r.kept)
}
