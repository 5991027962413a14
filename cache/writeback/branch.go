package writeback

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/meshmount/meshmount/remote"
)

// Branch is a remote tree with the changes that its server has yet to see. It is a
// remote.Backend, and shows the tree as if they were made. Its methods are safe for
// concurrent use. Changes return when they are in the journal; those of the Backend look
// at the server first where that is needed, those that the file system uses (Commit,
// MakeDir, MakeLink, Unlink, RemoveDir, Move, SetAttrs) believe their caller.
type Branch struct {
	store  *Store
	below  remote.Backend
	policy Policy
	pace   pace
	teller teller
	// batcher is below as one, nil if there are to be no batches.
	batcher remote.Batcher
	// pruner is below as one, nil if removals are to go one by one.
	pruner remote.Pruner
	// replacer is below as one, nil if it does everything in one step.
	replacer remote.Replacer
	// dresser is below as one, nil if attributes are to be set one by one.
	dresser remote.AttrBatcher

	// guarded by store.mu
	queue     queue
	all       map[uint64]*change
	parked    map[*change]struct{}
	contents  map[string]*content  // by local version
	settled   []string             // local versions whose contents are on the server, oldest first
	torn      map[*change]struct{} // removals of what an earlier mount may have left torn
	recent    []recent
	debts     map[*change]struct{} // of calls under way, see owe
	reads     map[uint64]int       // reads under way, by their beginnings
	clock     uint64               // counts ends of changes
	active    int                  // changes under way; a batch is one
	light     int                  // those among them that have room of their own
	batching  int                  // batches of files among them
	dressing  int                  // batches of attributes among them
	burst     burst                // says when small files need not wait
	onSettled func(Settled)
	rate      rate

	removals  removals // guarded by store.mu
	foresight foresight
}

var _ interface {
	remote.Backend
	remote.Opener
	remote.GrowingPutter
	remote.Patcher
	remote.AttrSetter
	remote.Symlinker
	remote.Xattrer
	remote.TreeRemover
	remote.Pruner
	remote.Replicator
	remote.Unwrapper
} = (*Branch)(nil)

// content is what a local version stands for.
type content struct {
	stage *Stage        // nil when the server has it
	entry *remote.Entry // on the server; nil before it has it
	aside bool          // under the name of a conflict copy
}

// recent is the end of a change: answers that were asked for before do not know of it.
type recent struct {
	path  string
	entry remote.Entry // zero Type: nothing is there
	was   string       // version that was replaced, if that was in steps
	at    uint64
}

// Wrap returns the branch over below, with what an earlier mount has left to do for the
// same Tree.
func (s *Store) Wrap(below remote.Backend, p Policy) (*Branch, error) {
	if p.Workers <= 0 {
		p.Workers = 8
	}
	p.Usual = cmp.Or(p.Usual, remote.ModesOf(0o022))
	b := &Branch{store: s, below: below, policy: p, queue: newQueue(), all: map[uint64]*change{}, parked: map[*change]struct{}{},
		contents: map[string]*content{}, torn: map[*change]struct{}{}, debts: map[*change]struct{}{}, reads: map[uint64]int{}, pace: newPace(p.Workers, s.opts.RetryWait)}
	if to, ok := remote.As[remote.Batcher](below); ok && p.Batch.Size > 0 {
		b.batcher, b.queue.together = to, b.small
	}
	if to, ok := remote.As[remote.Pruner](below); ok && p.Prune.Most > 1 {
		b.pruner, b.queue.prunable = to, b.prunable
		b.foresight.to, _ = remote.As[remote.Foreseer](below)
	}
	if to, ok := remote.As[remote.AttrBatcher](below); ok && to.AttrBatches() > 1 {
		b.dresser, b.queue.dressing = to, b.dressable
	}
	b.replacer = remote.ReplacerOf(below)
	b.teller.start()
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.branches, func(o *Branch) bool { return o.policy.Tree == p.Tree }) {
		b.teller.close()
		return nil, errors.New("writeback: the same remote tree twice: " + p.Tree)
	}
	s.branches = append(s.branches, b)
	s.adopt(b)
	return b, nil
}

// OnSettled registers the function that is told what the server has now. It is called
// without locks, one at a time, in order.
func (b *Branch) OnSettled(f func(Settled)) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	b.onSettled = f
}

// Unwrap implements remote.Unwrapper.
func (b *Branch) Unwrap() remote.Backend { return b.below }

// Caps implements remote.Backend.
func (b *Branch) Caps() remote.Caps { return b.below.Caps() }

// Close implements remote.Backend. The Store must be closed before.
func (b *Branch) Close() error { return b.below.Close() }

// sight is what the pending changes show at a path.
type sight struct {
	known bool         // the entry says it all: the server need not be asked
	entry remote.Entry // zero Type: nothing is there
	attrs remote.Attrs // not known: the server's entry, with these
}

// sees returns what the pending changes show at path. Guarded by store.mu.
func (b *Branch) sees(path string) sight {
	l := b.queue.lines[path]
	var attrs remote.Attrs
	for _, c := range slices.Backward(l) {
		switch {
		case c.guards():
			return sight{known: true}
		case c.kind == opForeign, c.kind == opClean:
			continue
		case c.kind == opSetAttr:
			attrs = andThen(c.setting(), attrs)
			continue
		case c.kind == opRemove, c.kind == opRename && c.path == path:
			return sight{known: true}
		}
		e := c.entry(path)
		dress(&e, attrs)
		return sight{known: true, entry: e}
	}
	return sight{attrs: attrs}
}

// above tells whether a directory above path is one that the server does not have: then
// there is nothing that it could tell of path. Guarded by store.mu.
func (b *Branch) above(path string) bool {
	for path != "/" {
		path, _ = remote.Split(path)
		if s := b.sees(path); s.known {
			return s.entry.Type != remote.Dir || b.born(path)
		}
	}
	return false
}

// born tells whether a directory was made here and the server does not have it yet, and
// had no other before. Guarded by store.mu.
func (b *Branch) born(path string) bool {
	for _, c := range b.queue.lines[path] {
		if c.kind == opMkdir {
			return true
		}
	}
	return false
}

// begin notes the beginning of a question to the server. Guarded by store.mu.
func (b *Branch) begin() uint64 {
	b.reads[b.clock]++
	return b.clock
}

// beginning is begin without the lock held.
func (b *Branch) beginning() uint64 {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	return b.begin()
}

// usable tells why a question need not be asked.
func (b *Branch) usable(ctx context.Context, op, path string) error {
	if b.store.life.Err() != nil {
		return &remote.Error{Op: op, Path: path, Kind: remote.BadHandle}
	}
	if err := remote.ContextErr(ctx); err != nil {
		return err
	}
	return remote.CheckPath(op, path)
}

// ended forgets it, and the ends of changes that are of interest to nobody any more.
func (b *Branch) ended(at uint64) {
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	if b.reads[at]--; b.reads[at] == 0 {
		delete(b.reads, at)
	}
	b.forgetRecent()
}

// forgetRecent drops what all questions under way were asked after. Guarded by store.mu.
func (b *Branch) forgetRecent() {
	if len(b.reads) == 0 {
		b.recent = nil
		return
	}
	oldest := b.clock
	for at := range b.reads {
		oldest = min(oldest, at)
	}
	b.recent = slices.DeleteFunc(b.recent, func(r recent) bool { return r.at <= oldest })
}

// ends notes what the server has at path by the end of a change. Guarded by store.mu.
func (b *Branch) ends(path string, e remote.Entry) {
	b.clock++
	if len(b.reads) > 0 {
		b.recent = append(b.recent, recent{path: path, entry: e, at: b.clock})
	}
}

// since returns what ended at path after at. Guarded by store.mu.
func (b *Branch) since(path string, at uint64) (remote.Entry, bool) {
	for _, r := range slices.Backward(b.recent) {
		if r.path == path && r.at > at {
			return r.entry, true
		}
	}
	return remote.Entry{}, false
}

// Stat implements remote.Backend.
func (b *Branch) Stat(ctx context.Context, path string) (remote.Entry, error) {
	if err := b.usable(ctx, "stat", path); err != nil {
		return remote.Entry{}, err
	}
	b.store.mu.Lock()
	b.awaitClean(ctx, func(p string) bool { return p == path })
	s := b.sees(path)
	if s.known || b.above(path) {
		b.store.mu.Unlock()
		if s.entry.Type == 0 {
			return remote.Entry{}, absent("stat", path)
		}
		return s.entry, nil
	}
	at := b.begin()
	b.store.mu.Unlock()
	defer b.ended(at)
	e, err := b.below.Stat(ctx, path)
	if err != nil && remote.KindOf(err) != remote.NotExist {
		return remote.Entry{}, err
	}
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	now, ok := b.correct(path, e, err == nil, at)
	if !ok {
		return remote.Entry{}, absent("stat", path)
	}
	return now, nil
}

// correct makes the server's answer about path, asked for at that time, what is so with
// all changes. Guarded by store.mu.
func (b *Branch) correct(path string, e remote.Entry, there bool, at uint64) (remote.Entry, bool) {
	s := b.sees(path)
	if s.known {
		return s.entry, s.entry.Type != 0
	}
	if now, ok := b.since(path, at); ok {
		e, there = now, now.Type != 0
	}
	if there = there && !b.former(e, at); there {
		dress(&e, s.attrs)
	}
	return e, there
}

// List implements remote.Backend.
func (b *Branch) List(ctx context.Context, dir string, yield func(remote.Entry) error) error {
	if err := b.usable(ctx, "list", dir); err != nil {
		return err
	}
	b.store.mu.Lock()
	b.awaitClean(ctx, func(p string) bool { up, _ := remote.Split(p); return up == dir })
	s := b.sees(dir)
	switch {
	case s.known && s.entry.Type == 0, !s.known && b.above(dir):
		b.store.mu.Unlock()
		return absent("list", dir)
	case s.known && s.entry.Type != remote.Dir:
		b.store.mu.Unlock()
		return &remote.Error{Op: "list", Path: dir, Kind: remote.NotDir}
	}
	at := b.begin()
	local := s.known && b.born(dir)
	b.store.mu.Unlock()
	defer b.ended(at)
	l := lister{b: b, at: at, yield: yield, seen: map[string]struct{}{}}
	if !local {
		if err := b.below.List(ctx, dir, l.server); err != nil {
			return err
		}
	}
	return l.rest(ctx, dir)
}

// lister merges the listing of a server with the pending changes.
type lister struct {
	b     *Branch
	at    uint64
	yield func(remote.Entry) error
	seen  map[string]struct{} // names that the server told, as far as changes concern them
}

// server passes an entry of the server on, as it is with all changes.
func (l *lister) server(e remote.Entry) error {
	b := l.b
	b.store.mu.Lock()
	quiet := len(b.recent) == 0 && len(b.queue.lines) == 0 // also of debts
	there := true
	if !quiet {
		_, late := b.since(e.Path, l.at)
		if late || len(b.queue.lines[e.Path]) > 0 {
			l.seen[e.Path] = struct{}{}
			e, there = b.correct(e.Path, e, true, l.at)
		}
		there = there && !b.former(e, l.at)
	}
	b.store.mu.Unlock()
	if !there {
		return nil
	}
	return l.yield(e)
}

// rest yields what the server did not tell.
func (l *lister) rest(ctx context.Context, dir string) error {
	b := l.b
	var more []remote.Entry
	b.store.mu.Lock()
	add := func(path string) {
		if _, done := l.seen[path]; done {
			return
		}
		l.seen[path] = struct{}{}
		// An entry that the server did not tell is there only if a change has made it.
		if e, ok := b.correct(path, remote.Entry{}, false, l.at); ok {
			more = append(more, e)
		}
	}
	for name := range b.queue.kids[dir] {
		if p := remote.Join(dir, name); len(b.queue.lines[p]) > 0 {
			add(p)
		}
	}
	for _, r := range b.recent {
		if up, _ := remote.Split(r.path); up == dir && r.at > l.at && r.path != "/" {
			add(r.path)
		}
	}
	b.store.mu.Unlock()
	for _, e := range more {
		if err := remote.ContextErr(ctx); err != nil {
			return err
		}
		if err := l.yield(e); err != nil {
			return err
		}
	}
	return nil
}

// ReadAt implements remote.Backend.
func (b *Branch) ReadAt(ctx context.Context, ref remote.Ref, p []byte, off int64) (int, error) {
	st, ref, err := b.locate(ctx, "read", ref)
	if err != nil {
		return 0, err
	}
	if st == nil {
		return b.below.ReadAt(ctx, ref, p, off)
	}
	defer st.Release()
	n, err := st.ReadAt(ctx, p, off)
	if err != nil && !errors.Is(err, io.EOF) {
		err = remote.E("read", ref.Path, remote.Other, err)
	}
	return n, err
}

// locate returns the stage that has the bytes of ref, with a reference, or the name of
// them on the server.
func (b *Branch) locate(ctx context.Context, op string, ref remote.Ref) (*Stage, remote.Ref, error) {
	if err := b.usable(ctx, op, ref.Path); err != nil {
		return nil, ref, err
	}
	b.store.mu.Lock()
	defer b.store.mu.Unlock()
	version := ref.Version
	if s := b.sees(ref.Path); s.known && (version == "" || !IsLocal(version)) {
		switch {
		case s.entry.Type == 0:
			return nil, ref, absent(op, ref.Path)
		case s.entry.Type == remote.Dir:
			return nil, ref, &remote.Error{Op: op, Path: ref.Path, Kind: remote.IsDir}
		case version == "":
			version = s.entry.Version
		case version != s.entry.Version && b.replacedBelow(ref.Path, version):
			return nil, ref, &remote.Error{Op: op, Path: ref.Path, Kind: remote.Changed}
		}
	} else if !s.known && b.above(ref.Path) {
		return nil, ref, absent(op, ref.Path)
	}
	if !IsLocal(version) {
		st := b.stagedAs(ref.Path, version)
		return st, ref, nil
	}
	c, ok := b.contents[version]
	switch {
	case !ok:
		return nil, ref, &remote.Error{Op: op, Path: ref.Path, Kind: remote.Changed, Err: errors.New("this content is no more")}
	case c.stage != nil:
		return c.stage.retain(), ref, nil
	}
	return nil, remote.Ref{Path: c.entry.Path, Version: c.entry.Version, Size: c.entry.Size}, nil
}

// replacedBelow tells whether a version of the server cannot be read any more at path:
// of a file that was replaced here it can, until the server has the new one. Guarded by
// store.mu.
func (b *Branch) replacedBelow(path, version string) bool {
	l := b.queue.lines[path]
	return len(l) == 0 || l[0].base.Version != version
}

// Open implements remote.Opener.
func (b *Branch) Open(ctx context.Context, ref remote.Ref) (io.ReadCloser, error) {
	st, ref, err := b.locate(ctx, "open", ref)
	if err != nil {
		return nil, err
	}
	if st == nil {
		below, ok := remote.As[remote.Opener](b.below)
		if !ok {
			return nil, &remote.Error{Op: "open", Path: ref.Path, Kind: remote.Unsupported}
		}
		return below.Open(ctx, ref)
	}
	return &stageReader{ctx: ctx, st: st}, nil
}

// stageReader reads a stage from its beginning.
type stageReader struct {
	ctx    context.Context
	st     *Stage
	off    int64
	closed bool
}

func (r *stageReader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	n, err := r.st.ReadAt(r.ctx, p, r.off)
	r.off += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (r *stageReader) Close() error {
	if !r.closed {
		r.closed = true
		r.st.Release()
	}
	return nil
}
