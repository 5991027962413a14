package irods

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// finish makes the last calls, with the one for the time if that is likely needed, and
// looks at the result, all in one round trip. The time waits if the object may yet turn
// out to be somebody else's.
func (u *upload) finish(ctx context.Context, s *session, last []*wire.Call) (found, error) {
	calls, touched := slices.Clone(last), false
	opened := u.patch != nil || last[0].API != wire.APIDataObjPut
	if t := u.opts.Attrs.MTime; opened && keeps(t) && t.Unix() != u.b.clock.now().Unix() {
		touch, err := touchCall(u.path, *t, anyReplica)
		if err != nil {
			return found{}, err
		}
		calls, touched = append(calls, touch), true
	}
	joins, err := u.b.joins(ctx, s)
	if err != nil {
		return found{}, err
	}
	g := u.b.glance(u.path, joins)
	cursors := g.cursors()
	n := len(calls)
	for _, c := range cursors {
		calls = append(calls, c.page())
	}
	end := u.b.vigil.watch(ctx, u.b.opts.address(), u.size())
	results, err := s.conn.Pipeline(ctx, calls)
	end()
	if len(results) >= len(last) {
		if refusal := refusal(results[:len(last)], last); refusal != nil {
			return found{}, u.refused(ctx, s, refusal)
		}
		u.state = stored
	}
	if err != nil {
		return found{}, err
	}
	if err := refusal(results[len(last):n], calls[len(last):n]); err != nil {
		return found{}, err
	}
	for i, c := range cursors {
		if err := c.took(results[n+i].Err); err != nil {
			return found{}, err
		}
	}
	f, err := g.result(ctx, s)
	if err == nil {
		err = u.b.permit(ctx, s, g, f)
	}
	if err == nil {
		err = u.verify(f)
	}
	if err != nil {
		return f, err
	}
	if r, _ := f.object.best(); !touched {
		u.b.clock.learn(time.Unix(r.mtime, 0), u.begun)
	}
	return u.attributes(ctx, s, f)
}

// refusal returns the first refusal.
func refusal(results []wire.Result, calls []*wire.Call) error {
	for i, r := range results {
		if r.Err != nil {
			return r.Err
		}
		if calls[i].API == wire.APIDataObjWrite && r.Status != len(calls[i].Data) {
			return fmt.Errorf("the server took %d of %d bytes", r.Status, len(calls[i].Data))
		}
	}
	return nil
}

// refused finds out whether a refusal has left everything as it was.
func (u *upload) refused(ctx context.Context, s *session, err error) error {
	if code(err) == 0 {
		return err
	}
	switch {
	case code(err) == wire.CodeHashType:
		return err // it has the bytes
	case u.open:
		return u.unclosed(err)
	}
	switch kindOfErr(err) {
	case remote.Corrupt, remote.NoSpace, remote.TooLarge, remote.Unavailable, remote.Other:
		return err // the server may have begun
	}
	state := u.state
	u.state = untouched
	if state == making {
		err = u.b.explainNew(ctx, s, u.op, u.rel, err)
		if remote.KindOf(err) == remote.Exist && !u.opts.Cond.NotExist { // it was not there just now
			err = &remote.Error{Op: u.op, Path: u.rel, Kind: remote.Unavailable, Err: errors.Unwrap(err)}
		}
		return err
	}
	return u.b.atRest(ctx, s, u.op, u.rel, err)
}

// unclosed is the error of a refusal after the object was open: what was refused is not
// what the caller asked for, but the server's way to do it. The object is torn now, or the
// catalog does not know of the bytes.
func (u *upload) unclosed(err error) error {
	kind := kindOfErr(err)
	switch kind {
	case remote.NotExist, remote.Exist, remote.IsDir, remote.Invalid, remote.Unsupported, remote.NameTooLong, remote.Other:
		kind = remote.Unavailable
	}
	return &remote.Error{Op: u.op, Path: u.rel, Kind: kind, Err: err, Unsure: true}
}

// verify compares what the catalog says with what was sent.
func (u *upload) verify(f found) error {
	bad := func(kind remote.Kind, format string, args ...any) error {
		return &remote.Error{Op: u.op, Path: u.rel, Kind: kind, Err: fmt.Errorf(format, args...), Unsure: true}
	}
	if f.object == nil {
		return bad(remote.Unavailable, "the object is gone after its writing")
	}
	r, state := f.object.best()
	switch {
	case state == writing:
		return bad(remote.Locked, "somebody else has begun to write it")
	case state == whole && r.size == u.size() && u.sameSum(parseChecksum(r.checksum)):
		return nil
	case state == whole && u.expected() != "" && u.opts.Cond.NotExist:
		return bad(remote.Exist, "somebody else has written it since")
	case state == whole && (u.expected() != "" || u.patch != nil): // the server has compared the bytes or counted them
		return bad(remote.Conflict, "somebody else has written it since")
	}
	if state == torn && u.old != nil {
		u.state = altering
	} else if state == torn {
		u.state = making
	}
	return bad(remote.Corrupt, "the server has %d bytes with the checksum %q, sent were %d with %s",
		r.size, r.checksum, u.size(), u.sum.Hex)
}

// sameSum compares the server's checksum with ours, which may have to be computed anew
// by another algorithm. A server that keeps none has been believed.
func (u *upload) sameSum(server remote.Checksum) bool {
	if server.Hex == "" || server == u.sum || u.patch != nil { // what lies between the ranges is not known here
		return true
	}
	if server.Algorithm == u.sum.Algorithm {
		return false
	}
	h := remote.NewHash(server.Algorithm)
	if h == nil {
		return true
	}
	if u.small {
		h.Write(u.data)
	} else if err := u.pieces(func(p []byte) error { _, err := h.Write(p); return err }); err != nil {
		return false
	}
	return hex.EncodeToString(h.Sum(nil)) == server.Hex
}

// attributes sets what of the attributes is not yet as it was asked for.
func (u *upload) attributes(ctx context.Context, s *session, f found) (found, error) {
	calls, err := attrCalls(u.path, f, u.opts.Attrs)
	if err != nil || len(calls) == 0 {
		return f, err
	}
	again, err := u.b.after(ctx, s, u.path, calls)
	if err == nil && again.object == nil {
		err = &remote.Error{Op: u.op, Path: u.rel, Kind: remote.Unavailable, Unsure: true, Err: errors.New("the object is gone after its writing")}
	}
	return again, err
}

// How long the remains of a failed upload are looked after: the caller may be waiting
// for the end of a cancelled call.
const (
	cleanUpTime  = 1500 * time.Millisecond
	cleanUpPause = 50 * time.Millisecond
)

// cleanUp looks at what a failed upload has left, and returns its error. A new object
// that is torn is removed if it is certainly ours; everything else that is torn is noted,
// so that it can be written again. What is whole is left alone: it may be somebody
// else's, or ours and only the answer was lost. If it is still the old one, it is noted
// nevertheless: a server may begin with what it was asked after its client is gone.
func (u *upload) cleanUp(ctx context.Context, err error) error {
	switch u.state {
	case untouched:
		return err
	case stored:
		return doubtful(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	f, lookErr := u.remains(ctx)
	tear := tear{fresh: u.old == nil || u.opts.Cond.NotExist, base: u.opts.Cond.Version}
	switch {
	case lookErr == nil && f.object == nil:
		if !unsure(err) {
			return err
		}
	case lookErr == nil:
		if _, state := f.object.best(); state == whole {
			switch {
			case u.old == nil || f.object.version() != u.old.version():
				return err
			case code(err) != 0 || !unsure(err):
				return sure(err)
			}
			break
		}
		if u.old == nil && u.certain(err) && u.removed(ctx) {
			return sure(err)
		}
	}
	if f.object != nil {
		tear.id = f.object.id
	} else if u.old != nil {
		tear.id = u.old.id
	}
	u.b.tears.note(u.path, tear)
	return doubtful(err)
}

// certain tells whether a new object is ours: the server said so, or refused the bytes
// that it had taken, or nothing was there before.
func (u *upload) certain(err error) bool {
	return u.made || u.alone || code(err) == wire.CodeChecksum
}

// remains waits until the server has noticed that a writer has died, which it does at
// once, and returns what is there then.
func (u *upload) remains(ctx context.Context) (f found, err error) {
	for {
		err = u.b.do(ctx, u.op, u.rel, false, func(s *session) error {
			f, err = u.b.lookAt(ctx, s, u.path)
			return err
		})
		if err != nil || f.object == nil {
			return f, err
		}
		if _, state := f.object.best(); state != writing {
			return f, nil
		}
		select {
		case <-ctx.Done():
			return f, ctx.Err()
		case <-time.After(cleanUpPause):
		}
	}
}

func (u *upload) removed(ctx context.Context) bool {
	err := u.b.do(ctx, u.op, u.rel, true, func(s *session) error { return u.b.discard(ctx, s, u.path) })
	return err == nil || remote.KindOf(err) == remote.NotExist
}

// sure returns err without the doubt whether anything was altered.
func sure(err error) error {
	var e *remote.Error
	if errors.As(err, &e) && e.Unsure {
		copied := *e
		copied.Unsure = false
		return &copied
	}
	return err
}

// doubtful returns err with the doubt that something was altered.
func doubtful(err error) error {
	var e *remote.Error
	if errors.As(err, &e) && !e.Unsure {
		copied := *e
		copied.Unsure = true
		return &copied
	}
	return err
}

// tears are the objects that this process has torn and not yet written again.
type tears struct {
	mu   sync.Mutex
	list map[string]tear // by path in the zone
}

// tear is an object that was left in a state that nobody wanted.
type tear struct {
	id    int64  // 0 if it is not known
	fresh bool   // it is new
	base  string // the version that was to be replaced, by the caller's condition
	link  bool   // it was to become a link
}

func (t *tears) note(path string, x tear) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.list == nil {
		t.list = map[string]tear{}
	}
	t.list[path] = x
}

// has tells whether something was torn at the path.
func (t *tears) has(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.list[path]
	return ok
}

// half tells whether a link was left half at the path.
func (t *tears) half(path string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.list[path].link
}

// mend forgets a tear.
func (t *tears) mend(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.list, path)
}

// ours tells whether the object is one that this process has torn, and a condition that
// would have let it be written then holds for it.
func (t *tears) ours(path string, o *object, cond remote.Cond) bool {
	t.mu.Lock()
	tear, ok := t.list[path]
	t.mu.Unlock()
	if !ok || tear.id != 0 && tear.id != o.id {
		return false
	}
	if _, state := o.best(); state != torn {
		return false
	}
	return cond.NotExist == tear.fresh && cond.Version == tear.base
}
