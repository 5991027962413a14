// Package pending tells and does, in the words of package control, what there is about
// changes that are not on their servers yet: for the mount that has them, and for those
// that a mount has left in its cache directory.
package pending

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/remote"
)

// Store is what is used of a *writeback.Store.
type Store interface {
	Status() writeback.Status
	Flush(ctx context.Context, branch, path string) error
	Retry(id uint64) error
	Drop(id uint64) error
	Export(id uint64, dir string) (string, error)
	Pause()
	Resume()
}

// Journal is the changes of a store. Its methods are safe for concurrent use.
type Journal struct {
	Store Store
	// Names are the places that trees had in the mount, with a slash in front, for those
	// that have changes and are not mounted.
	Names map[string]string
	// Frame returns what a status has besides the changes.
	Frame func() control.Status

	mu    sync.Mutex
	last  control.Progress // guarded by mu; what Progress told
	asked time.Time        // guarded by mu; when
	cost  time.Duration    // guarded by mu; how long that took
	speed speeds           // guarded by mu
}

// look asks the store, with the rates of uploads under way.
func (j *Journal) look() writeback.Status {
	now := j.Store.Status()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.speed.look(&now, time.Now())
	for i := range now.Branches {
		b := &now.Branches[i]
		b.Rate = j.speed.of(b)
	}
	return now
}

var _ control.Changes = (*Journal)(nil)

// mostConflicts is how many conflicts of a branch a status names.
const mostConflicts = 100

// Status implements control.Changes.
func (j *Journal) Status(_ context.Context, items int) (control.Status, error) {
	now := j.look()
	places := j.places(&now)
	s := j.Frame()
	s.Paused, s.Staged, s.Limit, s.Full, s.Damage = now.Paused, now.Staged, now.Limit, now.Full, now.Damage
	s.Progress = progress(&now, places)
	s.Branches = []control.BranchStatus{}
	for i := range now.Branches {
		s.Branches = append(s.Branches, branchStatus(&now.Branches[i], places))
	}
	s.Items = []control.Item{}
	for _, i := range first(now.Items, items) {
		s.Items = append(s.Items, item(i, places))
	}
	s.LeftOut = len(now.Items) - len(s.Items)
	return s, nil
}

// costly is how many times as long as an answer takes Progress repeats it: who waits for
// very many changes must not keep the store from its work.
const costly = 20

// Progress implements control.Changes.
func (j *Journal) Progress(context.Context) (control.Progress, error) {
	began := time.Now()
	j.mu.Lock()
	last, again := j.last, began.Sub(j.asked) < costly*j.cost
	j.mu.Unlock()
	if again {
		return last, nil
	}
	now := j.look()
	p := progress(&now, j.places(&now))
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last, j.asked = p, time.Now()
	j.cost = j.asked.Sub(began)
	return p, nil
}

func progress(now *writeback.Status, places map[string]string) control.Progress {
	var p control.Progress
	for i := range now.Branches {
		b := &now.Branches[i]
		p.Pending, p.Uploading, p.Parked = p.Pending+b.Pending, p.Uploading+b.Uploading, p.Parked+b.Parked
		p.Bytes, p.Sent, p.Rate = p.Bytes+b.Bytes, p.Sent+b.Sent, p.Rate+b.Rate
		if b.Held != "" {
			p.Held = append(p.Held, place(b.Name, places)+": "+b.Held)
		}
	}
	if now.Paused && p.Pending > 0 {
		p.Held = append(p.Held, "uploads are paused")
	}
	return p
}

func branchStatus(b *writeback.BranchStatus, places map[string]string) control.BranchStatus {
	s := control.BranchStatus{
		Name: place(b.Name, places), Tree: b.Tree, Mounted: b.Mounted, Pending: b.Pending, Uploading: b.Uploading, Parked: b.Parked,
		Bytes: b.Bytes, Sent: b.Sent, Rate: b.Rate, Held: b.Held, ConflictCount: len(b.Conflicts),
	}
	for _, c := range b.Conflicts[max(len(b.Conflicts)-mostConflicts, 0):] {
		s.Conflicts = append(s.Conflicts, control.Conflict{Path: inMount(s.Name, c.Path), Copy: inMount(s.Name, c.Copy), Time: c.Time})
	}
	return s
}

// places returns the places in the mount of the branches that are not mounted, by their
// names, which are those of their trees.
func (j *Journal) places(now *writeback.Status) map[string]string {
	m := map[string]string{}
	for i := range now.Branches {
		b := &now.Branches[i]
		if b.Mounted {
			continue
		}
		m[b.Name] = "(" + b.Tree + ")"
		if at := j.Names[b.Tree]; at != "" {
			m[b.Name] = at
		}
	}
	return m
}

func place(branch string, places map[string]string) string {
	if at, ok := places[branch]; ok {
		return at
	}
	return branch
}

// inMount returns the path in the mount of a path within a branch.
func inMount(branch, path string) string {
	switch {
	case path == "":
		return ""
	case branch == "/":
		return path
	case path == "/":
		return branch
	}
	return branch + path
}

// item returns a change as control tells it.
func item(i writeback.Item, places map[string]string) control.Item {
	at := place(i.Branch, places)
	c := control.Item{ID: i.ID, Op: i.Op, Path: inMount(at, i.Path), To: i.To, State: i.State, Size: i.Size, Sent: i.Sent,
		Since: i.Since, Tries: i.Tries, NextTry: i.NextTry, Cause: exit.OneLine(i.Cause), File: i.Staged, Offset: i.Offset}
	if i.Op != "symlink" {
		c.To = inMount(at, i.To)
	}
	if i.Cause != "" {
		c.Kind = i.Kind.String()
	}
	return c
}

// urgency is the order in which a status with a bound names changes, by their states.
var urgency = []string{control.ItemParked, control.ItemUploading, control.ItemWaiting, control.ItemBlocked, control.ItemPending}

// first returns the n changes that need attention most, each state in the order of list.
func first(list []writeback.Item, n int) []writeback.Item {
	if len(list) <= n {
		n = len(list)
	}
	chosen := make([]writeback.Item, 0, n)
	for _, state := range urgency {
		for i := range list {
			if len(chosen) == n {
				return chosen
			}
			if list[i].State == state {
				chosen = append(chosen, list[i])
			}
		}
	}
	return chosen
}

// Items implements control.Changes.
func (j *Journal) Items(ctx context.Context, yield func(control.Item) error) error {
	now := j.Store.Status()
	places := j.places(&now)
	for _, i := range now.Items {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := yield(item(i, places)); err != nil {
			return err
		}
	}
	return nil
}

// Flush implements control.Changes.
func (j *Journal) Flush(ctx context.Context, path string) (control.Leftovers, error) {
	now := j.Store.Status()
	targets := targets(now.Branches, path)
	failed := make([]error, len(targets))
	var waiting sync.WaitGroup
	for i, t := range targets {
		waiting.Go(func() { failed[i] = j.Store.Flush(ctx, t.branch, t.path) })
	}
	waiting.Wait()
	why := cmp.Or(failed...)
	if why == nil || ctx.Err() != nil {
		return control.Leftovers{}, ctx.Err()
	}
	left := j.stuck(path)
	if len(left.Items) == 0 { // retried or dropped meanwhile
		return left, why
	}
	return left, &remote.Error{Op: "flush", Path: path, Kind: remote.KindOf(why), Err: errLeft}
}

var errLeft = errors.New("some of it cannot be stored")

// target is a tree of a branch.
type target struct{ branch, path string }

// targets returns what of which branch lies at or below a path in the mount.
func targets(branches []writeback.BranchStatus, path string) []target {
	var list []target
	owner := ""
	for i := range branches {
		b := &branches[i]
		switch {
		case !b.Mounted:
		case remote.Within(b.Name, path):
			list = append(list, target{b.Name, "/"})
		case remote.Within(path, b.Name) && len(b.Name) > len(owner):
			owner = b.Name
		}
	}
	// The branch at path itself hides what one above it has there.
	if slices.ContainsFunc(list, func(t target) bool { return t.branch == path }) || owner == "" {
		return list
	}
	inside := path
	if owner != "/" {
		inside = path[len(owner):]
	}
	return append(list, target{owner, inside})
}

// stuck returns what at or below a path does not go on by itself.
func (j *Journal) stuck(path string) control.Leftovers {
	now := j.Store.Status()
	places := j.places(&now)
	left := control.Leftovers{Items: []control.Item{}}
	for _, i := range now.Items {
		c := item(i, places)
		if c.State != control.ItemParked && c.State != control.ItemBlocked || !remote.Within(c.Path, path) && !remote.Within(c.To, path) {
			continue
		}
		if len(left.Items) == control.MaxLeft {
			left.LeftOut++
			continue
		}
		left.Items = append(left.Items, c)
	}
	return left
}

// Retry implements control.Changes.
func (j *Journal) Retry(_ context.Context, id uint64) error { return j.Store.Retry(id) }

// RetryAll implements control.Changes.
func (j *Journal) RetryAll(context.Context) (count int, err error) {
	before := j.parked()
	err = j.Store.Retry(0)
	return max(before-j.parked(), 0), err
}

// parked returns how many changes are parked.
func (j *Journal) parked() (n int) {
	for _, b := range j.Store.Status().Branches {
		n += b.Parked
	}
	return n
}

// Drop implements control.Changes.
func (j *Journal) Drop(_ context.Context, id uint64) error { return j.Store.Drop(id) }

// Pause implements control.Changes.
func (j *Journal) Pause(_ context.Context, hold bool) error {
	if hold {
		j.Store.Pause()
	} else {
		j.Store.Resume()
	}
	return nil
}

// Export implements control.Changes.
func (j *Journal) Export(ctx context.Context, dir string, ids []uint64, yield func(control.Exported) error) error {
	now := j.Store.Status()
	places := j.places(&now)
	known := map[uint64]*writeback.Item{}
	for i := range now.Items {
		x := &now.Items[i]
		known[x.ID] = x
	}
	if len(ids) == 0 {
		for i := range now.Items {
			if x := &now.Items[i]; x.State == control.ItemParked && x.Staged != "" {
				ids = append(ids, x.ID)
			}
		}
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := yield(j.export(id, known[id], dir, places)); err != nil {
			return err
		}
	}
	return nil
}

// export copies the content of one change.
func (j *Journal) export(id uint64, x *writeback.Item, dir string, places map[string]string) control.Exported {
	e := control.Exported{ID: id}
	if x == nil {
		e.Error = "there is no such change"
		return e
	}
	e.Path = inMount(place(x.Branch, places), x.Path)
	var err error
	if e.File, err = j.Store.Export(id, dir); err != nil {
		e.File, e.Error = "", reason(err)
	}
	return e
}

// reason is an error's text without the operation.
func reason(err error) string {
	e, ok := errors.AsType[*remote.Error](err)
	switch {
	case ok && e.Kind == remote.Exist:
		return e.Path + " exists already"
	case ok && e.Err != nil:
		return e.Err.Error()
	}
	return err.Error()
}
