package zone

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// metadataOperations is the input of call 20002: all or nothing.
type metadataOperations struct {
	Name       string            `json:"entity_name"`
	Type       string            `json:"entity_type"`
	Admin      bool              `json:"admin_mode"`
	Operations []json.RawMessage `json:"operations"`
}

// metadataOperation is one of them; units may be missing.
type metadataOperation struct {
	Operation *string `json:"operation"`
	Attribute *string `json:"attribute"`
	Value     *string `json:"value"`
	Units     string  `json:"units"`
}

// Codes of call 20002.
const (
	badJSON      = code(-172000)  // JSON_VALIDATION_ERROR
	badOperation = code(-1811000) // INVALID_OPERATION
)

// atomicMetadata is call 20002. It needs the level of a writer. Adding what is there and
// removing what is not are no errors. A failure says which operation it was.
func (a *agent) atomicMetadata(in *metadataOperations) (answer, error) {
	if a.elsewhere(in.Name) {
		return refusal(wire.CodeNoAccess, nil, 0, "User not allowed to modify metadata")
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	b, ok := a.entity(in.Type, in.Name)
	if !ok {
		return refusal(wire.CodeInvalidInput, nil, 0, "Entity does not exist [entity_name="+in.Name+"]")
	}
	switch {
	case in.Admin && !a.user.admin():
		return refusal(int(noPrivilege), nil, 0, "User is not an administrator")
	case !in.Admin && (b.acc != nil && b.acc.level(a.user) < levelModify || b.acc == nil && !a.user.admin()):
		return refusal(wire.CodeNoAccess, nil, 0, "User not allowed to modify metadata")
	}
	before := slices.Clone(*b.avus)
	for i, text := range in.Operations {
		if c, message := a.operate(b, text); c < 0 {
			*b.avus = before
			return refusal(int(c), text, i, message)
		}
	}
	b.save()
	return answer{out: &wire.BinBytesBuf{Data: []byte("{}\x00")}}, nil
}

// elsewhere tells whether something is in another zone. The real server finds it there, and
// then looks for the permission in its own catalog.
func (a *agent) elsewhere(path string) bool {
	way, err := a.toZone(zoneOf(path), &wire.Call{API: wire.APIObjStat, In: &wire.DataObjInp{Path: path}})
	if err != nil || way == nil {
		return false
	}
	_, err = way.conn.Call(a.z.ctx, way.call)
	return err == nil
}

// entity finds what the user may know of.
func (a *agent) entity(kind, name string) (*bearer, bool) {
	switch kind {
	case "data_object":
		if _, err := a.find(name); err != nil {
			return nil, false
		}
		kind = "-d"
	case "collection":
		if x := a.z.cat.collAt(name); checkPath(name) != nil || x == nil || !a.seesColl(x) {
			return nil, false
		}
		kind = "-C"
	case "resource":
		r := a.z.cat.resourceNamed(name)
		if r == nil {
			return nil, false
		}
		return &bearer{&r.AVUs, func() { a.z.cat.save(record{Resource: r}) }, nil}, true
	case "user":
		u := a.z.cat.userNamed(name)
		if u == nil {
			return nil, false
		}
		return &bearer{&u.AVUs, func() { a.z.cat.save(record{User: u}) }, nil}, true
	default:
		return nil, false
	}
	b, err := a.bearerNamed(kind, name)
	return b, err == nil
}

// operate carries out one operation and returns 0, or a code and what is wrong.
func (a *agent) operate(b *bearer, text json.RawMessage) (code, string) {
	var op metadataOperation
	if err := json.Unmarshal(text, &op); err != nil {
		return badJSON, err.Error()
	}
	switch {
	case op.Attribute == nil || op.Value == nil || op.Operation == nil:
		return badJSON, "key not found"
	case *op.Attribute == "" || *op.Value == "":
		return code(wire.CodeInvalidInput), "Empty metadata attribute name or value"
	}
	switch *op.Operation {
	case "add":
		a.addAVU(b, *op.Attribute, *op.Value, op.Units)
	case "remove":
		removeAVUs(b, func(m avu) bool {
			return m.Name == *op.Attribute && m.Value == *op.Value && m.Units == op.Units
		})
	default:
		return badOperation, "Invalid metadata operation."
	}
	return 0, ""
}

// refusal is an answer with a code and JSON that explains it.
func refusal(status int, operation json.RawMessage, index int, message string) (answer, error) {
	if operation == nil {
		operation = json.RawMessage("{}")
	}
	message = strings.ToValidUTF8(message, "?")
	out, err := wire.NewJSON(map[string]any{"operation": operation, "operation_index": index, "error_message": message})
	if err == nil {
		out.Data = append(out.Data, 0)
	}
	return answer{status: status, out: out}, err
}
