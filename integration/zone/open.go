package zone

import (
	"crypto/rand"
	"fmt"
	"os"
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
	in.OpenFlags = wire.OpenReadWrite | wire.OpenCreate
	if in.Cond.Has(wire.KwForce) {
		in.OpenFlags |= wire.OpenTruncate
	}
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
	if len(a.descs) >= a.z.opts.MaxDescriptors {
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
	now := a.z.now()
	o := a.z.cat.addObject(parent, name, a.user, strconv.Itoa(in.CreateMode), kind)
	r := &replica{Resc: resc.ID, Status: intermediate, Create: now, Modify: now}
	o.Replicas = []*replica{r}
	o.writing = newWriting(r)
	o.writing.created = true
	d, err := a.addDesc(o, r, in)
	if err != nil {
		a.z.cat.dropObject(o, now)
		return nil, err
	}
	a.z.cat.save(record{Object: o})
	a.z.cat.touchColl(parent, now)
	return d, nil
}

func newWriting(r *replica) *writing {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	token := fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
	return &writing{token: token, replica: r}
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
	if o.writing != nil {
		return a.join(o, in)
	}
	r, err := a.replicaFor(o, &in.Cond)
	if err != nil {
		return nil, err
	}
	if !writable(in.OpenFlags) {
		return a.addDesc(o, r, in)
	}
	o.writing = newWriting(r)
	d, err := a.addDesc(o, r, in)
	if err != nil {
		o.writing = nil
		return nil, err
	}
	o.lock()
	return d, nil
}

// lock shows to the catalog that a replica is being written.
func (o *object) lock() {
	for _, r := range o.Replicas {
		r.before = r.Status
		r.Status = writeLocked
	}
	o.writing.replica.Status = intermediate
}

// join opens the replica that is being written once more.
func (a *agent) join(o *object, in *wire.DataObjInp) (*desc, error) {
	token, _ := in.Cond.Get(wire.KwReplicaToken)
	hier, _ := in.Cond.Get(wire.KwRescHier)
	r := o.writing.replica
	if token != o.writing.token || hier != a.z.cat.resources[r.Resc].Name {
		return nil, code(wire.CodeHierarchy)
	}
	return a.addDesc(o, r, in)
}

// replicaFor chooses a replica: the one asked for, or the first good one, or a stale
// one if there is nothing better. What was asked for is given even if it is stale.
func (a *agent) replicaFor(o *object, cond *wire.KeyValPair) (*replica, error) {
	if text, ok := cond.Get(wire.KwReplNum); ok {
		for _, r := range o.Replicas {
			if strconv.Itoa(r.Num) == text {
				return r, nil
			}
		}
		return nil, code(wire.CodeNoSuchReplica)
	}
	for _, key := range []string{wire.KwRescHier, wire.KwRescName} {
		name, ok := cond.Get(key)
		if !ok || name == "" {
			continue
		}
		resc := a.z.cat.resourceNamed(name)
		if resc == nil {
			return nil, noResource
		}
		if r := o.on(resc); r != nil {
			return r, nil
		}
		return nil, code(wire.CodeHierarchy)
	}
	return o.best(), nil
}

// on returns the replica on a resource, nil if there is none.
func (o *object) on(resc *resource) *replica {
	for _, r := range o.Replicas {
		if r.Resc == resc.ID {
			return r
		}
	}
	return nil
}

// resourceFor returns the resource that a new replica goes to.
func (a *agent) resourceFor(cond *wire.KeyValPair) (*resource, error) {
	name := a.z.opts.Resources[0]
	for _, key := range []string{wire.KwDestRescName, wire.KwRescHier, wire.KwRescName, wire.KwDefRescName} {
		if given, ok := cond.Get(key); ok && given != "" {
			name = given
			break
		}
	}
	resc := a.z.cat.resourceNamed(name)
	if resc == nil {
		return nil, noResource
	}
	return resc, nil
}

// addDesc opens the file of a replica and gives it the lowest free number from 3.
func (a *agent) addDesc(o *object, r *replica, in *wire.DataObjInp) (*desc, error) {
	flags := os.O_RDONLY
	if writable(in.OpenFlags) {
		flags = os.O_RDWR | os.O_CREATE
	}
	if in.OpenFlags&wire.OpenTruncate != 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(a.z.cat.file(o, r), flags, 0o600)
	if err != nil {
		return nil, errnoCode(wire.CodeUnixOpen, err)
	}
	d := &desc{fd: 3, obj: o, replica: r, resource: a.z.cat.resources[r.Resc], file: f, flags: in.OpenFlags, mode: in.CreateMode}
	for a.descs[d.fd] != nil {
		d.fd++
	}
	a.descs[d.fd] = d
	if writable(in.OpenFlags) {
		d.write = o.writing
		d.write.writers++
		d.write.checksum = d.write.checksum || in.Cond.Has(wire.KwRegChecksum)
		d.write.modified = d.write.modified || in.OpenFlags&wire.OpenTruncate != 0
	}
	return d, nil
}
