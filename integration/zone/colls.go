package zone

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

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

// rmColl is call 679. Without the recursive flag it removes an empty collection for good.
// With it, a collection goes into the trash as a whole, or is taken apart if there is
// force, and the client must answer the progress messages.
func (a *agent) rmColl(in *wire.CollInp) (answer, error) {
	if err := checkPath(in.Name); err != nil {
		return answer{}, err
	}
	one := answer{out: &wire.CollOprStat{Files: 1, TotalFiles: 1, LastPath: in.Name}}
	a.z.mu.Lock()
	x := a.z.cat.collAt(in.Name)
	trash := in.Cond.Has(wire.KwRmTrash) || in.Cond.Has(wire.KwAdminRmTrash)
	var err error
	switch {
	case x == nil || !a.seesColl(x):
		err = code(wire.CodeUnknownCollection)
	case x.parent == nil:
		err = code(wire.CodeNoAccess)
	case trash && !a.inTrash(x):
		err = notInTrash
	case !in.Cond.Has(wire.KwRecursive):
		err = a.dropColl(x)
	case !in.Cond.Has(wire.KwForce) && !trash:
		err = a.collToTrash(x)
	default:
		a.z.mu.Unlock()
		return a.takeApart(x)
	}
	a.z.mu.Unlock()
	return one, err
}

// dropColl removes an empty collection.
func (a *agent) dropColl(x *coll) error {
	if err := a.may(x.parent.Access, levelModify); err != nil {
		return err
	}
	if err := a.may(x.Access, levelDelete); err != nil {
		return err
	}
	if len(x.subs)+len(x.objs) > 0 {
		return code(wire.CodeCollectionNotEmpty)
	}
	a.z.cat.dropColl(x, a.z.now())
	return nil
}

// collToTrash moves a collection. All objects in it must be the user's to delete.
func (a *agent) collToTrash(x *coll) error {
	err := x.walk(
		func(o *object) error { return a.may(o.Access, levelDelete) },
		func(*coll) error { return nil })
	if err == nil {
		err = a.may(x.Access, levelOwn)
	}
	if err == nil {
		err = a.may(x.parent.Access, levelModify)
	}
	if err != nil {
		return err
	}
	dir, name := a.trashFor(x.parent, x.Name)
	a.z.cat.moveColl(x, dir, name, a.z.now())
	return nil
}

// takeApart removes a collection with all below, object by object. What cannot be removed
// does not keep the rest; the last error is the answer.
func (a *agent) takeApart(x *coll) (answer, error) {
	stat := &wire.CollOprStat{}
	err := a.empty(x, stat)
	var c code
	if err != nil && !errors.As(err, &c) {
		return answer{}, err // the client is gone, or does not answer
	}
	stat.LastPath = "" // was for the messages
	return answer{out: stat}, err
}

// homeNotEmpty is CANT_RM_NON_EMPTY_HOME_COLL.
const homeNotEmpty = code(-354000)

// empty removes the objects of a collection, then the collections in it, then itself.
func (a *agent) empty(x *coll, stat *wire.CollOprStat) error {
	a.z.mu.Lock()
	objs, subs := sorted(x.objs), sorted(x.subs)
	path := strings.Split(x.path(), "/")[1:]
	a.z.mu.Unlock()
	if home := len(path) < 4 && len(path) > 1 && path[1] == "home"; home && len(objs)+len(subs) > 0 {
		return homeNotEmpty
	}
	var last error
	for _, o := range objs {
		switch done, err := a.removeOne(o, stat); {
		case err != nil:
			last = err
		case done && stat.Files == progressEvery:
			if err := a.s.Progress(*stat); err != nil {
				return err
			}
			*stat = wire.CollOprStat{}
		}
	}
	for _, sub := range subs {
		err := a.empty(sub, stat)
		var c code
		if err != nil && !errors.As(err, &c) {
			return err
		}
		last = cmp.Or(err, last)
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if x.gone {
		return last
	}
	return cmp.Or(a.dropColl(x), last)
}

// sorted returns the values of a map by their names.
func sorted[T any](m map[string]T) []T {
	all := make([]T, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, m[name])
	}
	return all
}

// removeOne removes an object and counts it. What the user cannot see is left alone.
func (a *agent) removeOne(o *object, stat *wire.CollOprStat) (bool, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if o.gone || !a.seesObject(o) {
		return false, nil
	}
	path := o.path()
	if err := a.remove(o, true); err != nil {
		return false, err
	}
	stat.Files++
	stat.LastPath = path
	return true, nil
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
