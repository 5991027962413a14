package zone

import (
	"fmt"
	"strconv"

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
		return answer{status: wire.TypeObject, out: &wire.RodsObjStat{
			Size: r.Size, Type: wire.TypeObject, Mode: mode, ID: strconv.FormatInt(o.ID, 10), Checksum: r.Checksum,
			OwnerName: o.Owner, OwnerZone: a.z.opts.Name, CreateTime: stamp(r.Create), ModifyTime: stamp(r.Modify),
		}}, nil
	}
	if x := a.z.cat.collAt(in.Path); x != nil && a.seesColl(x) {
		return answer{status: wire.TypeCollection, out: &wire.RodsObjStat{
			Type: wire.TypeCollection, ID: strconv.FormatInt(x.ID, 10), OwnerName: x.Owner, OwnerZone: a.z.opts.Name,
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
	return answer{}, a.remove(o, in.Cond.Has(wire.KwForce))
}

// remove deletes an object or moves it into the trash.
func (a *agent) remove(o *object, force bool) error {
	if err := a.may(o.Access, levelDelete); err != nil {
		return err
	}
	if o.writing != nil {
		return code(wire.CodeObjectLocked)
	}
	now := a.z.now()
	if force || a.inTrash(o.coll) {
		a.z.cat.dropObject(o, now)
		return nil
	}
	dir, name := a.trashFor(o.coll, o.Name)
	a.z.cat.moveObject(o, dir, name, now)
	return nil
}

// trash returns the collection that holds all trash.
func (a *agent) trash() *coll { return a.z.cat.collAt("/" + a.z.opts.Name + "/trash") }

func (a *agent) inTrash(x *coll) bool { return x.below(a.trash()) }

// trashFor returns where an entry of from goes: the same path below the trash, with a
// number behind the name if that is taken.
func (a *agent) trashFor(from *coll, name string) (*coll, string) {
	var names []string
	for x := from; x.parent != nil && x.parent.parent != nil; x = x.parent {
		names = append(names, x.Name)
	}
	dir := a.trash()
	for i := len(names) - 1; i >= 0; i-- {
		next := dir.subs[names[i]]
		if next == nil {
			next = a.z.cat.addColl(dir, names[i], a.user, a.z.now())
		}
		dir = next
	}
	free := name
	for dir.objs[free] != nil || dir.subs[free] != nil {
		free = name + "." + strconv.FormatInt(a.z.cat.newID(), 10)
	}
	return dir, free
}

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
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	o, x := a.z.cat.objectAt(in.Src.Path), a.z.cat.collAt(in.Src.Path)
	switch opr := in.Src.OprType; {
	case o != nil && opr != wire.OprRenameColl && a.seesObject(o):
		return answer{}, a.renameObject(o, in)
	case x != nil && x.parent != nil && opr != wire.OprRenameObject && a.seesColl(x):
		return answer{}, a.renameColl(x, in.Dst.Path)
	case in.Src.OprType == wire.OprRenameObject:
		return answer{}, code(wire.CodeUnknownFile)
	}
	return answer{}, code(wire.CodeUnknownCollection)
}

func (a *agent) renameObject(o *object, in *wire.DataObjCopyInp) error {
	if err := a.may(o.Access, levelDelete); err != nil {
		return err
	}
	if in.Src.OprType == 0 {
		if o.writing != nil {
			return code(wire.CodeObjectLocked)
		}
		old := a.z.cat.objectAt(in.Dst.Path)
		if old != nil && (in.Src.Cond.Has(wire.KwForce) || in.Dst.Cond.Has(wire.KwForce)) {
			if err := a.remove(old, true); err != nil {
				return err
			}
		}
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
	if to == nil {
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

func (a *agent) renameColl(x *coll, path string) error {
	if err := a.may(x.Access, levelModify); err != nil {
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
