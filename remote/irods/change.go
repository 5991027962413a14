package irods

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

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
		_, err := s.conn.Call(ctx, &wire.Call{API: wire.APICollCreate, In: &wire.CollInp{Name: b.full(path)}})
		if err != nil {
			return b.explainNew(ctx, s, op, path, err)
		}
		e, err = b.statWith(ctx, s, op, path)
		return err
	})
	return e, err
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
		if kind == remote.NotExist {
			kind = remote.Permission // the collection is there, but not for us
		}
		return &remote.Error{Op: op, Path: rel, Kind: kind, Err: err}
	}
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
	case opts.Version != "" && f.object != nil && f.object.version() != opts.Version:
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

// Rename implements remote.Backend. An object is replaced by the server in one call,
// which removes the old one and renames the new one (not atomic for other clients). A
// collection cannot be replaced: an empty one is removed first.
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
	return b.do(ctx, op, from, true, func(s *session) error {
		dir, name := remote.Split(to)
		fromDir, _ := remote.Split(from)
		list, err := b.look(ctx, s, b.full(from), b.full(to), b.full(dir), b.full(remote.Join(fromDir, name)))
		if err != nil {
			return unchanged(ctx, op, from, err)
		}
		src, dst, parent, step := list[0], list[1], list[2], list[3]
		if done, err := renamable(from, to, src, dst, parent, opts); done || err != nil {
			return err
		}
		if dst.coll != nil {
			if err := b.removeColl(ctx, s, to); err != nil {
				return err
			}
		}
		move := b.move
		if fromDir != dir && (step.object != nil || step.coll != nil) && remote.Join(fromDir, name) != from {
			move = b.moveAround
		}
		return move(ctx, s, b.full(from), b.full(to), dst.object != nil)
	})
}

// renamable checks a rename as rename(2) does. done tells that there is nothing to do.
func renamable(from, to string, src, dst, parent found, opts remote.RenameOptions) (done bool, err error) {
	refuse := func(kind remote.Kind, path string) (bool, error) {
		return false, &remote.Error{Op: "rename", Path: path, Kind: kind}
	}
	switch {
	case src.object == nil && src.coll == nil:
		return refuse(remote.NotExist, from)
	case from == to && opts.NoReplace:
		return refuse(remote.Exist, to)
	case from == to:
		return true, nil
	case src.coll != nil && strings.HasPrefix(to, from+"/"):
		return refuse(remote.Invalid, to)
	case parent.object != nil:
		return refuse(remote.NotDir, to)
	case parent.coll == nil:
		return refuse(remote.NotExist, to)
	case (dst.object != nil || dst.coll != nil) && opts.NoReplace:
		return refuse(remote.Exist, to)
	case src.object != nil && dst.coll != nil:
		return refuse(remote.IsDir, to)
	case src.coll != nil && dst.object != nil:
		return refuse(remote.NotDir, to)
	}
	return false, nil
}

// moveAround renames by way of a name that nobody has. Between collections the server
// renames in two steps, first the name and then the collection (by its source), so that
// it fails if the collection has the new name already, and then what was to be replaced
// is gone. After a crash in between, the entry has the name in between.
func (b *Backend) moveAround(ctx context.Context, s *session, from, to string, replace bool) error {
	fromDir, _ := splitFull(from)
	toDir, _ := splitFull(to)
	between := "/.meshmount-moving-" + rand.Text()
	steps := [][2]string{{from, fromDir + between}, {fromDir + between, toDir + between}, {toDir + between, to}}
	for i, step := range steps {
		if err := b.move(ctx, s, step[0], step[1], replace && i == 2); err != nil {
			return errors.Join(err, b.moveBack(ctx, s, steps[:i]))
		}
	}
	return nil
}

// moveBack undoes steps.
func (b *Backend) moveBack(ctx context.Context, s *session, steps [][2]string) error {
	for i := len(steps) - 1; i >= 0; i-- {
		if err := b.move(ctx, s, steps[i][1], steps[i][0], false); err != nil {
			return err
		}
	}
	return nil
}

// move is one call. Operation 0 respects locks and, with force, replaces an object;
// the operations for renaming do neither (measured on 5.0.2).
func (b *Backend) move(ctx context.Context, s *session, from, to string, replace bool) error {
	in := &wire.DataObjCopyInp{Src: wire.DataObjInp{Path: from}, Dst: wire.DataObjInp{Path: to}}
	if replace {
		in.Src.Cond.Set(wire.KwForce, "")
		in.Dst.Cond.Set(wire.KwForce, "")
	}
	_, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjRename, In: in})
	return err
}
