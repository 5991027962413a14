package zone

import (
	"slices"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// bearer is something that carries metadata.
type bearer struct {
	avus *[]avu
	save func()
}

// bearerNamed finds an object, collection, resource or user, which the user must be
// allowed to change.
func (a *agent) bearerNamed(kind, name string) (*bearer, error) {
	cat := a.z.cat
	switch kind {
	case "-d", "-D", "data_object":
		o, err := a.find(name)
		if err != nil {
			return nil, code(wire.CodeUnknownFile)
		}
		return &bearer{&o.AVUs, func() { cat.save(record{Object: o}) }}, a.may(o.Access, levelCreateMeta)
	case "-C", "-c", "collection":
		x := cat.collAt(name)
		if checkPath(name) != nil || x == nil || !a.seesColl(x) {
			return nil, code(wire.CodeUnknownCollection)
		}
		return &bearer{&x.AVUs, func() { cat.save(record{Coll: x}) }}, a.may(x.Access, levelCreateMeta)
	}
	if !a.user.admin() {
		return nil, code(wire.CodeNotAuthenticated)
	}
	switch kind {
	case "-R", "-r", "resource":
		if r := cat.resourceNamed(name); r != nil {
			return &bearer{&r.AVUs, func() { cat.save(record{Resource: r}) }}, nil
		}
		return nil, code(wire.CodeUnknownResource)
	case "-u", "-U", "user":
		if u := cat.userNamed(name); u != nil {
			return &bearer{&u.AVUs, func() { cat.save(record{User: u}) }}, nil
		}
		return nil, code(wire.CodeUnknownUser)
	}
	return nil, code(wire.CodeInvalidArgument)
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
	if err != nil {
		return err
	}
	to, err := a.bearerNamed(in.Args[2], in.Args[4])
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
	if name == "" {
		return code(wire.CodeInvalidArgument)
	}
	switch args[0] {
	case "add", "adda":
		if value == "" {
			return code(wire.CodeInvalidArgument)
		}
		if !a.addAVU(b, name, value, units) {
			return code(wire.CodeExists)
		}
	case "set":
		*b.avus = slices.DeleteFunc(*b.avus, func(m avu) bool { return m.Name == name })
		a.addAVU(b, name, value, units)
	case "rm", "rmw":
		match := exactly
		if args[0] == "rmw" {
			match = like
		}
		if !removeAVUs(b, func(m avu) bool {
			return match(name, m.Name) && match(value, m.Value) && match(units, m.Units)
		}) {
			return code(wire.CodeSuccessNoInfo)
		}
	case "mod":
		return a.changeAVU(b, name, value, args[5:])
	default:
		return code(wire.CodeInvalidArgument)
	}
	b.save()
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
	*b.avus = append(*b.avus, avu{a.z.cat.newID(), name, value, units, a.z.now()})
	return true
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
		for _, change := range rest {
			if len(change) < 2 || change[1] != ':' {
				continue
			}
			switch change[0] {
			case 'n':
				m.Name = change[2:]
			case 'v':
				m.Value = change[2:]
			case 'u':
				m.Units = change[2:]
			}
		}
		b.save()
		return nil
	}
	return code(wire.CodeSuccessNoInfo)
}

// metadataOperations is the input of call 20002: all or nothing.
type metadataOperations struct {
	EntityName string `json:"entity_name"`
	EntityType string `json:"entity_type"`
	Operations []struct {
		Operation string `json:"operation"`
		Attribute string `json:"attribute"`
		Value     string `json:"value"`
		Units     string `json:"units"`
	} `json:"operations"`
}

func (a *agent) atomicMetadata(in *metadataOperations) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	b, err := a.bearerNamed(in.EntityType, in.EntityName)
	if err != nil {
		return answer{}, err
	}
	before := slices.Clone(*b.avus)
	for i, op := range in.Operations {
		switch {
		case op.Operation == "add" && op.Attribute != "" && op.Value != "":
			a.addAVU(b, op.Attribute, op.Value, op.Units)
		case op.Operation == "remove":
			removeAVUs(b, func(m avu) bool {
				return m.Name == op.Attribute && m.Value == op.Value && m.Units == op.Units
			})
		default:
			*b.avus = before
			out, err := wire.NewJSON(map[string]any{"operation": op, "operation_index": i, "error_message": "invalid operation"})
			return answer{status: wire.CodeInvalidInput, out: out}, err
		}
	}
	b.save()
	return answer{out: &wire.BinBytesBuf{Data: []byte("{}")}}, nil
}
