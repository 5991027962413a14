package zone

import (
	"strconv"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// mkdir is call 681; with the recursive flag it makes what is missing and does not mind
// what is there.
func (a *agent) mkdir(in *wire.CollInp) (answer, error) {
	if err := checkPath(in.Name); err != nil {
		return answer{}, err
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	recursive := in.Cond.Has(wire.KwRecursive)
	if a.z.cat.collAt(in.Name) != nil && recursive {
		return answer{}, nil
	}
	_, err := a.makeColl(in.Name, recursive)
	return answer{}, err
}

func (a *agent) makeColl(path string, recursive bool) (*coll, error) {
	dir, _ := split(path)
	if recursive && a.z.cat.collAt(dir) == nil {
		if _, err := a.makeColl(dir, true); err != nil {
			return nil, err
		}
	}
	parent, name, err := a.parentFor(path)
	switch {
	case err != nil:
		return nil, err
	case parent.subs[name] != nil:
		return nil, code(wire.CodeExists)
	case parent.objs[name] != nil:
		return nil, code(wire.CodeExistsAsObject)
	}
	return a.z.cat.addColl(parent, name, a.user, a.z.now()), nil
}

// progressEvery is the number of objects between two progress messages of rmColl.
const progressEvery = 10

// rmColl is call 679. Without force a full collection goes into the trash as a whole,
// with force it is taken apart, and the client must answer the progress messages.
func (a *agent) rmColl(in *wire.CollInp) (answer, error) {
	if err := checkPath(in.Name); err != nil {
		return answer{}, err
	}
	a.z.mu.Lock()
	x := a.z.cat.collAt(in.Name)
	err := a.mayRemove(x, in.Cond.Has(wire.KwRecursive))
	if err != nil {
		a.z.mu.Unlock()
		return answer{}, err
	}
	if !in.Cond.Has(wire.KwForce) && !a.inTrash(x) {
		defer a.z.mu.Unlock()
		dir, name := a.trashFor(x.parent, x.Name)
		a.z.cat.moveColl(x, dir, name, a.z.now())
		return answer{out: &wire.CollOprStat{}}, nil
	}
	a.z.mu.Unlock()
	n, err := a.takeApart(x)
	return answer{out: &wire.CollOprStat{Files: n}}, err
}

func (a *agent) mayRemove(x *coll, recursive bool) error {
	switch {
	case x == nil || !a.seesColl(x):
		return code(wire.CodeUnknownCollection)
	case x.parent == nil:
		return code(wire.CodeNoAccess)
	case !recursive && len(x.subs)+len(x.objs) > 0:
		return code(wire.CodeCollectionNotEmpty)
	}
	return a.may(x.Access, levelModify)
}

// takeApart removes a collection with all below, object by object.
func (a *agent) takeApart(top *coll) (int, error) {
	var objs []*object
	var colls []*coll
	a.z.mu.Lock()
	_ = top.walk(
		func(o *object) error { objs = append(objs, o); return nil },
		func(x *coll) error { colls = append(colls, x); return nil })
	a.z.mu.Unlock()
	for n, o := range objs {
		path, err := a.removeOne(o)
		if err != nil {
			return n, err
		}
		if (n+1)%progressEvery == 0 {
			if err := a.s.Progress(wire.CollOprStat{Files: n + 1, LastPath: path}); err != nil {
				return n, err
			}
		}
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	for _, x := range colls {
		if err := a.may(x.Access, levelModify); err != nil {
			return len(objs), err
		}
		if len(x.subs)+len(x.objs) > 0 { // somebody was quicker
			return len(objs), code(wire.CodeCollectionNotEmpty)
		}
		a.z.cat.dropColl(x, a.z.now())
	}
	return len(objs), nil
}

func (a *agent) removeOne(o *object) (string, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if o.gone {
		return "", nil
	}
	path := o.path()
	return path, a.remove(o, true)
}

// modColl is call 680: the modify time.
func (a *agent) modColl(in *wire.CollInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	x := a.z.cat.collAt(in.Name)
	if checkPath(in.Name) != nil || x == nil || !a.seesColl(x) {
		return answer{}, code(wire.CodeUnknownCollection)
	}
	if err := a.may(x.Access, levelModify); err != nil {
		return answer{}, err
	}
	if text, ok := in.Cond.Get(wire.KwCollectionMTime); ok {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return answer{}, code(wire.CodeInvalidInput)
		}
		a.z.cat.touchColl(x, seconds)
	}
	return answer{}, nil
}
