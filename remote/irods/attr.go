package irods

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// The catalog keeps times in whole seconds.

// touchInput is the JSON of a touch.
type touchInput struct {
	Path    string       `json:"logical_path"`
	Options touchOptions `json:"options"`
}

type touchOptions struct {
	NoCreate bool  `json:"no_create"`
	Seconds  int64 `json:"seconds_since_epoch"`
	Replica  *int  `json:"replica_number,omitempty"`
}

// anyReplica leaves it to the server which replica's time is set: that of the good one
// that was modified last.
const anyReplica = -1

// touchCall sets the modify time of a collection or of one replica of an object.
func touchCall(path string, mtime time.Time, replica int) (*wire.Call, error) {
	opts := touchOptions{NoCreate: true, Seconds: mtime.Unix()}
	if replica != anyReplica {
		opts.Replica = &replica
	}
	in, err := wire.NewJSON(touchInput{path, opts})
	return &wire.Call{API: wire.APITouch, In: in}, err
}

// keeps tells whether there is a time and the server can keep it: it takes the seconds
// since 1970 as a 32 bit number, and none below zero (by its source).
func keeps(t *time.Time) bool { return t != nil && t.Unix() >= 0 && t.Unix() <= math.MaxInt32 }

// markCall sets one of marks.
func markCall(path string, dir bool, name, value string) *wire.Call {
	kind := "-d"
	if dir {
		kind = "-C"
	}
	return &wire.Call{API: wire.APIModAVUMetadata, In: &wire.ModAVUMetadataInp{Args: [10]string{"set", kind, path, name, value}}}
}

// attrCalls are the calls that bring mode and time of what is at a path to a.
func attrCalls(path string, f found, a remote.Attrs) (calls []*wire.Call, err error) {
	a = f.lacks(a)
	if a.Mode != nil {
		calls = append(calls, markCall(path, f.coll != nil, markMode, fmt.Sprintf("%04o", *a.Mode&0o7777)))
	}
	if a.MTime != nil {
		touch, err := touchCall(path, *a.MTime, f.replica())
		if err != nil {
			return nil, err
		}
		calls = append(calls, touch)
	}
	return calls, nil
}

// lacks returns what of a the server can keep and has not of what is at a path.
func (f found) lacks(a remote.Attrs) (rest remote.Attrs) {
	if a.Mode != nil {
		if old, known := f.bits(); !known && !a.Spares(f.typ()) || known && old != *a.Mode&0o7777 {
			rest.Mode = a.Mode
		}
	}
	if keeps(a.MTime) && f.mtime() != a.MTime.Unix() {
		rest.MTime = a.MTime
	}
	return rest
}

// bits returns the permission bits that are stored.
func (f found) bits() (mode uint32, known bool) {
	if f.object != nil {
		return f.object.marks.bits(f.object.mode)
	}
	return f.coll.marks.bits(0)
}

// typ is Dir for a collection, and File for an object.
func (f found) typ() remote.Type {
	if f.coll != nil {
		return remote.Dir
	}
	return remote.File
}

// replica returns the number of the replica that counts.
func (f found) replica() int {
	if f.object == nil {
		return anyReplica
	}
	r, _ := f.object.best()
	return r.number
}

func (f found) mtime() int64 {
	if f.object != nil {
		r, _ := f.object.best()
		return r.mtime
	}
	return f.coll.mtime
}

// SetAttr implements remote.AttrSetter. The mode becomes an AVU, unless the object has
// it from its making. A new time is part of a file's version.
func (b *Backend) SetAttr(ctx context.Context, path string, a remote.Attrs) (e remote.Entry, err error) {
	const op = "setattr"
	if err := b.check(op, path); err != nil {
		return e, absent(op, path, err)
	}
	err = b.do(ctx, op, path, true, func(s *session) error {
		f, err := b.lookAt(ctx, s, b.full(path))
		if err != nil {
			return unchanged(ctx, op, path, err)
		}
		if e, err = b.entry(op, path, f); err != nil {
			return err
		}
		if e.Type == remote.Symlink {
			a.Mode = nil
		}
		calls, err := attrCalls(b.full(path), f, a)
		if err != nil || len(calls) == 0 {
			return err
		}
		if f, err = b.after(ctx, s, b.full(path), calls); err == nil {
			e, err = b.entry(op, path, f)
		}
		return err
	})
	return e, err
}

// Symlink implements remote.Symlinker: an empty object with the target as an AVU. An
// object whose AVU could not be set is deleted again; a crash between the two calls
// leaves an empty file.
func (b *Backend) Symlink(ctx context.Context, path, target string) (e remote.Entry, err error) {
	const op = "symlink"
	if err := b.check(op, path); err != nil {
		return e, err
	}
	if target == "" || !utf8.ValidString(target) || strings.IndexByte(target, 0) >= 0 || len(target) > maxValue {
		return e, remote.E(op, path, remote.Invalid, errValue)
	}
	if path == "/" {
		return e, &remote.Error{Op: op, Path: path, Kind: remote.Exist}
	}
	err = b.do(ctx, op, path, true, func(s *session) error {
		f, err := b.link(ctx, s, path, target)
		if err == nil {
			e, err = b.entry(op, path, f)
		}
		return err
	})
	return e, err
}

// link makes a link. One of which the connection has left half is completed.
func (b *Backend) link(ctx context.Context, s *session, rel, target string) (f found, err error) {
	full := b.full(rel)
	_, err = s.conn.Call(ctx, b.putCall(full, nil, "", 0o777))
	switch {
	case err != nil && code(err) == 0:
		b.tears.note(full, tear{link: true})
		return f, err
	case err != nil && !b.halfLink(ctx, s, full):
		return f, b.explainNew(ctx, s, "symlink", rel, err)
	}
	f, err = b.after(ctx, s, full, []*wire.Call{markCall(full, false, markTarget, target)})
	switch {
	case err == nil:
		b.tears.mend(full)
	case code(err) == 0:
		b.tears.note(full, tear{link: true})
	default:
		err = errors.Join(err, b.discard(ctx, s, full))
	}
	return f, err
}

// halfLink tells whether an object is an empty one that was to become a link.
func (b *Backend) halfLink(ctx context.Context, s *session, path string) bool {
	if !b.tears.half(path) {
		return false
	}
	f, err := b.lookAt(ctx, s, path)
	if err != nil || f.object == nil {
		return false
	}
	r, state := f.object.best()
	return state == whole && r.size == 0 && f.object.marks == marks{}
}

// createInput asks to open a new object, whose checksum the server is to keep. The
// operation matters (by the server's source): without it, an object that lies on other
// resources only would get one more replica, and our bytes with it; so the exclusive
// flag, which the storage sees to, would not be noticed.
func (b *Backend) createInput(path string, size int64, mode int) *wire.DataObjInp {
	in := &wire.DataObjInp{Path: path, CreateMode: mode, OpenFlags: wire.OpenCreate | wire.OpenWriteOnly | wire.OpenExclusive,
		DataSize: size, NumThreads: wire.NoThreading, OprType: wire.OprPut}
	in.Cond.Set(wire.KwRegChecksum, "")
	if b.opts.Resource != "" {
		in.Cond.Set(wire.KwDestRescName, b.opts.Resource)
	}
	return in
}

// putCall stores a small object in one call, which the server carries out when it has
// all of it. It compares the checksum and leaves what does not fit stale; it would not
// if it were also asked to register one (by its source).
func (b *Backend) putCall(path string, data []byte, sum string, mode int) *wire.Call {
	in := b.createInput(path, int64(len(data)), mode)
	in.OpenFlags = wire.OpenCreate | wire.OpenReadWrite
	in.Cond.Set(wire.KwDataIncluded, "")
	expect(in, sum)
	return &wire.Call{API: wire.APIDataObjPut, In: in, Data: data, Out: &wire.PortalOprOut{}}
}

// expect has the server compare the checksum when the object is closed. Without one it
// computes its own.
func expect(in *wire.DataObjInp, sum string) {
	if sum == "" {
		return
	}
	withoutSum(in)
	in.Cond.Set(wire.KwVerifyChecksum, sum)
}

// withoutSum has the server compute no checksum when the object is closed.
func withoutSum(in *wire.DataObjInp) {
	in.Cond = slices.DeleteFunc(in.Cond, func(p wire.Pair) bool { return p.Key == wire.KwRegChecksum })
}

// discard deletes an object that this client has made and that is of no use.
func (b *Backend) discard(ctx context.Context, s *session, path string) error {
	in := &wire.DataObjInp{Path: path}
	in.Cond.Set(wire.KwForce, "")
	_, err := s.conn.Call(ctx, &wire.Call{API: wire.APIDataObjUnlink, In: in})
	return err
}
