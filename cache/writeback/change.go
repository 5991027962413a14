package writeback

import (
	"cmp"
	"hash/crc32"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// opForeign is a call of others that must not cross the pending changes of its paths. It
// is never in the journal.
const opForeign opKind = 255

// state is where a change stands.
type state uint8

const (
	idle    state = iota // waits for others, for its time or for a free place
	running              // is carried out
	parked               // failed for good; waits for the user
	over                 // done, withdrawn or dropped
)

// change is one change of a branch's tree that its server has yet to see. All fields are
// guarded by Store.mu, but for those that never change after it was queued: b, id, kind,
// typ, target.
type change struct {
	b      *Branch
	id     uint64
	gen    uint64 // counts commits
	kind   opKind
	path   string
	to     string // rename
	target string // symlink
	typ    remote.Type
	deep   bool // concerns what is below its paths as well

	stage   *Stage // put, rename: the content, with a reference; may be nil for a rename
	size    int64
	base    remote.Entry  // what the server has at path; zero if nothing
	after   *change       // base is what this one leaves
	toBase  *remote.Entry // rename: what the server has at to; nil if nothing
	toAfter *change       // rename: toBase is what this one leaves
	source  string        // rename, setattr: where the content is on the server, if not at path
	doubt   bool          // remove: there may be something else of ours, one of ghosts
	ghosts  []ghost       // contents that an attempt may have stored, of which we heard no more
	mtime   time.Time     // as shown
	attrs   remote.Attrs  // to be stored
	loose   bool          // the time in attrs is only that of writing
	version string        // as shown
	digest  digest        // of the content
	// announced: an attempt may have sent what digest tells of.
	announced bool
	since     time.Time
	synced    bool // content and record are on stable storage
	unsafe    bool // the content is not proven to be what was written: it is parked
	replayed  bool // from the journal of a process before this one

	state   state
	prev    []*change // unfinished ones that come first
	next    []*change // those that wait for this one
	delay   time.Time // for being written again
	retry   time.Time // not before, after a failure
	slot    int       // in the heap, -1 if it is not there
	heap    *dueHeap  // the one of those in which it is or was
	slight  bool      // it is carried out in the room for changes without content
	atOnce  bool      // mkdir, put: no attributes are to be set later
	later   bool      // setattr: it gives way to content, see gatherRest
	made    bool      // setattr: the change before has made base, a directory, just now
	lone    bool      // it cannot leave together with others
	tried   bool      // the server may have heard of it
	tries   int       // failures in a row
	tears   int
	cause   error
	urgent  bool
	again   bool // committed again while it was carried out
	dropped bool // withdrawn while it was carried out
	stored  bool // the server has it
	cancel  func()
	grow    *growing
	pin     *pin
	token   string
	sent    atomic.Int64
	ready   chan struct{} // opForeign: closed when it is its turn
}

// localPrefix begins the versions of content that no server has seen.
const localPrefix = "local:"

// ghost is content of which it is not known whether the server has it.
type ghost struct {
	size int64
	digest
	mtime time.Time // that was to be stored with it; zero if none
	since time.Time // when it was made; zero if that is not known
}

// timed tells whether a file is this by its size and time: of what is very large nothing else
// may be known.
func (g ghost) timed(e remote.Entry) bool {
	return !g.ok && g.size == e.Size && g.size > maxAnnounce && !g.mtime.IsZero() && g.mtime.Truncate(time.Second).Equal(e.MTime.Truncate(time.Second))
}

// young tells whether a file is not older than this, as far as clocks tell.
func (g ghost) young(e remote.Entry) bool {
	return !g.since.IsZero() && !e.MTime.Before(g.since.Add(-clocksDiffer))
}

// maxGhosts bounds the contents that are remembered of one change; the oldest go.
const maxGhosts = 16

// haunted adds what an attempt may have stored.
func haunted(list []ghost, more ...ghost) []ghost {
	list = append(slices.Clone(list), more...)
	return list[max(0, len(list)-maxGhosts):]
}

// own returns the content of a put as it is in the journal.
func (c *change) own() ghost {
	g := ghost{size: c.size, digest: c.digest, since: c.since}
	if c.attrs.MTime != nil {
		g.mtime = *c.attrs.MTime
	}
	return g
}

// traces returns what attempts at c may have left at its path: the content, or half of a
// symbolic link (see halfLink).
func (c *change) traces() []ghost {
	switch c.kind {
	case opPut:
		if !c.announced {
			return nil
		}
		return []ghost{c.own()}
	case opSymlink:
		return halves(c.target, c.since)
	}
	return nil
}

// halves returns what attempts at a symbolic link may leave.
func halves(target string, since time.Time) []ghost {
	d := digest{ok: true, size: int64(len(target)), crc: crc32.Checksum([]byte(target), castagnoli)}
	return []ghost{{size: d.size, digest: d, since: since}, {since: since}}
}

// IsLocal tells whether a version is one of a pending change: of content that is on this
// node. Such versions are never shown to a server.
func IsLocal(version string) bool { return strings.HasPrefix(version, localPrefix) }

// paths returns the paths whose names or content the change concerns.
func (c *change) paths() []string {
	if c.to != "" {
		return []string{c.path, c.to}
	}
	return []string{c.path}
}

// fresh tells whether nothing is at the path on the server.
func (c *change) fresh() bool { return c.base.Type == 0 && c.after == nil }

// simple tells whether the change can still be altered without the server's noticing.
func (c *change) simple() bool { return (c.state == idle || c.state == parked) && c.kind != opForeign }

// untouched tells whether the server cannot have heard of the change.
func (c *change) untouched() bool {
	return c.simple() && !c.tried && !c.replayed && c.grow == nil
}

// revocable tells whether the change removes a file of which it is known what the server
// has: something that takes its place then can do so on the server as well, unless it
// would inherit there what is not its own.
func (c *change) revocable() bool {
	_, heirs := remote.As[remote.Xattrer](c.b.below)
	return c.kind == opRemove && !heirs && c.typ != remote.Dir && !c.doubt && (c.after == nil || !c.after.dropped)
}

// entry returns what the change makes of its path, or of to.
func (c *change) entry(path string) remote.Entry {
	e := remote.Entry{Path: path, Type: remote.File, Size: c.size, MTime: c.mtime, Version: c.version, ID: c.base.ID, Access: c.base.Access}
	if c.stage != nil {
		e.Size = min(e.Size, c.stage.Size()) // it may have been cut since
	}
	e.Mode, e.ModeKnown = c.mode()
	switch c.kind {
	case opMkdir:
		e.Type, e.Size, e.Version = remote.Dir, 0, ""
	case opSymlink:
		e.Type, e.Target, e.Size = remote.Symlink, c.target, 0
	}
	return e
}

// mode returns the permission bits of what the change makes, which may be those of what it
// builds on; false if only the server knows.
func (c *change) mode() (bits uint32, known bool) {
	for c != nil && c.kind != opRemove {
		switch {
		case c.attrs.Mode != nil:
			return *c.attrs.Mode, true
		case c.base.ModeKnown:
			return c.base.Mode, true
		}
		path := c.path
		if c = c.after; c != nil && c.kind == opRename && c.to != path {
			break // it has moved away what was there
		}
	}
	return 0, false
}

// record returns the change for the journal.
func (c *change) record() record {
	r := record{Kind: recOp, ID: c.id, Gen: c.gen, Branch: c.b.policy.Tree, Op: c.kind, Path: c.path, To: c.to,
		Target: cmp.Or(c.target, c.source), Size: c.size, Base: c.base, NotExist: c.fresh(), MTime: c.mtime, HasMTime: !c.mtime.IsZero(),
		SetMTime: c.attrs.MTime != nil, Loose: c.loose, Type: c.typ, Synced: c.synced, Doubt: c.unsafe, Resume: c.token, Time: c.since}
	if c.toBase != nil {
		r.ToBase = *c.toBase
	}
	if c.toAfter != nil {
		r.ToBase = remote.Entry{Type: remote.File, Version: localPrefix}
	}
	if c.after != nil {
		r.Base = remote.Entry{Type: remote.File, Version: localPrefix}
	}
	if c.attrs.Mode != nil {
		r.Mode, r.HasMode = *c.attrs.Mode, true
	}
	for _, g := range c.ghosts {
		r.Ghosts = append(r.Ghosts, recGhost{Size: g.size, Sum: g.crc, HasSum: g.ok, Parts: g.parts, MTime: g.mtime, Since: g.since})
	}
	if c.stage != nil {
		r.Stage, r.Have, r.Limit, r.From = c.stage.layout()
		r.Sum, r.HasSum, r.Parts, r.Sent = c.digest.crc, c.digest.ok, c.digest.parts, c.announced
	}
	return r
}

// andThen returns what is set by a, and then by b.
func andThen(a, b remote.Attrs) remote.Attrs {
	if b.MTime != nil {
		a.MTime = b.MTime
	}
	if b.Mode != nil {
		a.Mode = b.Mode
	}
	return a
}

// dress puts attributes that are set into e.
func dress(e *remote.Entry, a remote.Attrs) {
	if a.MTime != nil {
		e.MTime = *a.MTime
	}
	if a.Mode != nil {
		e.Mode, e.ModeKnown = *a.Mode, true
	}
}

// below returns what the server had before c, nil for nothing.
func (c *change) below() *remote.Entry {
	if c.base.Type == 0 {
		return nil
	}
	e := c.base
	return &e
}

// leaves returns what the server has at path by the end of c, nil for nothing.
func (c *change) leaves(path string, r outcome) *remote.Entry {
	switch {
	case c.kind == opRename && c.path == path, r.entry.Type == 0:
		return nil
	case r.theirs: // what was written here is not about that
		return &c.base
	case c.kind == opRemove && r.kept != "", r.copy.Type != 0: // theirs, which nobody here has seen
		return nil
	}
	return &r.entry
}
