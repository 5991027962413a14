package irods

import (
	"context"
	"errors"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// For a checksum the server reads the whole object, which takes it about 1.5 s for each GiB
// (measured on 5.0.2), and while it closes an object it keeps it locked for that time. So a
// large new object is closed without one: others can read it as soon as all its bytes are
// there. Then the server is asked for the checksum, and the upload has gone well only if that
// is the one of the bytes that were sent. A connection that is lost meanwhile costs no bytes:
// the checksum is asked for again.
//
// Nobody is locked out while it is computed. If somebody overwrites the object meanwhile, it
// may be that of a mixture. So the answer to what is there comes with it, and unless that is
// what was closed, with the right checksum, the server has to compute it anew.

// seal has the server compute the checksum of the object that was closed, and returns what
// is there then.
func (u *upload) seal(ctx context.Context) (e remote.Entry, err error) {
	f, err := u.summed(ctx, false)
	var broken *wire.BrokenError
	if errors.As(err, &broken) && remote.ContextErr(ctx) == nil {
		f, err = u.summed(ctx, false)
	}
	if err == nil && (!u.stays(f) || u.verify(f) != nil) && f.whole() {
		f, err = u.summed(ctx, true)
	}
	switch {
	case err != nil && keepsNone(err):
		f = u.closed
	case code(err) != 0:
		return e, u.unclosed(err)
	case err != nil:
		return e, err
	case f.whole() && !u.stays(f):
		return e, u.overtaken()
	default:
		if err := u.verify(f); err != nil {
			return e, err
		}
	}
	return u.b.entry(u.op, u.rel, f)
}

// summed has the server compute the checksum, by force also if there is one already.
func (u *upload) summed(ctx context.Context, force bool) (f found, err error) {
	err = u.b.do(ctx, u.op, u.rel, false, func(s *session) error {
		defer u.b.vigil.watch(ctx, u.b.opts.address(), u.size())()
		f, err = u.b.after(ctx, s, u.path, u.sumCalls(force))
		return err
	})
	return f, err
}

// sumCalls asks for the checksum of each good replica.
func (u *upload) sumCalls(force bool) (calls []*wire.Call) {
	for _, r := range u.closed.object.replicas {
		in := &wire.DataObjInp{Path: u.path}
		if len(u.closed.object.replicas) > 1 {
			if r.status != wire.ReplicaGood {
				continue
			}
			choose(in, r.number)
		}
		if force {
			in.Cond.Set(wire.KwForceChecksum, "")
		}
		calls = append(calls, &wire.Call{API: wire.APIDataObjChksum, In: in, Out: &wire.STR{}})
	}
	return calls
}

// keepsNone tells whether a server refuses to compute checksums at all, or for this user. It
// is believed, as one that keeps none.
func keepsNone(err error) bool {
	if code(err) == 0 {
		return false
	}
	switch kindOfErr(err) {
	case remote.Permission, remote.Unsupported, remote.Invalid:
		return true
	}
	return false
}

// stays tells whether what is there is what was closed, by all but the checksum.
func (u *upload) stays(f found) bool {
	if f.object == nil || f.object.id != u.closed.object.id {
		return false
	}
	now, _ := f.object.best()
	then, _ := u.closed.object.best()
	return now.size == then.size && now.mtime == then.mtime
}

// whole tells whether there is an object with a good replica.
func (f found) whole() bool {
	if f.object == nil {
		return false
	}
	_, state := f.object.best()
	return state == whole
}

// overtaken is the error of an upload whose object was overwritten as soon as it was there.
func (u *upload) overtaken() error {
	kind := remote.Conflict
	if u.opts.Cond.NotExist {
		kind = remote.Exist
	}
	return &remote.Error{Op: u.op, Path: u.rel, Kind: kind, Unsure: true, Err: errors.New("somebody else has written it since")}
}
