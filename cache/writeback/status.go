package writeback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// Status is what a Store has to do.
type Status struct {
	Paused bool
	Staged int64 // bytes in staging files
	Limit  int64 // of Staged, 0 for none
	Items  []Item
	// Branches are those of the mount, and those that have changes and are not in it.
	Branches []BranchStatus
	Full     string // why there is no room for what is written, "" if there is
	Damage   string // what of the journal could not be read, "" if nothing
}

// The states of items.
const (
	Pending   = "pending"   // waits for its turn
	Uploading = "uploading" // is being carried out
	Waiting   = "waiting"   // has failed and will be tried again
	Parked    = "parked"    // has failed for good and waits for the user
	Blocked   = "blocked"   // waits for a parked one
)

// Item is one change that its server has yet to see.
type Item struct {
	ID       uint64
	Branch   string // name in the mount; the tree, if it is not mounted
	Path, To string
	Op       string
	State    string
	Size     int64 // bytes of content
	Sent     int64 // bytes of it, in the present attempt
	Since    time.Time
	Tries    int
	NextTry  time.Time
	Cause    string
	Kind     remote.Kind
	Staged   string // file on this node with the content, "" if there is none
	Offset   int64  // where in that file it begins, in bytes: small ones lie in one with others
}

// BranchStatus sums up a branch.
type BranchStatus struct {
	Name, Tree string
	Mounted    bool
	Pending    int // all that is not parked
	Parked     int
	Uploading  int
	Bytes      int64   // of what is pending
	Sent       int64   // of that, by what is uploading
	Rate       float64 // bytes per second
	Held       string  // why nothing is sent, "" if it is
	Conflicts  []Conflict
}

// Conflict tells where somebody else's change met ours, and where ours went. Copy is
// empty if ours was to remove, and was not carried out.
type Conflict struct {
	Path, Copy string
	Time       time.Time
}

// Status tells what is to be done.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Paused: s.paused, Full: s.full(), Damage: s.journal.damage()}
	st.Staged, st.Limit = s.space.staged()
	n := len(s.orphans)
	for _, b := range s.branches {
		n += len(b.all)
	}
	st.Items = make([]Item, 0, n)
	for _, b := range s.branches {
		st.Branches = append(st.Branches, b.status(&st))
	}
	s.addOrphans(&st)
	slices.SortFunc(st.Items, func(a, b Item) int { return cmp.Compare(a.ID, b.ID) })
	return st
}

// full returns in words why there is no room for what programs write, "" if there is.
func (s *Store) full() string {
	if text := s.space.full(); text != "" || !s.journal.cramped() {
		return text
	}
	return "no room for more changes: the file system of " + s.stages.dir + " has no space for the journal"
}

// status sums up the branch and adds its items. Guarded by store.mu.
func (b *Branch) status(st *Status) BranchStatus {
	now := b.store.opts.Now()
	sum := BranchStatus{Name: b.policy.Name, Tree: b.policy.Tree, Mounted: true, Rate: b.rate.now(now)}
	if b.pace.why != nil {
		sum.Held = b.pace.why.Error()
	}
	held := b.anyParked()
	for _, c := range b.all {
		i := b.item(c, held)
		st.Items = append(st.Items, i)
		if i.State == Parked {
			sum.Parked++
			continue
		}
		sum.Pending++
		sum.Bytes += i.Size
		if i.State == Uploading {
			sum.Uploading++
			sum.Sent += i.Sent
		}
	}
	for _, n := range b.store.conflicts {
		if n.branch == b.policy.Tree {
			sum.Conflicts = append(sum.Conflicts, Conflict{n.path, n.copy, n.at})
		}
	}
	return sum
}

// anyParked tells whether something of the branch is parked. Guarded by store.mu.
func (b *Branch) anyParked() bool { return len(b.parked) > 0 }

// item describes a change; held tells whether anything is parked. Guarded by store.mu.
func (b *Branch) item(c *change, held bool) Item {
	i := Item{ID: c.id, Branch: b.policy.Name, Path: c.path, To: cmp.Or(c.to, c.target), Op: c.kind.String(), Since: c.since, Tries: c.tries, State: Pending}
	if c.stage != nil {
		i.Staged, i.Offset = c.stage.Place()
		if c.kind == opPut {
			i.Size = c.size
		}
	}
	switch {
	case c.state == running, c.state == idle && c.growing():
		i.State, i.Sent = Uploading, min(c.sent.Load(), i.Size)
	case c.state == parked:
		i.State = Parked
	case held && behindParked(c, map[*change]bool{}):
		i.State = Blocked
	case c.cause != nil:
		i.State, i.NextTry = Waiting, c.retry
	}
	if c.cause != nil {
		i.Cause, i.Kind = c.cause.Error(), remote.KindOf(c.cause)
	}
	return i
}

func behindParked(c *change, seen map[*change]bool) bool {
	for _, d := range c.prev {
		if seen[d] {
			continue
		}
		seen[d] = true
		if d.state == parked || behindParked(d, seen) {
			return true
		}
	}
	return false
}

// addOrphans adds what belongs to branches that are not mounted. Guarded by mu.
func (s *Store) addOrphans(st *Status) {
	sums := map[string]*BranchStatus{}
	for _, o := range s.orphans {
		r := &o.op
		i := Item{ID: r.ID, Branch: r.Branch, Path: r.Path, To: r.To, Op: r.Op.String(), State: Pending, Since: r.Time}
		if r.Stage != "" {
			file, off, _ := fileOf(r.Stage)
			i.Staged, i.Offset = filepath.Join(s.stages.dir, file), off
			i.Size = r.Size
		}
		sum := sums[r.Branch]
		if sum == nil {
			sum = &BranchStatus{Name: r.Branch, Tree: r.Branch}
			sums[r.Branch] = sum
		}
		if o.parked != nil {
			i.State, i.Cause, i.Kind = Parked, o.parked.Cause, o.parked.ErrKind
			sum.Parked++
		} else {
			sum.Pending++
			sum.Bytes += i.Size
		}
		st.Items = append(st.Items, i)
	}
	for _, sum := range sums {
		st.Branches = append(st.Branches, *sum)
	}
}

// Pause keeps new uploads from beginning; those under way end.
func (s *Store) Pause() { s.setPaused(true) }

// Resume ends a pause.
func (s *Store) Resume() { s.setPaused(false) }

func (s *Store) setPaused(on bool) {
	s.mu.Lock()
	s.paused = on
	s.wake.Broadcast()
	s.mu.Unlock()
	s.poke()
}

// find returns a change by its number. Guarded by mu.
func (s *Store) find(id uint64) (*Branch, *change) {
	for _, b := range s.branches {
		if c, ok := b.all[id]; ok {
			return b, c
		}
	}
	return nil, nil
}

func noSuch(op string, id uint64) error {
	return &remote.Error{Op: op, Kind: remote.NotExist, Err: fmt.Errorf("there is no pending change %d", id)}
}

// Retry tries a change again at once, if it is parked or waits after a failure. With 0 it
// tries all.
func (s *Store) Retry(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 {
		for _, b := range s.branches {
			for _, c := range b.all {
				b.retry(c)
			}
			b.pace.free()
		}
		s.poke()
		return nil
	}
	b, c := s.find(id)
	if c == nil {
		return noSuch("retry", id)
	}
	b.retry(c)
	b.pace.free()
	s.poke()
	return nil
}

// retry makes a change that has failed as one that has not been tried. Guarded by
// store.mu.
func (b *Branch) retry(c *change) {
	switch {
	case c.state == parked && c.stage != nil && errors.Is(c.cause, errNoStage):
		return
	case c.state == parked:
		c.state, c.unsafe = idle, false // the user knows what is in it
		delete(b.parked, c)
		b.store.note(c.record())
	case c.state != idle || c.cause == nil:
		return
	}
	c.retry, c.tries, c.cause = time.Time{}, 0, nil
	b.queue.release(c)
	b.queue.fix(c)
}

// Drop gives a change up: its content is lost. What waits for it and cannot be without it
// is given up as well. Locked if it is under way.
func (s *Store) Drop(id uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, c := s.find(id)
	if o := s.orphans[id]; o != nil {
		if err := s.write(record{Kind: recDone, ID: id}); err != nil {
			return err
		}
		delete(s.orphans, id)
		return s.stages.removeUnused(o.op.Stage, s.orphans)
	}
	if c == nil {
		return noSuch("drop", id)
	}
	return b.giveUp(c)
}

// removeUnused removes a staging file that no orphan needs.
func (s *Stages) removeUnused(name string, orphans map[uint64]*orphan) error {
	if name == "" {
		return nil
	}
	for _, o := range orphans {
		if o.op.Stage == name {
			return nil
		}
	}
	if file, off, shared := fileOf(name); shared {
		s.slots.adopt(file, off, 0).free()
		return nil
	}
	return os.Remove(filepath.Join(s.dir, name))
}

// giveUp drops a change and the renames of what it makes. Guarded by store.mu.
func (b *Branch) giveUp(c *change) error {
	if c.grow != nil {
		return b.giveUpGrowing(c)
	}
	if c.state == running {
		return &remote.Error{Op: "drop", Path: c.path, Kind: remote.Locked, Err: errors.New("it is under way")}
	}
	for _, d := range slices.Clone(c.next) {
		if d.kind == opRename && d.after == c {
			if err := b.giveUp(d); err != nil {
				return err
			}
		}
	}
	var changed []*change
	for _, d := range c.next {
		if d.toAfter == c || d.after == c {
			changed = append(changed, d)
		}
		if d.after == c {
			d.after, d.base = c.after, c.base
		}
		if d.toAfter == c {
			d.toAfter, d.toBase = nil, c.below()
		}
	}
	if err := b.store.write(rebased(changed, doneRecord(c))...); err != nil {
		return err
	}
	was, paths := c.version, c.paths()
	c.cause = &remote.Error{Op: c.kind.String(), Path: c.path, Kind: remote.Other, Err: errors.New("it was given up")}
	b.withdraw(c)
	b.clock++
	for _, p := range paths {
		b.tellDropped(p, was)
	}
	b.store.poke()
	return nil
}

// giveUpGrowing drops a change whose content has been sent already: what the server has of
// it is removed. Guarded by store.mu.
func (b *Branch) giveUpGrowing(c *change) error {
	select {
	case <-c.grow.done:
	default:
		c.grow.cancel()
		return &remote.Error{Op: "drop", Path: c.path, Kind: remote.Locked, Err: errors.New("its upload is under way; it is ended, try again")}
	}
	x := c.grow
	c.grow = nil
	if err := b.giveUp(c); err != nil || !x.stored {
		return err
	}
	return b.submit(&change{kind: opRemove, path: c.path, typ: remote.File, base: x.entry})
}

// tellDropped tells what is at path when a change is given up. Guarded by store.mu.
func (b *Branch) tellDropped(path, was string) {
	f := b.onSettled
	if f == nil {
		return
	}
	b.teller.tell(func() {
		e, err := b.Stat(b.store.life, path)
		if err != nil {
			e = remote.Entry{}
		}
		f(Settled{Path: path, Was: was, Entry: e})
	})
}

// Export copies the content of a change to dir, below which it gets its branch and path,
// and returns its name. Nothing is overwritten: Exist. The change stays.
func (s *Store) Export(id uint64, dir string) (string, error) {
	s.mu.Lock()
	b, c := s.find(id)
	var st *Stage
	name, path := "", ""
	switch o := s.orphans[id]; {
	case c != nil && c.stage != nil:
		st, name, path = c.stage.retain(), b.policy.Name, c.path
	case o != nil && o.op.Stage != "":
		r := &o.op
		st = s.stages.adopt(nowhere{}, r.Stage, r.Size, r.Limit, r.Have, r.From)
		st.holders++
		name, path = strings.ReplaceAll(strings.ReplaceAll(r.Branch, "/", "_"), ":", "_"), r.Path
	}
	s.mu.Unlock()
	if st == nil {
		return "", noSuch("export", id)
	}
	defer st.Release()
	dst := filepath.Join(dir, filepath.FromSlash(name), filepath.FromSlash(path))
	return dst, st.export(s.life, dst)
}

// nowhere stands for the server of a branch that is not mounted.
type nowhere struct{ remote.Backend }

// ReadAt refuses: bytes that are not here cannot be had.
func (nowhere) ReadAt(_ context.Context, ref remote.Ref, _ []byte, _ int64) (int, error) {
	return 0, &remote.Error{Op: "read", Path: ref.Path, Kind: remote.Unavailable, Err: errors.New("its branch is not mounted, and it was written in part only")}
}

// export copies the content to a new file.
func (st *Stage) export(ctx context.Context, dst string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &remote.Error{Op: "export", Path: dst, Kind: remote.Exist}
	}
	if err != nil {
		return err
	}
	st.retain()
	r := &stageReader{ctx: ctx, st: st}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, make([]byte, 1<<20))
	if err = errors.Join(err, r.Close(), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(dst))
	}
	return nil
}
