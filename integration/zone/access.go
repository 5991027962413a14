package zone

import (
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// modAccess is call 707. It needs the level own, or an administrator who says so.
func (a *agent) modAccess(in *wire.ModAccessControlInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	text, admin := strings.CutPrefix(in.Level, "admin:")
	name := in.User
	if in.Zone != "" && !strings.Contains(name, "#") {
		name += "#" + in.Zone
	}
	if admin && !a.user.admin() {
		return answer{}, code(wire.CodeNoAccess)
	}
	if checkPath(in.Path) != nil {
		return answer{}, code(wire.CodeInvalidArgument)
	}
	if o := a.z.cat.objectAt(in.Path); o != nil {
		return answer{}, a.setObjectAccess(o, text, name, admin)
	}
	x := a.z.cat.collAt(in.Path)
	if x == nil {
		return answer{}, code(wire.CodeInvalidArgument)
	}
	if in.Recursive == 0 {
		return answer{}, a.setCollAccess(x, text, name, admin)
	}
	return answer{}, x.walk(
		func(o *object) error {
			if text == "inherit" || text == "noinherit" {
				return nil
			}
			return a.setObjectAccess(o, text, name, admin)
		},
		func(x *coll) error { return a.setCollAccess(x, text, name, admin) })
}

func (a *agent) setObjectAccess(o *object, text, name string, admin bool) error {
	if !admin && o.Access.level(a.user) < levelOwn {
		return code(wire.CodeNoAccess)
	}
	if err := a.grant(o.Access, text, name); err != nil {
		return err
	}
	a.z.cat.save(record{Object: o})
	return nil
}

func (a *agent) setCollAccess(x *coll, text, name string, admin bool) error {
	if !admin && x.Access.level(a.user) < levelOwn {
		return code(wire.CodeNoAccess)
	}
	switch text {
	case "inherit", "noinherit": // alone among these it changes the time
		x.Inherit, x.Modify = text == "inherit", a.z.now()
	default:
		if err := a.grant(x.Access, text, name); err != nil {
			return err
		}
	}
	a.z.cat.save(record{Coll: x})
	return nil
}

// grant changes one user's entry in a list.
func (a *agent) grant(acc access, text, name string) error {
	l, ok := levels[text]
	if !ok {
		return code(wire.CodeInvalidArgument)
	}
	u := a.z.cat.userNamed(name)
	if u == nil {
		return code(wire.CodeUnknownUser)
	}
	if l == levelNull {
		delete(acc, u.ID)
		return nil
	}
	acc[u.ID] = l
	return nil
}

// aclOperations is the input of call 20005: all or nothing.
type aclOperations struct {
	Path       string `json:"logical_path"`
	Admin      bool   `json:"admin_mode"`
	Operations []struct {
		Entity string `json:"entity_name"`
		ACL    string `json:"acl"`
	} `json:"operations"`
}

func (a *agent) atomicACL(in *aclOperations) (answer, error) {
	if a.elsewhere(in.Path) {
		return answer{}, code(wire.CodeNoAccess)
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	for _, op := range in.Operations {
		if _, ok := levels[op.ACL]; !ok || a.z.cat.userNamed(op.Entity) == nil {
			return answer{}, code(wire.CodeInvalidInput)
		}
	}
	admin := in.Admin && a.user.admin()
	o, x := a.z.cat.objectAt(in.Path), a.z.cat.collAt(in.Path)
	if o == nil && x == nil {
		return answer{}, code(wire.CodeObjectNotExist)
	}
	for _, op := range in.Operations {
		var err error
		if o != nil {
			err = a.setObjectAccess(o, op.ACL, op.Entity, admin)
		} else {
			err = a.setCollAccess(x, op.ACL, op.Entity, admin)
		}
		if err != nil {
			return answer{}, err
		}
	}
	return answer{out: &wire.BinBytesBuf{Data: []byte("{}\x00")}}, nil
}
