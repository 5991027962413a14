package zone

import (
	"slices"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// bearer is something that carries metadata.
type bearer struct {
	avus *[]avu
	save func()
	acc  access // nil: for administrators
}

// bearerNamed finds an object, collection, resource or user. It tells people without
// permission that it is there.
func (a *agent) bearerNamed(kind, name string) (*bearer, error) {
	cat := a.z.cat
	switch kind {
	case "-d", "-D":
		o := cat.objectAt(name)
		if checkPath(name) != nil || o == nil {
			return nil, code(wire.CodeUnknownFile)
		}
		return &bearer{&o.AVUs, func() { cat.save(record{Object: o}) }, o.Access}, nil
	case "-C", "-c":
		x := cat.collAt(name)
		if checkPath(name) != nil || x == nil {
			return nil, code(wire.CodeUnknownCollection)
		}
		return &bearer{&x.AVUs, func() { cat.save(record{Coll: x}) }, x.Access}, nil
	}
	if !a.user.admin() {
		return nil, noPrivilege
	}
	switch kind {
	case "-R", "-r":
		if r := cat.resourceNamed(name); r != nil {
			return &bearer{&r.AVUs, func() { cat.save(record{Resource: r}) }, nil}, nil
		}
		return nil, code(wire.CodeUnknownResource)
	case "-u", "-U":
		if u := cat.userNamed(name); u != nil {
			return &bearer{&u.AVUs, func() { cat.save(record{User: u}) }, nil}, nil
		}
		return nil, code(wire.CodeUnknownUser)
	}
	return nil, code(wire.CodeInvalidArgument)
}

// noPrivilege is CAT_INSUFFICIENT_PRIVILEGE_LEVEL.
const noPrivilege = code(-830000)

// mayEdit returns an error unless the user has the level on the bearer.
func (a *agent) mayEdit(b *bearer, want level) error {
	if b.acc == nil {
		return nil
	}
	return a.may(b.acc, want)
}

// modAVU is call 706.
func (a *agent) modAVU(in *wire.ModAVUMetadataInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if in.Args[0] == "cp" {
		return answer{}, a.copyAVUs(in)
	}
	b, err := a.bearerNamed(in.Args[1], in.Args[2])
	if err != nil {
		return answer{}, err
	}
	return answer{}, a.editAVUs(b, in.Args)
}

// copyAVUs is the command "cp": arguments are both types and then both names.
func (a *agent) copyAVUs(in *wire.ModAVUMetadataInp) error {
	from, err := a.bearerNamed(in.Args[1], in.Args[3])
	if err == nil {
		err = a.mayEdit(from, levelReadMetadata)
	}
	if err != nil {
		return err
	}
	to, err := a.bearerNamed(in.Args[2], in.Args[4])
	if err == nil {
		err = a.mayEdit(to, levelCreateMeta)
	}
	if err != nil {
		return err
	}
	for _, m := range *from.avus {
		a.addAVU(to, m.Name, m.Value, m.Units)
	}
	to.save()
	return nil
}

// editAVUs carries out a command on the metadata of b.
func (a *agent) editAVUs(b *bearer, args [10]string) error {
	name, value, units := args[3], args[4], args[5]
	var err error
	switch args[0] {
	case "add", "adda":
		if err = a.checkAVU(b, name, value, units); err == nil && !a.addAVU(b, name, value, units) {
			err = code(wire.CodeExists)
		}
	case "set":
		if err = a.checkAVU(b, name, value, units); err == nil {
			err = a.setAVU(b, name, value, units)
		}
	case "rm":
		err = a.removeMatching(b, exactly, name, value, units)
	case "rmw":
		err = a.removeMatching(b, like, name, value, units)
	case "mod":
		if err = a.mayEdit(b, levelDeleteMeta); err == nil {
			err = a.changeAVU(b, name, value, args[5:])
		}
	default:
		return code(wire.CodeInvalidArgument)
	}
	if err == nil {
		b.save()
	}
	return err
}

// Lengths of the columns, in characters.
const (
	maxAVU   = 2700
	maxUnits = 250
)

// checkAVU tests new metadata and the permission to add it.
func (a *agent) checkAVU(b *bearer, name, value, units string) error {
	if err := a.mayEdit(b, levelCreateMeta); err != nil {
		return err
	}
	switch {
	case name == "" || value == "":
		return code(wire.CodeInvalidArgument)
	case !utf8.ValidString(name) || !utf8.ValidString(value) || !utf8.ValidString(units):
		return badSQL
	case utf8.RuneCountInString(name) > maxAVU || utf8.RuneCountInString(value) > maxAVU || utf8.RuneCountInString(units) > maxUnits:
		return badSQL
	}
	return nil
}

// setAVU makes the metadata the only one of its name. It keeps the id if there was one
// that nothing else has; otherwise it needs to remove those that were there.
func (a *agent) setAVU(b *bearer, name, value, units string) error {
	named := func(m avu) bool { return m.Name == name }
	i := slices.IndexFunc(*b.avus, named)
	if i >= 0 && !slices.ContainsFunc((*b.avus)[i+1:], named) && !a.z.cat.shared((*b.avus)[i].ID) {
		m := &(*b.avus)[i]
		m.Value, m.Units, m.Time = value, units, a.z.now()
		return nil
	}
	if i >= 0 {
		if err := a.mayEdit(b, levelDeleteMeta); err != nil {
			return err
		}
	}
	removeAVUs(b, named)
	a.addAVU(b, name, value, units)
	return nil
}

// removeMatching removes what the command names.
func (a *agent) removeMatching(b *bearer, match func(want, have string) bool, name, value, units string) error {
	if err := a.mayEdit(b, levelDeleteMeta); err != nil {
		return err
	}
	if !removeAVUs(b, func(m avu) bool {
		return match(name, m.Name) && match(value, m.Value) && match(units, m.Units)
	}) {
		return code(wire.CodeSuccessNoInfo)
	}
	return nil
}

func exactly(want, have string) bool { return want == have }

// addAVU adds metadata, unless it is there.
func (a *agent) addAVU(b *bearer, name, value, units string) bool {
	for _, m := range *b.avus {
		if m.Name == name && m.Value == value && m.Units == units {
			return false
		}
	}
	*b.avus = append(*b.avus, a.z.cat.newAVU(name, value, units, a.z.now()))
	return true
}

// newAVU returns metadata with the id and the time of what is the same elsewhere: the
// catalog holds each triple once, and who has it.
func (c *catalog) newAVU(name, value, units string, now int64) avu {
	m := avu{0, name, value, units, now}
	c.eachAVU(func(other *avu) bool {
		if other.Name == name && other.Value == value && other.Units == units {
			m.ID, m.Time = other.ID, other.Time
		}
		return m.ID == 0
	})
	if m.ID == 0 {
		m.ID = c.newID()
	}
	return m
}

// shared tells whether two entities or more have the metadata.
func (c *catalog) shared(id int64) bool {
	n := 0
	c.eachAVU(func(m *avu) bool {
		if m.ID == id {
			n++
		}
		return n < 2
	})
	return n > 1
}

// eachAVU calls yield until it returns false.
func (c *catalog) eachAVU(yield func(*avu) bool) {
	all := func(list []avu) bool {
		for i := range list {
			if !yield(&list[i]) {
				return false
			}
		}
		return true
	}
	for _, x := range c.objs {
		if !all(x.AVUs) {
			return
		}
	}
	for _, x := range c.colls {
		if !all(x.AVUs) {
			return
		}
	}
	for _, x := range c.users {
		if !all(x.AVUs) {
			return
		}
	}
	for _, x := range c.resources {
		if !all(x.AVUs) {
			return
		}
	}
}

func removeAVUs(b *bearer, match func(avu) bool) bool {
	before := len(*b.avus)
	*b.avus = slices.DeleteFunc(*b.avus, match)
	return len(*b.avus) < before
}

// changeAVU is the command "mod": arguments are the old units and n:, v: or u: with new
// text, units last.
func (a *agent) changeAVU(b *bearer, name, value string, rest []string) error {
	units := ""
	if len(rest[0]) < 2 || rest[0][1] != ':' {
		units, rest = rest[0], rest[1:]
	}
	for i := range *b.avus {
		m := &(*b.avus)[i]
		if m.Name != name || m.Value != value || m.Units != units {
			continue
		}
		changed := *m
		for _, change := range rest {
			if len(change) < 2 || change[1] != ':' {
				continue
			}
			switch change[0] {
			case 'n':
				changed.Name = change[2:]
			case 'v':
				changed.Value = change[2:]
			case 'u':
				changed.Units = change[2:]
			}
		}
		*m = a.z.cat.newAVU(changed.Name, changed.Value, changed.Units, a.z.now())
		return nil
	}
	return code(wire.CodeSuccessNoInfo)
}
