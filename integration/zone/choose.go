package zone

import (
	"strconv"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// choice is what an open of an existing object gets.
type choice struct {
	replica  *replica  // nil: a new one
	resource *resource // of the new one
	joined   bool      // the replica is being written, and the token for it was given
}

// inaccessible is SYS_REPLICA_INACCESSIBLE: the resource asked for has no replica.
const inaccessible = code(wire.CodeReplicaInaccessible)

// choose finds the replica to open, by the rules of the server's source. With the create
// flag an open makes a replica on the resource that is named, or on the default one, if
// none is there; so it may leave the existing ones stale.
func (a *agent) choose(o *object, in *wire.DataObjInp) (choice, error) {
	if hier, ok := in.Cond.Get(wire.KwRescHier); ok && hier != "" {
		return a.chooseByHierarchy(o, in, hier)
	}
	name, err := a.keyword(&in.Cond)
	if err != nil {
		return choice{}, err
	}
	if in.OpenFlags&wire.OpenCreate != 0 && !in.Cond.Has(wire.KwReplNum) && !wholeObject(in.OprType) {
		resc, err := a.resourceFor(&in.Cond)
		switch {
		case err != nil:
			return choice{}, err
		case o.on(resc) == nil && o.writing != nil:
			return choice{}, code(wire.CodeObjectLocked)
		case o.on(resc) == nil:
			return choice{resource: resc}, nil
		}
	}
	if o.writing != nil {
		return choice{}, code(wire.CodeHierarchy)
	}
	r, err := a.replicaFor(o, &in.Cond, name)
	return choice{replica: r}, err
}

// wholeObject tells whether an operation replaces an object as a whole: it goes to a
// replica that exists, wherever it lies.
func wholeObject(opr int) bool {
	const copyTo, rsync = 9, 14
	return opr == wire.OprPut || opr == copyTo || opr == rsync
}

// chooseByHierarchy takes the replica on a resource, without asking whether it is good.
func (a *agent) chooseByHierarchy(o *object, in *wire.DataObjInp, hier string) (choice, error) {
	resc := a.z.cat.resourceNamed(hier)
	if resc == nil {
		return choice{}, noResource
	}
	r := o.on(resc)
	token, _ := in.Cond.Get(wire.KwReplicaToken)
	switch {
	case r == nil && in.OpenFlags&wire.OpenCreate == 0:
		return choice{}, code(wire.CodeNoSuchReplica)
	case o.writing == nil:
		return choice{replica: r, resource: resc}, nil
	case r != o.writing.replica:
		return choice{}, code(wire.CodeObjectLocked)
	case token != o.writing.token:
		return choice{}, code(wire.CodeIntermediate)
	}
	return choice{replica: r, joined: true}, nil
}

// keyword returns the resource that an open asks for, "" for none.
func (a *agent) keyword(cond *wire.KeyValPair) (string, error) {
	for _, key := range []string{wire.KwDestRescName, wire.KwRescName} {
		if name, ok := cond.Get(key); ok && name != "" {
			if a.z.cat.resourceNamed(name) == nil {
				return "", noResource
			}
			return name, nil
		}
	}
	return "", nil
}

// named returns the replica that the conditions name, or the best one.
func (a *agent) named(o *object, cond *wire.KeyValPair) (*replica, error) {
	name, err := a.keyword(cond)
	if err != nil {
		return nil, err
	}
	return a.replicaFor(o, cond, name)
}

// replicaFor chooses a replica of an object that is not locked: the one with the number,
// the one on the named resource, even if it is stale, or the best one. But no replica on
// the resource asked for by KwRescName is an error.
func (a *agent) replicaFor(o *object, cond *wire.KeyValPair, name string) (*replica, error) {
	if text, ok := cond.Get(wire.KwReplNum); ok {
		for _, r := range o.Replicas {
			if strconv.Itoa(r.Num) == text {
				return r, nil
			}
		}
		return nil, code(wire.CodeNoSuchReplica)
	}
	chosen := o.best()
	if resc := a.z.cat.resourceNamed(name); resc != nil {
		if r := o.on(resc); r != nil {
			chosen = r
		}
	}
	asked, ok := cond.Get(wire.KwRescName)
	if ok && asked != "" && a.z.cat.resources[chosen.Resc].Name != asked {
		return nil, inaccessible
	}
	return chosen, nil
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
	for _, key := range []string{wire.KwRescHier, wire.KwDestRescName, wire.KwRescName, wire.KwDefRescName} {
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
