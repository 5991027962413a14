package writeback

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// job is one attempt to carry a change out. Its fields are a copy of the change's.
type job struct {
	b      *Branch
	c      *change // for pin and token, under store.mu
	start  time.Time
	since  time.Time // when the change was made
	gen    uint64
	kind   opKind
	path   string
	to     string
	target string
	typ    remote.Type
	stage  *Stage
	base   remote.Entry
	toBase remote.Entry
	source string
	doubt  bool
	made   bool
	ghosts []ghost
	digest digest // rename: of the content
	attrs  remote.Attrs
	size   int64
	redo   bool
	hold   bool
	grow   *growing
	batch  *batch       // to leave with it; nil once it has come there
	rest   remote.Attrs // that the batch has left to be set
	// clashes counts how often something else was found at the path.
	clashes int
	loose   bool
	pin     *pin // to be released at the end
	token   string
}

// run carries the change out.
func (j *job) run(ctx context.Context) outcome {
	switch j.kind {
	case opPut:
		return j.put(ctx)
	case opMkdir:
		return j.mkdir(ctx)
	case opRemove:
		return j.remove(ctx)
	case opRename:
		return j.rename(ctx)
	case opSymlink:
		return j.symlink(ctx)
	case opSetAttr:
		return j.setAttr(ctx)
	case opClean:
		return j.clean(ctx)
	}
	return outcome{err: &remote.Error{Op: "put", Path: j.path, Kind: remote.Invalid, Err: errors.New("a change of a kind that this version does not know")}}
}

// put stores the content.
func (j *job) put(ctx context.Context) outcome {
	was := j.base
	if j.attrs.Mode == nil {
		j.attrs.Mode = j.b.carried(was).Mode
	}
	r := j.put0(ctx)
	if r = j.completed(ctx, r, was.Version); j.b.steps(j.base) && j.base.Version != was.Version {
		r = j.completed(ctx, r, j.base.Version)
	}
	if j.redo && j.b.steps(was) && r.err == nil && r.copy.Type == 0 && r.rest == (remote.Attrs{}) {
		return j.attributes(ctx, r.entry) // which may have been to be set when it was cut off
	}
	return r
}

// put0 does so, and leaves alone what attempts before have left.
func (j *job) put0(ctx context.Context) outcome {
	if j.grow != nil {
		if e, err := j.grow.wait(ctx); err == nil && e.Size == j.size {
			return j.put1(e)
		} else if ctx.Err() != nil {
			return outcome{err: ctx.Err()}
		} else if j.isDropped() {
			if j.grow.stored {
				return outcome{entry: j.grow.entry}
			}
			return outcome{err: cmp.Or(err, errTorn)}
		}
		if j.redo = true; j.grow.stored {
			j.base = j.grow.entry // ours, of before the program changed it
		}
	}
	if err := j.stage.settle(); err != nil {
		return outcome{err: remote.E("put", j.path, kindOfDisk(err), err)}
	}
	if err := j.sweep(ctx, j.size); err != nil {
		return outcome{err: err}
	}
	if err := j.removeLink(ctx); err != nil {
		return outcome{err: err}
	}
	p := j.pinned()
	e, err := j.send(ctx, p)
	if remote.KindOf(err) == remote.NotExist && err != nil {
		if err = j.makeParents(ctx, j.path); err == nil {
			j.base = remote.Entry{} // it went with its directory
			e, err = j.send(ctx, p)
		}
	}
	switch k := remote.KindOf(err); {
	case err != nil && p.isTorn():
		return outcome{err: errTorn}
	case err != nil && (k == remote.Conflict || k == remote.Exist):
		return j.clash(ctx, p, err)
	case err != nil:
		return outcome{err: err}
	case e.Size != p.size:
		return outcome{err: &remote.Error{Op: "put", Path: j.path, Kind: remote.Corrupt, Unsure: true,
			Err: fmt.Errorf("%d bytes were sent and the server has %d", p.size, e.Size)}}
	}
	j.prime(e, p)
	if j.rest == (remote.Attrs{}) {
		return j.put1(e)
	}
	if !j.mayFollow() {
		return j.attributes(ctx, e)
	}
	shown := e
	dress(&shown, j.rest)
	return outcome{entry: e, wish: j.unkept(shown), rest: j.rest}
}

// isDropped tells whether nobody wants the change any more.
func (j *job) isDropped() bool {
	j.b.store.mu.Lock()
	defer j.b.store.mu.Unlock()
	return j.c.dropped
}

// removeLink removes a symbolic link that the file takes the place of.
func (j *job) removeLink(ctx context.Context) error {
	if j.base.Type != remote.Symlink {
		return nil
	}
	err := j.b.below.Remove(ctx, j.path, remote.RemoveOptions{Type: remote.Symlink, Version: j.base.Version})
	// Something else may be there, of an attempt before: the put finds out.
	if k := remote.KindOf(err); err != nil && k != remote.NotExist && k != remote.Conflict {
		return err
	}
	j.base = remote.Entry{}
	return nil
}

// put1 is the outcome of a put that is on the server as e.
func (j *job) put1(e remote.Entry) outcome { return outcome{entry: e, wish: j.unkept(e)} }

// sent returns attributes as they are told to the server's adapter, which knows best whether a
// usual mode has to be stored.
func (b *Branch) sent(a remote.Attrs) remote.Attrs {
	if a.Mode != nil {
		a.Usual = b.policy.Usual
	}
	return a
}

// missing returns the attributes that are to be set of e, which the server has just shown.
func (j *job) missing(e remote.Entry) remote.Attrs {
	a := j.unkept(e)
	if !e.ModeKnown && j.b.sent(a).Spares(e.Type) {
		a.Mode = nil
	}
	return a
}

// unkept returns the attributes that e should have and does not show.
func (j *job) unkept(e remote.Entry) (a remote.Attrs) {
	if j.attrs.Mode != nil && !(e.ModeKnown && e.Mode == *j.attrs.Mode) {
		a.Mode = j.attrs.Mode
	}
	if t := j.attrs.MTime; t != nil && !e.MTime.Equal(*t) && !e.MTime.Equal(t.Truncate(max(j.b.Caps().TimeGranularity, 1))) {
		a.MTime = t
	}
	return a
}

// resumable is from which size on an upload has a name under which it can go on.
const resumable = 32 << 20

// pinned pins the content, and names it if it is large.
func (j *job) pinned() *pin {
	s := j.b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	c := j.c
	if c.pin != nil && !c.pin.isTorn() && c.pin.size == j.size && c.token != "" && c.gen == j.gen {
		j.token = c.token
		return c.pin
	}
	if c.pin != nil {
		c.pin.release()
		c.pin = nil
	}
	if j.size < resumable {
		j.pin = j.stage.pin(j.size, j.hold, nil)
		return j.pin
	}
	if c.token == "" || c.gen != j.gen {
		c.token = s.uploadName()
		s.note(c.record())
	}
	j.token = c.token
	c.pin = j.stage.pin(j.size, j.hold, func() { j.b.forgetToken(c, j.token) })
	return c.pin
}

// forgetToken drops the name of an upload whose content is about to change.
func (b *Branch) forgetToken(c *change, token string) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if c.token == token && c.state != over {
		c.token = ""
		b.store.note(c.record())
	}
}

// maxLoose is up to which size a file's time is not worth a request of its own.
const maxLoose = 1 << 20

// options returns the options of the put.
func (j *job) options() remote.PutOptions {
	o := remote.PutOptions{Attrs: j.b.sent(j.attrs), Loose: j.loose && j.b.policy.Loose && j.size <= maxLoose, Resume: j.token, Tag: j.b.store.tag, Redo: j.redo}
	o.Cond = remote.Cond{NotExist: j.base.Type == 0, Version: j.base.Version, Provisional: j.base.Provisional}
	return o
}

// send puts the pinned content, the cheapest way.
func (j *job) send(ctx context.Context, p *pin) (remote.Entry, error) {
	missing := j.stage.Missing(0, p.size)
	if len(missing) > 0 && p.size > maxSum { // less is known better if it is sent as a whole
		if patcher, ok := remote.As[remote.Patcher](j.b.below); ok && j.stage.Base().Version == j.base.Version {
			if err := j.announce(p.size); err != nil {
				return remote.Entry{}, err
			}
			e, err := patcher.Patch(ctx, j.path, j.patch(p, missing), j.options())
			if remote.KindOf(err) != remote.Unsupported || err == nil {
				return e, err
			}
		}
	}
	if err := j.complete(ctx, p.size); err != nil {
		return remote.Entry{}, err
	}
	if j.batch != nil {
		return j.sendBatched(ctx, p)
	}
	return j.b.below.Put(ctx, j.path, &counted{p, j.c}, j.options())
}

// counted counts what was sent of a pin.
type counted struct {
	*pin
	c *change
}

// Open implements remote.Source.
func (s *counted) Open() (io.ReadCloser, error) {
	s.c.sent.Store(0)
	r, err := s.pin.Open()
	return &countedReader{r, s.c}, err
}

type countedReader struct {
	io.ReadCloser
	c *change
}

func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.c.sent.Add(int64(n))
	return n, err
}

// patch is what is here of the content.
func (j *job) patch(p *pin, missing []Extent) remote.Patch {
	x := remote.Patch{Size: p.size, Bytes: p}
	at := int64(0)
	for _, m := range append(missing, Extent{p.size, p.size}) {
		if m.Off > at {
			x.Ranges = append(x.Ranges, remote.ByteRange{Offset: at, Length: m.Off - at})
		}
		at = m.End
	}
	return x
}

// lostBase makes an error of one that came in reading the base version.
func (j *job) lostBase(base remote.Ref, err error) error {
	switch k := remote.KindOf(err); {
	case err == nil, errors.Is(err, io.EOF), k == remote.Changed, k == remote.NotExist:
		return &remote.Error{Op: "put", Path: j.path, Kind: remote.Changed, Err: fmt.Errorf(
			"the version that was written over (%s) is no more on the server: what was not written cannot be had", base.Path)}
	}
	return err
}

// fillStream is fill for servers that give files only from their beginning.
func (j *job) fillStream(ctx context.Context, size int64) error {
	o, ok := remote.As[remote.Opener](j.b.below)
	if !ok {
		return &remote.Error{Op: "put", Path: j.path, Kind: remote.Unsupported}
	}
	base := j.stage.Base()
	r, err := o.Open(ctx, base)
	if err != nil {
		return j.lostBase(base, err)
	}
	defer r.Close()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < size && len(j.stage.Missing(off, size)) > 0; {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), base.Size-off)])
		if err != nil {
			return j.lostBase(base, err)
		}
		if err := j.stage.Fill(buf[:n], off); err != nil {
			return remote.E("put", j.path, kindOfDisk(err), err)
		}
		off += int64(n)
	}
	return nil
}

// clash settles a put that found something else than it expected.
func (j *job) clash(ctx context.Context, p *pin, cause error) outcome {
	theirs, err := j.b.below.Stat(ctx, j.path)
	switch {
	case remote.KindOf(err) == remote.NotExist && err != nil:
		// Removed elsewhere: nobody's content is overwritten by ours.
		j.base = remote.Entry{}
		return j.sendAgain(ctx, p)
	case err != nil:
		return outcome{err: err}
	}
	if b := j.base; b.Type == remote.File && b.Version != "" && b.Version == theirs.Version && j.puzzled(b.Provisional || theirs.Provisional) {
		return outcome{err: &remote.Error{Op: "put", Path: j.path, Kind: remote.Unavailable,
			Err: fmt.Errorf("the server says that the file was changed, and shows the version that it had: %w", cause)}}
	}
	if theirs.Type == remote.File && theirs.Size == p.size {
		same, err := j.same(ctx, theirs, p)
		switch {
		case p.isTorn():
			return outcome{err: errTorn}
		case err != nil:
			return outcome{err: err}
		case same: // an attempt before has stored it, or somebody else the same
			return j.attributes(ctx, theirs)
		}
	}
	if ours, err := j.isGhost(ctx, theirs); err != nil {
		return outcome{err: err}
	} else if ours {
		if err := j.buildOn(ctx, theirs); err != nil {
			return outcome{err: err}
		}
		return j.sendAgain(ctx, p)
	}
	return j.aside(ctx, p, theirs, cause)
}

// same tells whether a file of the server has the pinned bytes, as far as they are here:
// the others are those of the version below, and a patch of ours has left them alone.
func (j *job) same(ctx context.Context, e remote.Entry, p *pin) (bool, error) {
	for _, r := range j.patch(p, j.stage.Missing(0, p.size)).Ranges {
		if same, err := j.sameRange(ctx, e, p, r); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (j *job) sameRange(ctx context.Context, e remote.Entry, p *pin, r remote.ByteRange) (bool, error) {
	mine, theirs := make([]byte, 1<<20), make([]byte, 1<<20)
	ref := remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}
	for off, end := r.Offset, r.Offset+r.Length; off < end; {
		n := int(min(int64(len(mine)), end-off))
		if _, err := p.ReadAt(mine[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		got, err := j.b.below.ReadAt(ctx, ref, theirs[:n], off)
		if got < n {
			if err == nil || errors.Is(err, io.EOF) {
				return false, nil
			}
			return false, inMotion(e.Path, err)
		}
		if !bytes.Equal(mine[:n], theirs[:n]) {
			return false, nil
		}
		off += int64(n)
	}
	return true, nil
}

// makeParents makes the directories above path that are no more.
func (j *job) makeParents(ctx context.Context, path string) error {
	dir, _ := remote.Split(path)
	if dir == "/" {
		return &remote.Error{Op: "mkdir", Path: dir, Kind: remote.Unavailable, Err: errors.New("the root is not there")}
	}
	_, err := j.b.below.Mkdir(ctx, dir)
	switch remote.KindOf(err) {
	case remote.NotExist:
		if err == nil {
			break
		}
		if err = j.makeParents(ctx, dir); err == nil {
			_, err = j.b.below.Mkdir(ctx, dir)
		}
	case remote.Exist:
		return nil
	}
	if err == nil {
		j.b.store.log.Warn("a directory was removed elsewhere; it is made again for what is to be stored in it",
			"branch", j.b.policy.Name, "directory", dir)
	}
	return err
}

// maxPrime is up to which size stored content goes into the block cache.
const maxPrime = 64 << 20

// prime puts what was stored into the block cache.
func (j *job) prime(e remote.Entry, p *pin) {
	whole := len(j.stage.Missing(0, p.size)) == 0 // holes are no zeros
	if f := j.b.policy.Prime; f != nil && whole && e.Version != "" && !e.Provisional && p.size <= maxPrime && p.size > 0 {
		_ = f(remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, p, p.size) // it is only faster
	}
}
