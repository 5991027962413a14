package writeback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// mkdir makes the directory.
func (j *job) mkdir(ctx context.Context) outcome {
	e, err := j.b.below.Mkdir(ctx, j.path)
	if remote.KindOf(err) == remote.NotExist && err != nil {
		if err = j.makeParents(ctx, j.path); err == nil {
			e, err = j.b.below.Mkdir(ctx, j.path)
		}
	}
	made := err == nil
	if remote.KindOf(err) == remote.Exist && err != nil {
		var there remote.Entry
		if there, err = j.b.below.Stat(ctx, j.path); err == nil && there.Type != remote.Dir {
			err = &remote.Error{Op: "mkdir", Path: j.path, Kind: remote.Exist, Err: errors.New("somebody else has made a file of this name")}
		}
		e = there
	}
	if err != nil {
		return outcome{err: err}
	}
	switch missing := j.missing(e); {
	case missing == (remote.Attrs{}):
		return outcome{entry: e, made: made, wish: j.unkept(e)}
	case missing.MTime == nil && j.mayWait():
		return outcome{entry: e, made: made, rest: missing}
	}
	return j.attributes(ctx, e)
}

// attributes sets those that e should have.
func (j *job) attributes(ctx context.Context, e remote.Entry) outcome {
	missing := j.missing(e)
	s, ok := remote.As[remote.AttrSetter](j.b.below)
	if missing == (remote.Attrs{}) || !ok {
		return outcome{entry: e, wish: j.unkept(e)}
	}
	now, err := s.SetAttr(ctx, j.path, j.b.sent(missing))
	switch {
	case err != nil && final(err): // what they belong to is made all the same
		return outcome{entry: e, wish: j.unkept(e)}
	case err != nil:
		return outcome{err: err}
	}
	return outcome{entry: now, wish: j.unkept(now)}
}

// symlink makes the link.
func (j *job) symlink(ctx context.Context) outcome {
	s, ok := remote.As[remote.Symlinker](j.b.below)
	if !ok {
		return outcome{err: &remote.Error{Op: "symlink", Path: j.path, Kind: remote.Unsupported}}
	}
	e, err := s.Symlink(ctx, j.path, j.target)
	if remote.KindOf(err) == remote.NotExist && err != nil {
		if err = j.makeParents(ctx, j.path); err == nil {
			e, err = s.Symlink(ctx, j.path, j.target)
		}
	}
	if remote.KindOf(err) != remote.Exist || err == nil {
		return outcome{entry: e, err: err}
	}
	theirs, err := j.b.below.Stat(ctx, j.path)
	switch {
	case err != nil:
		return outcome{err: err}
	case theirs.Type == remote.Symlink && theirs.Target == j.target:
		return outcome{entry: theirs}
	case j.redo && j.halfLink(ctx, theirs):
		return j.relink(ctx, s, theirs)
	case j.base.Type == theirs.Type && j.base.Version == theirs.Version && theirs.Type != remote.Dir && j.base.Type != 0:
		return j.relink(ctx, s, theirs) // what we have seen there
	}
	path := ConflictPath(j.path, j.b.store.opts.Hostname, j.b.store.opts.Now(), j.b.Caps().MaxName)
	ours, err := s.Symlink(ctx, path, j.target)
	return outcome{entry: theirs, copy: ours, err: j.taken(err)}
}

// halfLink tells whether a file is what an attempt of ours has left that was cut off before
// it made a link of it: empty and younger than the change (zones), or with the target as
// its text (WebDAV).
func (j *job) halfLink(ctx context.Context, e remote.Entry) bool {
	if e.Type != remote.File {
		return false
	}
	if e.Size == 0 {
		return !e.MTime.Before(j.since.Add(-clocksDiffer))
	}
	text := make([]byte, len(j.target))
	if e.Size != int64(len(text)) {
		return false
	}
	n, _ := j.b.below.ReadAt(ctx, remote.Ref{Path: e.Path, Version: e.Version, Size: e.Size}, text, 0)
	return string(text[:n]) == j.target
}

// clocksDiffer is how much a server's clock may be behind.
const clocksDiffer = time.Minute

// relink makes the link in the place of what is there.
func (j *job) relink(ctx context.Context, s remote.Symlinker, there remote.Entry) outcome {
	if err := j.b.below.Remove(ctx, j.path, remote.RemoveOptions{Type: there.Type, Version: there.Version}); err != nil {
		return outcome{err: err}
	}
	e, err := s.Symlink(ctx, j.path, j.target)
	return outcome{entry: e, err: err}
}

// setAttr sets attributes of what is there.
func (j *job) setAttr(ctx context.Context) outcome {
	s, ok := remote.As[remote.AttrSetter](j.b.below)
	if !ok { // they were set on what was pending, which shows all
		e, err := j.b.below.Stat(ctx, j.path)
		if remote.KindOf(err) == remote.NotExist && err != nil {
			err = nil
		}
		return outcome{entry: e, wish: j.attrs, err: err}
	}
	if j.c.owes() {
		return j.pay(ctx)
	}
	return j.completed(ctx, j.setAttr0(ctx, s), j.base.Version)
}

// setAttr0 is setAttr without what an attempt before may have left.
func (j *job) setAttr0(ctx context.Context, s remote.AttrSetter) outcome {
	attrs := j.b.sent(j.attrs)
	if attrs.Made = j.made; j.made && attrs.Spares(remote.Dir) {
		if attrs.Mode = nil; attrs.MTime == nil { // it shows that by itself
			return outcome{entry: j.base, wish: j.unkept(j.base)}
		}
	}
	if x := j.batch; x != nil && j.source == "" {
		j.batch = nil
		r, err := x.put(ctx, remote.BatchItem{Path: j.path, Attrs: attrs})
		return j.given(r.Entry, err)
	}
	e, err := s.SetAttr(ctx, cmp.Or(j.source, j.path), attrs)
	if err == nil && j.source != "" {
		e, err = j.b.below.Stat(ctx, j.path)
	}
	if remote.KindOf(err) == remote.NotExist && err != nil {
		return outcome{kept: "it was removed elsewhere before its attributes could be set"}
	}
	return j.given(e, err)
}

// given is the outcome of attributes that were set of e, which may be somebody else's by now: what
// comes next here does not build on that. One of the same size cannot be told from ours, as some
// servers give a file another version with its attributes.
func (j *job) given(e remote.Entry, err error) outcome {
	if err != nil {
		return outcome{err: err}
	}
	theirs := j.source == "" && j.base.Type == remote.File && j.base.Version != "" && e.Version != j.base.Version &&
		(e.Type != remote.File || e.Size != j.base.Size)
	return outcome{entry: e, wish: j.unkept(e), theirs: theirs}
}

// remove removes the entry, if it is still what was seen.
func (j *job) remove(ctx context.Context) outcome {
	opts := remote.RemoveOptions{Type: j.typ}
	if j.typ != remote.Dir {
		if j.doubt {
			return j.removeDoubtful(ctx)
		}
		if j.base.Type == 0 {
			return outcome{} // the server has never had it
		}
		opts.Version = j.base.Version
	}
	err := j.b.below.Remove(ctx, j.path, opts)
	if j.typ == remote.Dir && err != nil && remote.KindOf(err) == remote.NotEmpty {
		if err := j.sweepDir(ctx); err != nil {
			return outcome{err: err}
		}
		err = j.b.below.Remove(ctx, j.path, opts)
	}
	switch remote.KindOf(err) {
	case remote.NotExist:
		err = nil
	case remote.Conflict, remote.NotEmpty, remote.IsDir, remote.NotDir:
		return j.keep(ctx, err)
	}
	return outcome{err: err}
}

// keep is the outcome of a removal of what is not any more what was removed.
func (j *job) keep(ctx context.Context, cause error) outcome {
	e, err := j.b.below.Stat(ctx, j.path)
	switch {
	case err != nil && remote.KindOf(err) == remote.NotExist:
		return outcome{}
	case err != nil:
		return outcome{err: err}
	}
	return outcome{entry: e, kept: fmt.Sprintf("it is not removed, as it was changed elsewhere: %v", cause)}
}

// removeDoubtful removes what is there if it is what was there before, or something that
// an attempt of ours has left: that was withdrawn, and had been stored all the same.
func (j *job) removeDoubtful(ctx context.Context) outcome {
	e, err := j.b.below.Stat(ctx, j.path)
	switch {
	case err != nil && remote.KindOf(err) == remote.NotExist:
		return outcome{}
	case err != nil:
		return outcome{err: err}
	}
	was := j.base.Version
	if err := j.learn(ctx, &j.base, e); err != nil {
		return outcome{err: err}
	}
	ours, err := j.torn(ctx, e)
	if err == nil && !ours {
		ours, err = j.isGhost(ctx, e)
	}
	if err != nil {
		return outcome{err: err}
	}
	ours = ours || e.Type == remote.Symlink && slices.ContainsFunc(j.ghosts, func(g ghost) bool {
		return g.ok && g.size == int64(len(e.Target)) && g.crc == crc32.Checksum([]byte(e.Target), castagnoli)
	}) || e.Type == remote.File && slices.ContainsFunc(j.ghosts, func(g ghost) bool {
		// Of some no more is known than size and times: then it must be as young as our change.
		young := g.young(e) || !g.mtime.IsZero() && e.MTime.Truncate(time.Second).Equal(g.mtime.Truncate(time.Second))
		return !g.ok && g.size == e.Size && young
	})
	if !ours && (j.base.Type == 0 || e.Version != j.base.Version) {
		return outcome{entry: e, kept: "it is not removed, as it was changed elsewhere"}
	}
	if r := j.completed(ctx, outcome{entry: e}, was); r.err != nil { // or that would show again
		return r
	}
	err = j.b.below.Remove(ctx, j.path, remote.RemoveOptions{Type: e.Type, Version: e.Version})
	switch remote.KindOf(err) {
	case remote.NotExist:
		err = nil
	case remote.Conflict, remote.IsDir, remote.NotDir: // it was replaced just now: it is looked at again
		err = &remote.Error{Op: "remove", Path: j.path, Kind: remote.Unavailable, Err: err}
	}
	return outcome{err: err}
}

// rename gives what an earlier change has stored, or a server of several steps has, its name.
func (j *job) rename(ctx context.Context) outcome {
	was := j.toBase.Version
	return j.completed(ctx, j.rename0(ctx), was)
}

// rename0 is rename without what an attempt before may have left.
func (j *job) rename0(ctx context.Context) outcome {
	from := j.path
	if j.source != "" {
		from = j.source
	}
	src, err := j.b.below.Stat(ctx, from)
	if remote.KindOf(err) == remote.NotExist && err != nil {
		return j.renamed(ctx, err)
	}
	if err != nil {
		return outcome{err: err}
	}
	if err := j.learn(ctx, &j.base, src); err != nil {
		return outcome{err: err}
	}
	dst, err := j.b.below.Stat(ctx, j.to)
	free := err != nil && remote.KindOf(err) == remote.NotExist
	if err == nil {
		err = j.learn(ctx, &j.toBase, dst)
	}
	switch {
	case err != nil && !free:
		return outcome{err: err}
	case src.Type != remote.File || j.base.Version != "" && src.Version != j.base.Version || j.base.Version == "" && src.Size != j.size:
		// Somebody else has put something else there, which stays: ours goes where it belongs.
		if j.stage == nil {
			return outcome{err: &remote.Error{Op: "rename", Path: from, Kind: remote.Conflict, Err: errors.New("somebody else has put something else there")}}
		}
		return j.putAt(ctx, src)
	case !free && (dst.Type != remote.File || dst.Version != j.toBase.Version):
		if ours, err := j.isOwn(ctx, dst); err != nil {
			return outcome{err: err}
		} else if ours {
			if err := j.takePlace(ctx, dst); err != nil {
				return outcome{err: err}
			}
			break
		}
		path := ConflictPath(j.to, j.b.store.opts.Hostname, j.b.store.opts.Now(), j.b.Caps().MaxName)
		if err := j.b.below.Rename(ctx, from, path, remote.RenameOptions{NoReplace: true}); err != nil {
			return outcome{err: j.taken(err)}
		}
		ours, err := j.b.below.Stat(ctx, path)
		return outcome{entry: dst, copy: ours, err: err}
	}
	if err := j.b.below.Rename(ctx, from, j.to, remote.RenameOptions{NoReplace: free}); err != nil {
		return outcome{err: j.taken(err)}
	}
	e, err := j.b.below.Stat(ctx, j.to)
	if err != nil {
		return outcome{err: err}
	}
	return j.arrived(ctx, e)
}

// arrived is the outcome of a rename that has been made: some servers give the file another
// time by that.
func (j *job) arrived(ctx context.Context, e remote.Entry) outcome {
	j.path = j.to
	return j.attributes(ctx, e)
}

// taken makes the error that there is something at a name one that passes, as a moment ago
// there was nothing: it is looked at again, and the next copy has another name.
func (j *job) taken(err error) error {
	if err == nil || remote.KindOf(err) != remote.Exist {
		return err
	}
	return &remote.Error{Op: j.kind.String(), Path: j.path, Kind: remote.Unavailable, Err: err}
}

// renamed is the outcome of a rename whose source is not there: an attempt before, maybe
// of another process, has done it, or the content is put where it belongs.
func (j *job) renamed(ctx context.Context, cause error) outcome {
	e, err := j.b.below.Stat(ctx, j.to)
	if err != nil && remote.KindOf(err) != remote.NotExist {
		return outcome{err: err}
	}
	if err == nil && e.Type == remote.File && e.Size == j.size && e.Version != j.toBase.Version {
		ours := true
		if j.stage != nil && j.digest.ok {
			if ours, err = j.isOneOf(ctx, e, []ghost{{size: j.size, digest: j.digest}}); err != nil {
				return outcome{err: err}
			}
		}
		if ours {
			return j.arrived(ctx, e)
		}
	}
	if j.stage == nil {
		return outcome{err: cause}
	}
	return j.putAt(ctx, remote.Entry{})
}

// putAt puts the content where it was to be renamed to. left is what is at its old name,
// which goes if it is what an earlier attempt of ours has stored.
func (j *job) putAt(ctx context.Context, left remote.Entry) outcome {
	ours, err := j.isGhost(ctx, left)
	if err != nil {
		return outcome{err: err}
	}
	if ours {
		err := j.b.below.Remove(ctx, left.Path, remote.RemoveOptions{Type: left.Type, Version: left.Version})
		if k := remote.KindOf(err); err != nil && k != remote.NotExist && k != remote.Conflict {
			return outcome{err: err}
		}
	}
	j.path, j.base = j.to, j.toBase
	if j.attrs.Mode == nil {
		j.attrs.Mode = j.b.ownMode(j.base)
	}
	return j.put(ctx)
}

// ownMode returns the mode of a new file, nil if it need not be said: a file whose place
// it takes on the server would give it its own.
func (b *Branch) ownMode(there remote.Entry) *uint32 {
	mode := b.policy.Usual.File
	if there.Type != remote.File || !there.ModeKnown || there.Mode == mode {
		return nil
	}
	return &mode
}
