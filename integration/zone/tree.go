package zone

import (
	"os"
	"strings"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// code is an error code of the protocol.
type code int

// Error returns the code's name.
func (c code) Error() string { return wire.CodeName(int(c)) }

// Limits measured on the real server.
const (
	maxPath = 1024
	maxName = 255
	// nameTooLong is what the file system of the vault says.
	nameTooLong = code(wire.CodeUnixCreate - 36)
)

// checkPath tests the form of a path: absolute, without empty elements, "." and "..",
// and text that a database with UTF-8 takes.
func checkPath(path string) error {
	switch {
	case len(path) > maxPath:
		return code(wire.CodePackInput)
	case !strings.HasPrefix(path, "/"):
		return code(wire.CodeInputPath)
	case !utf8.ValidString(path):
		return code(wire.CodeCatalogSQL)
	}
	for _, name := range strings.Split(path[1:], "/") {
		if path != "/" && (name == "" || name == "." || name == "..") {
			return code(wire.CodeInputPath)
		}
	}
	return nil
}

// split returns the path's parent and last element.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 1)], path[i+1:]
}

// collAt returns the collection at path, nil if there is none.
func (c *catalog) collAt(path string) *coll {
	x := c.root
	if path == "/" {
		return x
	}
	for _, name := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		if x = x.subs[name]; x == nil {
			return nil
		}
	}
	return x
}

// objectAt returns the object at path, nil if there is none.
func (c *catalog) objectAt(path string) *object {
	dir, name := split(path)
	if parent := c.collAt(dir); parent != nil {
		return parent.objs[name]
	}
	return nil
}

// addColl makes a collection. With inheritance the parent's permissions come first.
func (c *catalog) addColl(parent *coll, name string, owner *user, now int64) *coll {
	x := &coll{
		ID: c.newID(), ParentID: parent.ID, Name: name, Owner: owner.full(), Create: now, Modify: now,
		Access: access{}, parent: parent, subs: map[string]*coll{}, objs: map[string]*object{},
	}
	if parent.Inherit {
		x.Inherit = true
		x.Access.copyFrom(parent.Access)
	}
	x.Access[owner.ID] = levelOwn
	parent.subs[name] = x
	c.colls[x.ID] = x
	c.save(record{Coll: x})
	c.touchColl(parent, now)
	return x
}

// addObject makes an object without replicas; the caller adds one and saves it.
func (c *catalog) addObject(parent *coll, name string, owner *user, mode, kind string) *object {
	o := &object{
		ID: c.newID(), CollID: parent.ID, Name: name, Type: kind, Owner: owner.full(), Mode: mode,
		Access: access{}, coll: parent,
	}
	if parent.Inherit {
		o.Access.copyFrom(parent.Access)
	}
	o.Access[owner.ID] = levelOwn
	parent.objs[name] = o
	c.objs[o.ID] = o
	return o
}

func (a access) copyFrom(other access) {
	for id, l := range other {
		a[id] = l
	}
}

// touchColl sets the modify time, which a new child changes as well.
func (c *catalog) touchColl(x *coll, now int64) {
	x.Modify = now
	c.save(record{Coll: x})
}

// dropObject removes an object with its bytes.
func (c *catalog) dropObject(o *object, now int64) {
	delete(o.coll.objs, o.Name)
	delete(c.objs, o.ID)
	o.gone = true
	for _, r := range o.Replicas {
		_ = os.Remove(c.file(o, r)) // nothing refers to it any more
	}
	c.save(record{Gone: o.ID})
	c.touchColl(o.coll, now)
}

// dropColl removes an empty collection.
func (c *catalog) dropColl(x *coll, now int64) {
	x.gone = true
	delete(x.parent.subs, x.Name)
	delete(c.colls, x.ID)
	c.save(record{Gone: x.ID})
	c.touchColl(x.parent, now)
}

// moveObject gives an object another place. In another collection it counts as modified.
func (c *catalog) moveObject(o *object, to *coll, name string, now int64) {
	from := o.coll
	if from != to {
		for _, r := range o.Replicas {
			r.Modify = now
		}
	}
	delete(from.objs, o.Name)
	o.coll, o.CollID, o.Name = to, to.ID, name
	to.objs[name] = o
	c.save(record{Object: o})
	c.touchColl(from, now)
	c.touchColl(to, now)
}

// moveColl gives a collection another place.
func (c *catalog) moveColl(x, to *coll, name string, now int64) {
	from := x.parent
	delete(from.subs, x.Name)
	x.parent, x.ParentID, x.Name = to, to.ID, name
	to.subs[name] = x
	c.touchColl(x, now)
	c.touchColl(from, now)
	c.touchColl(to, now)
}

// level returns what a user may do: the most that is granted to the user or a group.
func (a access) level(u *user) level {
	most := levelNull
	for _, id := range append([]int64{u.ID}, u.Groups...) {
		most = max(most, a[id])
	}
	return most
}
