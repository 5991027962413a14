package irods

import (
	"context"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// AVUs (attribute, value, unit) are shown as extended attributes. An attribute may have
// many values, each with a unit: the text of the extended attribute has a line for each
// of them, sorted, with the unit behind a tab.

// xattrPrefix begins the names of AVUs as extended attributes.
const xattrPrefix = "user.irods."

// The longest value or attribute and the longest unit in bytes (the catalog's columns
// have that many characters).
const (
	maxValue = 2700
	maxUnit  = 250
)

var errValue = errors.New("the catalog keeps lines of 1 to 2,700 bytes of UTF-8, sorted, each once, with a unit behind a tab")

// avu is one triple.
type avu struct{ name, value, unit string }

// XattrPrefix implements remote.Xattrer.
func (b *Backend) XattrPrefix() string { return xattrPrefix }

// Xattrs implements remote.Xattrer.
func (b *Backend) Xattrs(ctx context.Context, path string) (map[string][]byte, error) {
	const op = "xattrs"
	if err := b.check(op, path); err != nil {
		return nil, absent(op, path, err)
	}
	var list []avu
	err := b.do(ctx, op, path, false, func(s *session) error {
		f, err := b.lookAt(ctx, s, b.full(path))
		if err != nil {
			return err
		}
		if _, err := b.entry(op, path, f); err != nil {
			return err
		}
		list, err = b.avus(ctx, s, b.full(path), f.coll != nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	return xattrs(list), nil
}

// xattrs turns AVUs into extended attributes. Ours are not shown.
func xattrs(list []avu) map[string][]byte {
	lines := map[string][]string{}
	for _, a := range list {
		if a.name != markMode && a.name != markTarget {
			lines[a.name] = append(lines[a.name], a.line())
		}
	}
	out := make(map[string][]byte, len(lines))
	for name, l := range lines {
		slices.Sort(l)
		out[xattrPrefix+name] = []byte(strings.Join(l, "\n"))
	}
	return out
}

func (a avu) line() string {
	if a.unit == "" {
		return a.value
	}
	return a.value + "\t" + a.unit
}

// parseLines is the reverse of xattrs for one attribute.
func parseLines(name, text string) ([]avu, error) {
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return nil, errValue
	}
	lines := strings.Split(text, "\n")
	list := make([]avu, 0, len(lines))
	for i, line := range lines {
		value, unit, tab := strings.Cut(line, "\t")
		bad := value == "" || len(value) > maxValue || len(unit) > maxUnit || strings.Contains(unit, "\t")
		if bad || tab && unit == "" || i > 0 && lines[i-1] >= line {
			return nil, errValue
		}
		list = append(list, avu{name, value, unit})
	}
	return list, nil
}

// avus returns the AVUs of an object or collection.
func (b *Backend) avus(ctx context.Context, s *session, path string, dir bool) (list []avu, err error) {
	name, value, unit := wire.ColMetaDataName, wire.ColMetaDataValue, wire.ColMetaDataUnits
	c := ask(b.zone, name, value, unit)
	if dir {
		name, value, unit = wire.ColMetaCollName, wire.ColMetaCollValue, wire.ColMetaCollUnits
		c = ask(b.zone, name, value, unit).equal(wire.ColCollName, path)
	} else {
		coll, object := splitFull(path)
		c.equal(wire.ColCollName, coll).equal(wire.ColDataName, object)
	}
	for {
		more, err := c.next(ctx, s)
		if err != nil || !more {
			return list, err
		}
		a := avu{strings.Clone(c.text(name)), strings.Clone(c.text(value)), strings.Clone(c.text(unit))}
		if !slices.Contains(list, a) { // the answer has a row for each replica
			list = append(list, a)
		}
	}
}

// metadataInput is the JSON of a change of metadata, which happens as a whole or not
// at all.
type metadataInput struct {
	Name       string         `json:"entity_name"`
	Type       string         `json:"entity_type"`
	Operations []metadataStep `json:"operations"`
}

type metadataStep struct {
	Operation string `json:"operation"`
	Attribute string `json:"attribute"`
	Value     string `json:"value"`
	Units     string `json:"units,omitempty"`
}

// SetXattr implements remote.Xattrer. All values of the attribute are replaced, in one
// transaction.
func (b *Backend) SetXattr(ctx context.Context, path, name string, value []byte, mode remote.XattrMode) error {
	const op = "setxattr"
	attribute, ok := strings.CutPrefix(name, xattrPrefix)
	if !ok || attribute == "" || len(attribute) > maxValue || !utf8.ValidString(attribute) ||
		attribute == markMode || attribute == markTarget {
		return remote.E(op, path, remote.Invalid, errors.New("not the name of an attribute that can be set"))
	}
	wanted, err := parseLines(attribute, string(value))
	if err != nil {
		return remote.E(op, path, remote.Invalid, err)
	}
	return b.changeAVUs(ctx, op, path, attribute, func(old []avu) ([]avu, error) {
		switch {
		case mode == remote.XattrCreate && len(old) > 0:
			return nil, &remote.Error{Op: op, Path: path, Kind: remote.Exist}
		case mode == remote.XattrReplace && len(old) == 0:
			return nil, &remote.Error{Op: op, Path: path, Kind: remote.NoXattr}
		}
		return wanted, nil
	})
}

// RemoveXattr implements remote.Xattrer.
func (b *Backend) RemoveXattr(ctx context.Context, path, name string) error {
	const op = "removexattr"
	attribute, ok := strings.CutPrefix(name, xattrPrefix)
	none := &remote.Error{Op: op, Path: path, Kind: remote.NoXattr}
	return b.changeAVUs(ctx, op, path, attribute, func(old []avu) ([]avu, error) {
		if !ok || len(old) == 0 || attribute == markMode || attribute == markTarget {
			return nil, none
		}
		return nil, nil
	})
}

// changeAVUs replaces the values of one attribute by what change returns.
func (b *Backend) changeAVUs(ctx context.Context, op, rel, attribute string, change func([]avu) ([]avu, error)) error {
	if err := b.check(op, rel); err != nil {
		return absent(op, rel, err)
	}
	return b.do(ctx, op, rel, true, func(s *session) error {
		f, err := b.lookAt(ctx, s, b.full(rel))
		if err == nil {
			_, err = b.entry(op, rel, f)
		}
		var all []avu
		if err == nil {
			all, err = b.avus(ctx, s, b.full(rel), f.coll != nil)
		}
		if err != nil {
			return unchanged(ctx, op, rel, err)
		}
		old := slices.DeleteFunc(all, func(a avu) bool { return a.name != attribute })
		wanted, err := change(old)
		if err != nil {
			return err
		}
		return b.setMetadata(ctx, s, b.full(rel), f.coll != nil, steps(old, wanted))
	})
}

// setMetadata changes metadata, in one transaction where that can be had: the call for it
// is not forwarded to another zone (by the server's source), where each step is a call.
func (b *Backend) setMetadata(ctx context.Context, s *session, path string, dir bool, list []metadataStep) error {
	if len(list) == 0 {
		return nil
	}
	if b.zone != b.opts.Zone {
		calls := make([]*wire.Call, len(list))
		for i, step := range list {
			calls[i] = step.call(path, dir)
		}
		results, err := s.conn.Pipeline(ctx, calls)
		for _, r := range results {
			if err == nil {
				err = r.Err
			}
		}
		return err
	}
	in := metadataInput{Name: path, Type: "data_object", Operations: list}
	if dir {
		in.Type = "collection"
	}
	msg, err := wire.NewJSON(in)
	if err != nil {
		return err
	}
	_, err = s.conn.Call(ctx, &wire.Call{API: wire.APIAtomicMetadata, In: msg, Out: &wire.BinBytesBuf{}})
	return err
}

// call is the step as a call of its own.
func (m metadataStep) call(path string, dir bool) *wire.Call {
	command, kind := "add", "-d"
	if m.Operation == "remove" {
		command = "rm"
	}
	if dir {
		kind = "-C"
	}
	return &wire.Call{API: wire.APIModAVUMetadata, In: &wire.ModAVUMetadataInp{Args: [10]string{command, kind, path, m.Attribute, m.Value, m.Units}}}
}

// steps are what leads from the old values to the wanted ones.
func steps(old, wanted []avu) (list []metadataStep) {
	for _, a := range old {
		if !slices.Contains(wanted, a) {
			list = append(list, metadataStep{"remove", a.name, a.value, a.unit})
		}
	}
	for _, a := range wanted {
		if !slices.Contains(old, a) {
			list = append(list, metadataStep{"add", a.name, a.value, a.unit})
		}
	}
	return list
}
