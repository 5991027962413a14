package zone

import (
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// noResource is SYS_RESC_DOES_NOT_EXIST.
const noResource = code(-78000)

// sees tells whether the user may know of something: administrators know all, others
// need to read it, or a ticket for it.
func (a *agent) sees(acc access) bool {
	return a.user.admin() || acc.level(a.user) >= levelRead
}

func (a *agent) seesColl(c *coll) bool {
	return a.sees(c.Access) || a.ticketFor(c, nil, false)
}

// seesObject also needs to see the collection.
func (a *agent) seesObject(o *object) bool {
	return a.sees(o.Access) && a.sees(o.coll.Access) || a.ticketFor(o.coll, o, false)
}

// find returns the object at path if the user may know of it.
func (a *agent) find(path string) (*object, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	o := a.z.cat.objectAt(path)
	if o == nil || !a.seesObject(o) {
		return nil, code(wire.CodeObjectNotExist)
	}
	return o, nil
}

// may returns an error unless the user has at least the wanted level.
func (a *agent) may(acc access, want level) error {
	if acc.level(a.user) < want {
		return code(wire.CodeNoAccess)
	}
	return nil
}

// parentFor returns the collection in which path can be made, and the name.
func (a *agent) parentFor(path string) (*coll, string, error) {
	if err := checkPath(path); err != nil {
		return nil, "", err
	}
	dir, name := split(path)
	parent := a.z.cat.collAt(dir)
	if parent == nil {
		return nil, "", code(wire.CodeUnknownCollection)
	}
	if err := a.may(parent.Access, levelModify); err != nil && !a.ticketFor(parent, nil, true) {
		return nil, "", err
	}
	if len(name) > maxName {
		return nil, "", nameTooLong
	}
	return parent, name, nil
}

// create is call 601: a new object, or with force the old one truncated.
func (a *agent) create(in *wire.DataObjInp) (answer, error) {
	in.OpenFlags = wire.OpenReadWrite | wire.OpenCreate | wire.OpenTruncate
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if o := a.z.cat.objectAt(in.Path); o != nil && !in.Cond.Has(wire.KwForce) {
		return answer{}, code(wire.CodeOverwriteNoForce)
	}
	return a.openLocked(in)
}

// open is call 602.
func (a *agent) open(in *wire.DataObjInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	return a.openLocked(in)
}

func (a *agent) openLocked(in *wire.DataObjInp) (answer, error) {
	d, err := a.openObject(in)
	if err != nil {
		return answer{}, err
	}
	return answer{status: d.fd}, nil
}

// writable tells whether open flags ask for writing.
func writable(flags int) bool { return flags&3 != wire.OpenReadOnly }

func (a *agent) openObject(in *wire.DataObjInp) (*desc, error) {
	if len(a.descs)+len(a.far) >= a.z.opts.MaxDescriptors {
		return nil, code(wire.CodeUnixOpen - 24)
	}
	if in.OpenFlags&wire.OpenTruncate != 0 && !writable(in.OpenFlags) {
		return nil, code(wire.CodeOpenFlags)
	}
	if err := checkPath(in.Path); err != nil {
		return nil, err
	}
	if x := a.z.cat.collAt(in.Path); x != nil && a.seesColl(x) {
		if in.OpenFlags&wire.OpenCreate != 0 {
			return nil, code(wire.CodeExistsAsCollection)
		}
		return nil, code(wire.CodeObjectNotExist)
	}
	if a.z.cat.objectAt(in.Path) == nil && in.OpenFlags&wire.OpenCreate != 0 {
		return a.openNew(in)
	}
	o, err := a.find(in.Path)
	if err != nil {
		return nil, err
	}
	if in.OpenFlags&wire.OpenExclusive != 0 {
		return nil, code(wire.CodeUnixOpen - 17)
	}
	return a.openOld(o, in)
}

// openNew makes an object with one replica, which stays intermediate until closed.
func (a *agent) openNew(in *wire.DataObjInp) (*desc, error) {
	parent, name, err := a.parentFor(in.Path)
	if err != nil {
		return nil, err
	}
	resc, err := a.resourceFor(&in.Cond)
	if err != nil {
		return nil, err
	}
	kind, ok := in.Cond.Get(wire.KwDataType)
	if !ok || kind == "" {
		kind = "generic"
	}
	o := a.z.cat.addObject(parent, name, a.user, strconv.Itoa(in.CreateMode), kind)
	d, err := a.addReplica(o, resc, in)
	if err != nil {
		a.z.cat.dropObject(o, a.z.now())
		return nil, err
	}
	a.z.cat.touchColl(parent, a.z.now())
	return d, nil
}

// addReplica opens a new replica of an object, with numbers from 0.
func (a *agent) addReplica(o *object, resc *resource, in *wire.DataObjInp) (*desc, error) {
	now := a.z.now()
	r := &replica{Resc: resc.ID, Create: now, Modify: now}
	for _, other := range o.Replicas {
		r.Num = max(r.Num, other.Num+1)
	}
	o.Replicas = append(o.Replicas, r)
	o.lock(r)
	d, err := a.addDesc(o, r, in)
	if err != nil {
		o.unlock()
		o.Replicas = slices.DeleteFunc(o.Replicas, func(other *replica) bool { return other == r })
		return nil, err
	}
	d.created = true
	a.z.cat.save(record{Object: o})
	return d, nil
}

// openOld opens an existing object. While it is open for writing nobody else gets in,
// but by the token of the first writer.
func (a *agent) openOld(o *object, in *wire.DataObjInp) (*desc, error) {
	want := levelRead
	if writable(in.OpenFlags) {
		want = levelModify
	}
	if err := a.may(o.Access, want); err != nil && !a.ticketFor(o.coll, o, want == levelModify) {
		return nil, err
	}
	c, err := a.choose(o, in)
	switch {
	case err != nil:
		return nil, err
	case c.replica == nil:
		return a.addReplica(o, c.resource, in)
	case !writable(in.OpenFlags) || c.joined:
		d, err := a.addDesc(o, c.replica, in)
		if err == nil {
			d.joined = c.joined
		}
		return d, err
	}
	o.lock(c.replica)
	d, err := a.addDesc(o, c.replica, in)
	if err != nil {
		o.unlock()
	}
	return d, err
}

// lock marks a replica as being written, and the others as locked.
func (o *object) lock(target *replica) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	token := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	o.writing = &writing{token: token, replica: target, before: map[*replica]int{}}
	for _, r := range o.Replicas {
		o.writing.before[r] = r.Status
		r.Status = writeLocked
	}
	target.Status = intermediate
}

// unlock undoes lock.
func (o *object) unlock() {
	for r, status := range o.writing.before {
		r.Status = status
	}
	o.writing = nil
}

// addDesc opens the file of a replica and gives it the lowest free number from 3. A
// truncation shows in the catalog at once.
func (a *agent) addDesc(o *object, r *replica, in *wire.DataObjInp) (*desc, error) {
	flags := os.O_RDONLY
	if writable(in.OpenFlags) {
		flags = os.O_RDWR | os.O_CREATE
	}
	truncate := in.OpenFlags&wire.OpenTruncate != 0
	if truncate {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(a.z.cat.file(o, r), flags, 0o600)
	if err != nil {
		return nil, errnoCode(wire.CodeUnixOpen, err)
	}
	if truncate {
		r.Size, r.Checksum, r.Modify = 0, "", a.z.now()
		a.z.cat.save(record{Object: o})
	}
	given := *in
	given.Cond = slices.Clone(in.Cond)
	d := &desc{fd: a.freeDesc(), obj: o, replica: r, resource: a.z.cat.resources[r.Resc], file: f, in: &given, atOpen: *r, wrote: -1}
	if writable(in.OpenFlags) {
		if err := d.enter(); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	a.descs[d.fd] = d
	return d, nil
}
