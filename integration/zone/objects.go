package zone

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// stamp formats a time as the catalog does.
func stamp(seconds int64) string { return fmt.Sprintf("%011d", seconds) }

// stat is call 633. The status of the reply is the type.
func (a *agent) stat(in *wire.DataObjInp) (answer, error) {
	if err := checkPath(in.Path); err != nil {
		return answer{}, err
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if o := a.z.cat.objectAt(in.Path); o != nil && a.seesObject(o) {
		r := o.best()
		mode, _ := strconv.Atoi(o.Mode)
		name, zone := owner(o.Owner, a.z.opts.Name)
		return answer{status: wire.TypeObject, out: &wire.RodsObjStat{
			Size: r.Size, Type: wire.TypeObject, Mode: mode, ID: strconv.FormatInt(o.ID, 10), Checksum: r.Checksum,
			OwnerName: name, OwnerZone: zone, CreateTime: stamp(r.Create), ModifyTime: stamp(r.Modify),
		}}, nil
	}
	if x := a.z.cat.collAt(in.Path); x != nil && a.seesColl(x) {
		name, zone := owner(x.Owner, a.z.opts.Name)
		return answer{status: wire.TypeCollection, out: &wire.RodsObjStat{
			Type: wire.TypeCollection, ID: strconv.FormatInt(x.ID, 10), OwnerName: name, OwnerZone: zone,
			CreateTime: stamp(x.Create), ModifyTime: stamp(x.Modify),
		}}, nil
	}
	return answer{}, code(wire.CodeNotExist)
}

// unlink is call 615: into the trash, or with force for good.
func (a *agent) unlink(in *wire.DataObjInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	o, err := a.find(in.Path)
	if err != nil {
		return answer{}, err
	}
	force := in.Cond.Has(wire.KwForce)
	if in.Cond.Has(wire.KwRmTrash) || in.Cond.Has(wire.KwAdminRmTrash) {
		if !a.inTrash(o.coll) {
			return answer{}, notInTrash
		}
		force = true
	}
	return answer{}, a.remove(o, force)
}

// notInTrash is SYS_INVALID_FILE_PATH.
const notInTrash = code(-31000)

// remove deletes an object or moves it into the trash, which as a rename needs to own it.
func (a *agent) remove(o *object, force bool) error {
	if err := a.may(o.Access, levelDelete); err != nil {
		return err
	}
	if o.writing != nil {
		return code(wire.CodeObjectLocked)
	}
	if force {
		a.z.cat.dropObject(o, a.z.now())
		return nil
	}
	if err := a.may(o.Access, levelOwn); err != nil {
		return err
	}
	dir, name := a.trashFor(o.coll, o.Name)
	a.z.cat.moveObject(o, dir, name, a.z.now())
	return nil
}

// trash returns the collection that holds all trash.
func (a *agent) trash() *coll { return a.z.cat.collAt("/" + a.z.opts.Name + "/trash") }

func (a *agent) inTrash(x *coll) bool { return x.below(a.trash()) }

// trashFor returns where an entry of from goes: below the user's own trash, by the path
// below the user's home or, elsewhere, below the zone; with a number behind the name if
// that is taken.
func (a *agent) trashFor(from *coll, name string) (*coll, string) {
	var names []string
	for x := from; x.parent != nil && x.parent.parent != nil; x = x.parent {
		names = append(names, x.Name)
	}
	slices.Reverse(names)
	self := a.user.full()
	if len(names) > 1 && names[0] == "home" && names[1] == self {
		names = names[2:]
	}
	dir := a.trash()
	for _, next := range append([]string{"home", self}, names...) {
		if dir.subs[next] == nil {
			a.z.cat.addColl(dir, next, a.user, a.z.now())
		}
		dir = dir.subs[next]
	}
	free := name
	for dir.objs[free] != nil || dir.subs[free] != nil {
		free = name + "." + strconv.FormatInt(a.z.cat.newID(), 10)
	}
	return dir, free
}

// otherZone is SYS_CROSS_ZONE_MV_NOT_SUPPORTED.
const otherZone = code(-109000)

// rename is call 627. It works in two steps as the real one: first the name, in the old
// collection, then the collection; so a name that is taken in the old collection is in
// the way. With operation 11 locks do not count, and force neither.
func (a *agent) rename(in *wire.DataObjCopyInp) (answer, error) {
	if in.Src.Path == in.Dst.Path {
		return answer{}, code(wire.CodeSamePaths)
	}
	for _, path := range []string{in.Src.Path, in.Dst.Path} {
		if err := checkPath(path); err != nil {
			return answer{}, err
		}
	}
	if zoneOf(in.Src.Path) != zoneOf(in.Dst.Path) {
		return answer{}, otherZone
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	o, x := a.z.cat.objectAt(in.Src.Path), a.z.cat.collAt(in.Src.Path)
	switch opr := in.Src.OprType; {
	case o != nil && opr != wire.OprRenameColl && a.seesObject(o):
		return answer{}, a.renameObject(o, in)
	case x != nil && x.parent != nil && opr != wire.OprRenameObject && a.seesColl(x):
		return answer{}, a.renameColl(x, in.Dst.Path)
	}
	return answer{}, code(wire.CodeNoRows)
}

// zoneOf returns the first element of a path.
func zoneOf(path string) string {
	zone, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return zone
}

// renameObject needs to own the object, which it finds out after it has removed what is
// in the way.
func (a *agent) renameObject(o *object, in *wire.DataObjCopyInp) error {
	if err := a.may(o.Access, levelDelete); err != nil {
		return err
	}
	if in.Src.OprType == 0 {
		if o.writing != nil {
			return code(wire.CodeObjectLocked)
		}
		old := a.z.cat.objectAt(in.Dst.Path)
		if old != nil && a.seesObject(old) && (in.Src.Cond.Has(wire.KwForce) || in.Dst.Cond.Has(wire.KwForce)) {
			if err := a.remove(old, true); err != nil {
				return err
			}
		}
	}
	if err := a.may(o.Access, levelOwn); err != nil {
		return err
	}
	to, name, err := a.target(in.Dst.Path, o.coll, o.Name)
	if err != nil {
		return err
	}
	a.z.cat.moveObject(o, to, name, a.z.now())
	return nil
}

// target checks the place to which an entry of from is renamed.
func (a *agent) target(path string, from *coll, old string) (*coll, string, error) {
	dir, name := split(path)
	if len(name) > maxName {
		return nil, "", nameTooLong
	}
	if name != old {
		if err := taken(from, name); err != nil {
			return nil, "", err
		}
	}
	to := a.z.cat.collAt(dir)
	if to == from {
		return to, name, nil
	}
	if to == nil || !a.seesColl(to) {
		return nil, "", code(wire.CodeUnknownCollection)
	}
	if err := a.may(to.Access, levelModify); err != nil {
		return nil, "", err
	}
	return to, name, taken(to, name)
}

// taken returns an error if the collection has an entry of that name.
func taken(x *coll, name string) error {
	if x.objs[name] != nil {
		return code(wire.CodeExistsAsObject)
	}
	if x.subs[name] != nil {
		return code(wire.CodeExistsAsCollection)
	}
	return nil
}

// recursiveMove is CAT_RECURSIVE_MOVE.
const recursiveMove = code(-837000)

// renameColl needs to own the collection, and to change its parent if it leaves that.
func (a *agent) renameColl(x *coll, path string) error {
	if err := a.may(x.Access, levelOwn); err != nil {
		return err
	}
	to, name, err := a.target(path, x.parent, x.Name)
	if err != nil {
		return err
	}
	if to != x.parent {
		if err := a.may(x.parent.Access, levelModify); err != nil {
			return err
		}
	}
	if to.below(x) {
		return recursiveMove
	}
	a.z.cat.moveColl(x, to, name, a.z.now())
	return nil
}
