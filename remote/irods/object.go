package irods

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// object is a data object as the catalog describes it.
type object struct {
	id       int64
	mode     uint32 // from the time of its making, 0 if unknown
	replicas []replica
	marks    marks
	level    int // of this user's access
}

// replica is one copy of an object's bytes.
type replica struct {
	number   int
	status   int
	size     int64
	mtime    int64 // seconds since 1970
	checksum string
}

// collection is a collection as the catalog describes it.
type collection struct {
	id      int64
	mtime   int64
	marks   marks
	level   int
	special bool // mounted or linked: the catalog does not have what is in it
}

// marks are the AVUs in which the adapter keeps what the catalog has no place for.
type marks struct {
	mode   string // octal
	target string // of a symbolic link
}

// The names of the AVUs behind marks.
const (
	markMode   = "meshmount:mode"
	markTarget = "meshmount:symlink"
)

func (m *marks) set(name, value string) {
	switch name {
	case markMode:
		m.mode = strings.Clone(value)
	case markTarget:
		m.target = strings.Clone(value)
	}
}

// bits returns the permission bits, those of fallback if there are no others.
func (m *marks) bits(fallback uint32) (mode uint32, known bool) {
	if n, err := strconv.ParseUint(m.mode, 8, 32); err == nil {
		return uint32(n) & 0o7777, true
	}
	const regular = 0o100000 // as the iCommands store it
	fallback &^= regular
	return fallback & 0o7777, fallback != 0 && fallback <= 0o7777
}

// objectColumns are what an object is read from, one row for each replica, or for each
// replica and level of access.
var objectColumns = []int{
	wire.ColDataName, wire.ColReplNum, wire.ColReplStatus, wire.ColDataSize, wire.ColDataModifyTime,
	wire.ColDataChecksum, wire.ColDataMode,
}

// collColumns are what a collection is read from.
var collColumns = []int{wire.ColCollName, wire.ColCollModifyTime, wire.ColCollType}

// reader reads numbers from a row and keeps the first error.
type reader struct {
	c   *cursor
	err error
}

func (r *reader) number(column int) int64 {
	n, err := r.c.number(column)
	if r.err == nil {
		r.err = err
	}
	return n
}

// readObject makes an object from the present row, with its replica.
func readObject(c *cursor) (*object, error) {
	r := reader{c: c}
	o := &object{id: r.number(wire.ColDataID)}
	if mode, err := strconv.ParseUint(c.text(wire.ColDataMode), 10, 32); err == nil {
		o.mode = uint32(mode)
	}
	if r.err != nil {
		return nil, r.err
	}
	return o, o.addReplica(c)
}

// addReplica adds what the present row has of an object: a replica, a level, or both.
func (o *object) addReplica(c *cursor) error {
	r := reader{c: c}
	o.level = max(o.level, int(r.number(wire.ColDataAccessType)))
	number := int(r.number(wire.ColReplNum))
	if r.err != nil || slices.ContainsFunc(o.replicas, func(have replica) bool { return have.number == number }) {
		return r.err
	}
	o.replicas = append(o.replicas, replica{
		number:   number,
		status:   int(r.number(wire.ColReplStatus)),
		size:     r.number(wire.ColDataSize),
		mtime:    r.number(wire.ColDataModifyTime),
		checksum: strings.Clone(c.text(wire.ColDataChecksum)),
	})
	return r.err
}

// readColl makes a collection from the present row.
func readColl(c *cursor) (*collection, error) {
	r := reader{c: c}
	x := &collection{
		id:      r.number(wire.ColCollID),
		mtime:   r.number(wire.ColCollModifyTime),
		special: c.text(wire.ColCollType) != "",
	}
	if r.err != nil {
		return nil, r.err
	}
	return x, x.addLevel(c)
}

// addLevel adds the level of the present row.
func (x *collection) addLevel(c *cursor) error {
	n, err := c.number(wire.ColCollAccessType)
	x.level = max(x.level, int(n))
	return err
}

// condition is what the replicas of an object come to.
type condition int

const (
	whole   condition = iota // there is a good replica
	writing                  // somebody is writing
	torn                     // a writer died: what there is may be a mixture
)

// best returns the replica that counts. While one is being written, the others cannot
// be opened either (measured), and what they hold may no longer be the truth.
func (o *object) best() (replica, condition) {
	slices.SortFunc(o.replicas, func(a, b replica) int { return cmp.Compare(a.number, b.number) })
	for _, r := range o.replicas {
		if r.status >= wire.ReplicaIntermediate && r.status != wire.ReplicaReadLocked {
			return r, writing
		}
	}
	for _, r := range o.replicas {
		if r.status == wire.ReplicaGood || r.status == wire.ReplicaReadLocked {
			return r, whole
		}
	}
	return o.replicas[0], torn
}

// version returns the validator of an object's bytes. It holds the checksum as it is,
// so that whoever reads the whole can check the bytes without another question. Next to
// a checksum that proves the bytes the time says nothing more, and changes without them:
// between replicas, and when an object is moved to another collection.
func (o *object) version() string {
	r, state := o.best()
	v := o.versionOf(r)
	switch state {
	case writing:
		return "writing." + v
	case torn:
		return "torn." + v
	}
	return v
}

// versionOf is the version of a whole object by one replica.
func (o *object) versionOf(r replica) string {
	mtime := ""
	if !r.proved() {
		mtime = strconv.FormatInt(r.mtime, 10)
	}
	return strconv.FormatInt(o.id, 10) + "." + mtime + "." + strconv.FormatInt(r.size, 10) + "." + r.checksum
}

// is tells whether a version is the object's. One from before the server had got to the
// checksum is so as well: it proves as much as it ever did.
func (o *object) is(version string) bool {
	if version == o.version() {
		return true
	}
	r, state := o.best()
	r.checksum = ""
	return state == whole && version == o.versionOf(r)
}

// proved tells whether the checksum is one that no other bytes have.
func (r *replica) proved() bool {
	h := remote.NewHash(parseChecksum(r.checksum).Algorithm)
	return h != nil && h.Size() >= 16
}

// versionChecksum returns the checksum that a version holds, the zero value if none.
func versionChecksum(version string) remote.Checksum {
	parts := strings.SplitN(version, ".", 4)
	if len(parts) < 4 {
		return remote.Checksum{}
	}
	return parseChecksum(parts[3])
}

// provable tells whether a version holds a checksum that can be compared.
func provable(version string) bool {
	sum := versionChecksum(version)
	return sum.Hex != "" && remote.NewHash(sum.Algorithm) != nil
}

// Levels of access, as the catalog numbers them. By the server's source, deleting takes
// levelDelete, renaming levelOwn; what is made in a collection with inheritance has the
// levels of the collection, and its maker no other.
const (
	levelRead   = 1050
	levelModify = 1120
	levelDelete = 1130
	levelOwn    = 1200
)

// access returns what a level permits.
func access(level int, dir bool) remote.Access {
	a := remote.AccessKnown
	if level >= levelRead {
		a |= remote.AccessRead
	}
	if level >= levelModify {
		a |= remote.AccessWrite
		if dir {
			a |= remote.AccessCreate | remote.AccessMkdir
		}
	}
	if level >= levelDelete {
		a |= remote.AccessDelete
	}
	if level >= levelOwn {
		a |= remote.AccessRename
	}
	return a
}

// objectEntry turns an object into an entry.
func (b *Backend) objectEntry(rel string, o *object) remote.Entry {
	r, state := o.best()
	b.choices.note(o)
	e := remote.Entry{
		Path: rel, Type: remote.File, Size: r.size, MTime: time.Unix(r.mtime, 0),
		Version: o.version(), ID: "d" + strconv.FormatInt(o.id, 10), Access: access(o.level, false),
	}
	e.Mode, e.ModeKnown = o.marks.bits(o.mode)
	switch {
	case o.marks.target != "" && r.size == 0:
		e.Type, e.Target, e.Size = remote.Symlink, o.marks.target, 0
	case state == whole:
		e.Checksum = parseChecksum(r.checksum)
	}
	e.Provisional = state != whole || !r.proved() && b.clock.young(e.MTime)
	return e
}

// collEntry turns a collection into an entry.
func (b *Backend) collEntry(rel string, x *collection) remote.Entry {
	e := remote.Entry{
		Path: rel, Type: remote.Dir, MTime: time.Unix(x.mtime, 0),
		ID: "c" + strconv.FormatInt(x.id, 10), Access: access(x.level, true),
	}
	e.Mode, e.ModeKnown = x.marks.bits(0)
	return e
}
