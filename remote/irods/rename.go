package irods

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// renaming is one Rename. The server replaces an object in two steps (by its source): it
// removes the old one for good, and then finds out whether it may rename the new one. So
// what it will find out is looked at before. It cannot replace a collection at all: an
// empty one is removed first, and made again if the rest fails.
type renaming struct {
	b            *Backend
	from, to     string // in the branch
	src, dst     found
	parent, step found // if the directories differ: that of to, and what has the new name next to the old one
	steps        []move
}

// Rename implements remote.Backend. It is not atomic for other clients. An object that
// comes into another collection keeps its time, which takes a round trip more.
func (b *Backend) Rename(ctx context.Context, from, to string, opts remote.RenameOptions) error {
	const op = "rename"
	if err := b.check(op, from); err != nil {
		return absent(op, from, err)
	}
	if err := b.check(op, to); err != nil {
		return err
	}
	if from == "/" || to == "/" {
		return &remote.Error{Op: op, Path: from, Kind: remote.Invalid, Err: errors.New("the root of a branch")}
	}
	r := &renaming{b: b, from: from, to: to}
	err := b.do(ctx, op, from, true, func(s *session) error {
		first := r.attempt(ctx, s, opts)
		if first == nil || !taken(first) || !r.short(r.steps) {
			return first
		}
		// Somebody has just made what has the new name next to the old one: it is seen now.
		return r.loss(first, fail(ctx, op, from, true, r.attempt(ctx, s, opts)))
	})
	if err != nil && len(r.steps) > 1 && code(err) == 0 {
		r.gather(ctx, r.steps, err)
	}
	return err
}

// attempt looks at what there is and makes the moves.
func (r *renaming) attempt(ctx context.Context, s *session, opts remote.RenameOptions) error {
	r.steps = nil
	if err := r.look(ctx, s); err != nil {
		return unchanged(ctx, "rename", r.from, err)
	}
	if done, err := r.check(opts); done || err != nil {
		return err
	}
	r.steps = r.plan()
	return r.run(ctx, s, r.steps)
}

// loss returns the error of a second attempt together with what the first one may have
// taken away: the second one finds nothing there any more, and so cannot tell.
func (r *renaming) loss(first, second error) error {
	var e *remote.Error
	if !unsure(first) || !errors.As(second, &e) {
		return second
	}
	return &remote.Error{Op: e.Op, Path: e.Path, Kind: e.Kind, Unsure: true, Err: fmt.Errorf("%w; and before that: %v", second, first)}
}

func (r *renaming) dirs() (from, to string) {
	from, _ = remote.Split(r.from)
	to, _ = remote.Split(r.to)
	return from, to
}

// look looks at both ends and, if they lie in two directories, at what else matters then.
func (r *renaming) look(ctx context.Context, s *session) error {
	b := r.b
	fromDir, dir := r.dirs()
	paths := []string{b.full(r.from), b.full(r.to)}
	if fromDir != dir {
		_, name := remote.Split(r.to)
		paths = append(paths, b.full(dir), b.full(remote.Join(fromDir, name)))
	}
	list, err := b.look(ctx, s, paths...)
	if err != nil {
		return err
	}
	r.src, r.dst = list[0], list[1]
	if fromDir != dir {
		r.parent, r.step = list[2], list[3]
	}
	return nil
}

// check checks the rename as rename(2) does. done tells that there is nothing to do.
func (r *renaming) check(opts remote.RenameOptions) (done bool, err error) {
	src, dst := r.src, r.dst
	fromDir, dir := r.dirs()
	across := fromDir != dir
	refuse := func(kind remote.Kind, path string) (bool, error) {
		return false, &remote.Error{Op: "rename", Path: path, Kind: kind}
	}
	switch {
	case !src.any():
		return refuse(remote.NotExist, r.from)
	case r.from == r.to && opts.NoReplace:
		return refuse(remote.Exist, r.to)
	case r.from == r.to:
		return true, nil
	case src.coll != nil && strings.HasPrefix(r.to, r.from+"/"):
		return refuse(remote.Invalid, r.to)
	case across && r.parent.object != nil:
		return refuse(remote.NotDir, r.to)
	case across && r.parent.coll == nil:
		return refuse(remote.NotExist, r.to)
	case dst.any() && opts.NoReplace:
		return refuse(remote.Exist, r.to)
	case src.object != nil && dst.coll != nil:
		return refuse(remote.IsDir, r.to)
	case src.coll != nil && dst.object != nil:
		return refuse(remote.NotDir, r.to)
	}
	if dst.any() && (src.level() < levelOwn || across && r.parent.level() < levelModify) {
		return refuse(remote.Permission, r.from)
	}
	return false, nil
}

// move is one call of the server, by paths in the zone.
type move struct {
	from, to string
	replace  bool
}

// call asks for a move. Operation 0 respects locks and, with force, replaces an object;
// the operations for renaming do neither (measured on 5.0.2).
func (m move) call() *wire.Call {
	in := &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: m.from}, Dst: wire.DataObjInp{Path: m.to}}
	if m.replace {
		in.Src.Cond.Set(wire.KwForce, "")
		in.Dst.Cond.Set(wire.KwForce, "")
	}
	return &wire.Call{API: wire.APIDataObjRename, In: in}
}

// back undoes a move that replaced nothing.
func (m move) back() move { return move{from: m.to, to: m.from} }

// plan returns the moves to make. Between collections the server changes first the name
// and then the collection (by its source), so that it fails if the name is taken in the
// old one, and then what was to be replaced is gone: there it goes by way of a name that
// nobody has. After a crash in between, the entry has that name.
func (r *renaming) plan() []move {
	from, to := r.b.full(r.from), r.b.full(r.to)
	fromDir, dir := r.dirs()
	replace := r.dst.object != nil
	_, name := splitFull(to)
	if fromDir == dir || !r.step.any() || strings.HasSuffix(from, "/"+name) {
		return []move{{from, to, replace}}
	}
	between := ".meshmount-moving-" + rand.Text()
	here, there := remote.Join(r.b.full(fromDir), between), remote.Join(r.b.full(dir), between)
	return []move{{from, here, false}, {here, there, false}, {there, to, replace}}
}

// short tells whether steps fail if the new name is taken next to the old one.
func (r *renaming) short(steps []move) bool {
	fromDir, dir := r.dirs()
	return fromDir != dir && len(steps) == 1
}

// run makes the moves, in one round trip.
func (r *renaming) run(ctx context.Context, s *session, steps []move) error {
	if r.dst.coll != nil {
		if err := r.b.removeColl(ctx, s, r.to); err != nil {
			return err
		}
	}
	calls := make([]*wire.Call, len(steps))
	for i, m := range steps {
		calls[i] = m.call()
	}
	results, err := s.conn.Pipeline(ctx, calls)
	for i, result := range results {
		if result.Err != nil {
			return r.undo(ctx, s, steps[:i], result.Err)
		}
	}
	if err != nil {
		return err
	}
	r.keepTime(ctx, s)
	return nil
}

// undo makes a refusal good, as far as that can be done, and returns it.
func (r *renaming) undo(ctx context.Context, s *session, made []move, refusal error) error {
	lost := func(format string, args ...any) error {
		return &remote.Error{Op: "rename", Path: r.from, Kind: kindOfErr(refusal), Unsure: true,
			Err: fmt.Errorf("%w; %s", refusal, fmt.Sprintf(format, args...))}
	}
	for _, m := range slices.Backward(made) {
		if _, err := s.conn.Call(ctx, m.back().call()); err != nil {
			return lost("it is %s now: %v", m.to, err)
		}
	}
	switch {
	case r.dst.coll != nil:
		if _, err := s.conn.Call(ctx, r.b.mkdirCall(r.to)); err != nil {
			return lost("the empty directory %s is gone: %v", r.to, err)
		}
	case r.dst.object != nil:
		if now, err := r.b.lookAt(ctx, s, r.b.full(r.to)); err != nil || now.object == nil {
			return lost("%s may be gone", r.to)
		}
	case taken(refusal):
		if now, err := r.b.lookAt(ctx, s, r.b.full(r.to)); err == nil && !now.any() {
			return &remote.Error{Op: "rename", Path: r.to, Kind: remote.Permission, Err: refusal} // there is something, but not for us
		}
	}
	return refusal
}

// taken tells whether a name was refused because there is something.
func taken(err error) bool {
	kind := kindOfErr(err)
	return kind == remote.Exist || kind == remote.IsDir
}

// keepTime sets the time that the server has changed: a move to another collection counts
// as a change of the object (by its source). If that fails the rename has been made all
// the same.
func (r *renaming) keepTime(ctx context.Context, s *session) {
	fromDir, dir := r.dirs()
	if r.src.object == nil || fromDir == dir {
		return
	}
	mtime := time.Unix(r.src.mtime(), 0)
	if !keeps(&mtime) {
		return
	}
	if call, err := touchCall(r.b.full(r.to), mtime, r.src.replica()); err == nil {
		_, _ = s.conn.Call(ctx, call)
	}
}

// gather looks after an entry whose moves were cut short by the end of the connection or
// of ctx: it goes back to where it was.
func (r *renaming) gather(ctx context.Context, steps []move, cause error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	_ = r.b.do(ctx, "rename", r.from, true, func(s *session) error {
		between := steps[:len(steps)-1]
		for i, m := range slices.Backward(between) {
			f, err := r.b.lookAt(ctx, s, m.to)
			if err != nil {
				return err
			}
			if f.any() {
				return r.undo(ctx, s, between[:i+1], cause)
			}
		}
		return nil
	}) // what it could not do, nobody can
}

// any tells whether there is something.
func (f found) any() bool { return f.object != nil || f.coll != nil }

// level is the level of access to what was found.
func (f found) level() int {
	switch {
	case f.object != nil:
		return f.object.level
	case f.coll != nil:
		return f.coll.level
	}
	return 0
}
