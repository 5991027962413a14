package zone

import (
	"os"
	"strconv"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// bulkFiles is how many objects the bulk option registers at a time.
const bulkFiles = 50

// registerAll registers the members of an archive, one by one or by fifties, and returns
// the last error.
func (a *agent) registerAll(in *wire.StructFileExtAndRegInp, resc int64, members []member) (last error) {
	most := 1
	if in.Cond.Has(wire.KwBulk) {
		most = bulkFiles
	}
	var group []member
	flush := func() {
		if err := a.registerGroup(in.Collection, resc, group); err != nil {
			last = err
		}
		group = nil
	}
	for n, m := range members {
		if most := a.extraction.Members; most > 0 && n >= most {
			flush()
			return errGone
		}
		ready, err := a.makeReady(in, resc, m)
		if err != nil {
			last = err
		}
		if ready {
			group = append(group, m)
		}
		if len(group) >= most {
			flush()
		}
	}
	flush()
	return last
}

// makeReady makes the collections that a member needs, and finds out whether the storage
// has its place. ready is false if there is nothing to register.
func (a *agent) makeReady(in *wire.StructFileExtAndRegInp, resc int64, m member) (ready bool, err error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	path := in.Collection + "/" + m.path
	dir, _ := split(path)
	if m.dir {
		dir = path
	}
	if a.z.cat.collAt(dir) == nil {
		if _, err := a.makeColl(dir, true); err != nil {
			return false, err
		}
	}
	old := a.z.cat.objectAt(path)
	switch {
	case m.dir:
		return false, nil
	case old == nil || replicaOn(old, resc) == nil:
		return true, nil
	case !in.Cond.Has(wire.KwForce):
		return false, code(wire.CodeCopyInResource)
	}
	return true, a.remove(old, true)
}

// replicaOn returns an object's replica on a resource, nil if there is none.
func replicaOn(o *object, resc int64) *replica {
	for _, r := range o.Replicas {
		if r.Resc == resc {
			return r
		}
	}
	return nil
}

// registerGroup registers all of some members or none.
func (a *agent) registerGroup(top string, resc int64, group []member) error {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	for _, m := range group {
		path := top + "/" + m.path
		parent, name, err := a.parentFor(path)
		switch {
		case err != nil:
			return err
		case parent.subs[name] != nil:
			return code(wire.CodeExistsAsCollection)
		case parent.objs[name] != nil:
			return code(wire.CodeExists)
		}
	}
	for _, m := range group {
		if err := a.register(top+"/"+m.path, resc, m); err != nil {
			return err
		}
	}
	return nil
}

// register makes the object of a member. The collection's time stays. The caller holds
// Zone.mu.
func (a *agent) register(path string, resc int64, m member) error {
	parent, name, err := a.parentFor(path)
	if err != nil {
		return err
	}
	now := a.z.now()
	o := a.z.cat.addObject(parent, name, a.user, strconv.FormatInt(m.mode, 10), "generic")
	o.Replicas = []*replica{{Resc: resc, Size: m.size, Status: good, Create: now, Modify: now}}
	if err := os.Rename(m.data, a.z.cat.file(o, o.Replicas[0])); err != nil {
		a.z.cat.dropObject(o, now)
		return errnoCode(wire.CodeUnixRename, err)
	}
	a.z.cat.save(record{Object: o})
	return nil
}
