package irods

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Mkdir implements remote.Backend. It makes no parents.
func (b *Backend) Mkdir(ctx context.Context, path string) (e remote.Entry, err error) {
	const op = "mkdir"
	if err := b.check(op, path); err != nil {
		return e, err
	}
	if path == "/" {
		return e, &remote.Error{Op: op, Path: path, Kind: remote.Exist}
	}
	err = b.do(ctx, op, path, true, func(s *session) error {
		f, err := b.after(ctx, s, b.full(path), []*wire.Call{b.mkdirCall(path)})
		if err != nil {
			return b.explainNew(ctx, s, op, path, err)
		}
		e, err = b.entry(op, path, f)
		return err
	})
	return e, err
}

func (b *Backend) mkdirCall(rel string) *wire.Call {
	return &wire.Call{API: wire.APICollCreate, In: &wire.CollInp{Name: b.full(rel)}}
}

// explainNew tells why something could not be made: what the server says of an object
// in the way, a missing parent and an object as parent differs from call to call.
func (b *Backend) explainNew(ctx context.Context, s *session, op, rel string, err error) error {
	if code(err) == 0 {
		return err
	}
	dir, _ := remote.Split(rel)
	list, lookErr := b.look(ctx, s, b.full(rel), b.full(dir))
	if lookErr != nil {
		return err
	}
	at, parent := list[0], list[1]
	switch kind := remote.Kind(0); {
	case at.object != nil || at.coll != nil:
		return &remote.Error{Op: op, Path: rel, Kind: remote.Exist, Err: err}
	case parent.object != nil:
		return &remote.Error{Op: op, Path: rel, Kind: remote.NotDir, Err: err}
	case parent.coll == nil:
		return &remote.Error{Op: op, Path: rel, Kind: remote.NotExist, Err: err}
	default:
		kind = kindOfErr(err)
		switch {
		case kind == remote.NotExist && b.puzzles.first(rel):
			kind = remote.Unavailable // somebody has just made the collection
		case kind == remote.NotExist:
			kind = remote.Permission // the collection is there, but not for us
		case code(err) == wire.CodeHierarchy:
			kind = remote.Unavailable // the storage is
		}
		return &remote.Error{Op: op, Path: rel, Kind: kind, Err: err}
	}
}

// puzzles are the new names in collections that a query has just shown and a call before it
// has not.
type puzzles struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// puzzleLife is how long the second call may come after the first.
const puzzleLife = 5 * time.Minute

// first tells whether this is the first time lately for a name.
func (p *puzzles) first(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(p.seen, func(_ string, at time.Time) bool { return now.Sub(at) > puzzleLife })
	if _, again := p.seen[path]; again {
		return false
	}
	if p.seen == nil {
		p.seen = map[string]time.Time{}
	}
	p.seen[path] = now
	return true
}

// kindOfErr returns the Kind of a refusal.
func kindOfErr(err error) remote.Kind {
	var refused *wire.Error
	if errors.As(err, &refused) {
		return kindOf(refused)
	}
	return remote.KindOf(err)
}

// Remove implements remote.Backend. The emptiness of a collection is checked by the
// server; a version is looked at first. Files go to the trash if Options.Trash is set.
func (b *Backend) Remove(ctx context.Context, path string, opts remote.RemoveOptions) error {
	const op = "remove"
	if err := b.check(op, path); err != nil {
		return absent(op, path, err)
	}
	if path == "/" {
		return &remote.Error{Op: op, Path: path, Kind: remote.Invalid, Err: errors.New("the root of a branch")}
	}
	return b.do(ctx, op, path, true, func(s *session) error {
		f, err := b.lookAt(ctx, s, b.full(path))
		if err != nil {
			return unchanged(ctx, op, path, err)
		}
		if err := b.removable(op, path, f, opts); err != nil {
			return err
		}
		if f.coll != nil {
			return b.removeColl(ctx, s, path)
		}
		return b.unlink(ctx, s, b.full(path))
	})
}

// unchanged marks the error of a look before a change: nothing was altered.
func unchanged(ctx context.Context, op, rel string, err error) error {
	return fail(ctx, op, rel, false, err)
}

// removable compares what is there with what is to be removed.
func (b *Backend) removable(op, rel string, f found, opts remote.RemoveOptions) error {
	refuse := func(kind remote.Kind) error { return &remote.Error{Op: op, Path: rel, Kind: kind} }
	switch {
	case f.object == nil && f.coll == nil:
		return refuse(remote.NotExist)
	case f.coll != nil && opts.Type != remote.Dir:
		return refuse(remote.IsDir)
	case f.object != nil && opts.Type == remote.Dir:
		return refuse(remote.NotDir)
	case opts.Version != "" && f.object != nil && !f.object.is(opts.Version):
		return refuse(remote.Conflict)
	}
	return nil
}

func (b *Backend) unlink(ctx context.Context, s *session, path string) error {
	in := &wire.DataObjInp{Path: path}
	if !b.opts.Trash {
		in.Cond.Set(wire.KwForce, "")
	}
	_, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjUnlink, In: in})
	return err
}

// removeColl removes an empty collection. One that is empty never goes to the trash.
func (b *Backend) removeColl(ctx context.Context, s *session, rel string) error {
	in := &wire.CollInp{Name: b.full(rel)}
	in.Cond.Set(wire.KwForce, "")
	_, err := s.conn.Call(ctx, &wire.Call{API: wire.APIRmColl, In: in})
	return err
}

// RemoveTree implements remote.TreeRemover. It is one call, during which the server
// tells how far it is and waits for an answer each time.
func (b *Backend) RemoveTree(ctx context.Context, path string) error {
	const op = "removetree"
	if err := b.check(op, path); err != nil {
		return absent(op, path, err)
	}
	if path == "/" {
		return &remote.Error{Op: op, Path: path, Kind: remote.Invalid, Err: errors.New("the root of a branch")}
	}
	return b.do(ctx, op, path, true, func(s *session) error {
		f, err := b.lookAt(ctx, s, b.full(path))
		if err != nil {
			return unchanged(ctx, op, path, err)
		}
		if err := b.removable(op, path, f, remote.RemoveOptions{Type: remote.Dir}); err != nil {
			return err
		}
		in := &wire.CollInp{Name: b.full(path)}
		in.Cond.Set(wire.KwRecursive, "")
		if !b.opts.Trash {
			in.Cond.Set(wire.KwForce, "")
		}
		_, err = s.conn.Call(ctx, &wire.Call{API: wire.APIRmColl, In: in, Out: &wire.CollOprStat{},
			OnProgress: func(wire.CollOprStat) { remote.Progress(ctx) }})
		if code(err) != 0 {
			return &remote.Error{Op: op, Path: path, Kind: kindOfErr(err), Err: err, Unsure: true} // a part may be gone
		}
		return err
	})
}
