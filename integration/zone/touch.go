package zone

import (
	"cmp"
	"slices"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// touchInput is the input of call 20007.
type touchInput struct {
	Path    string       `json:"logical_path"`
	Options touchOptions `json:"options"`
}

// touchOptions may all be left out.
type touchOptions struct {
	NoCreate bool     `json:"no_create"`
	Replica  *int     `json:"replica_number"`
	Resource *string  `json:"leaf_resource_name"`
	Seconds  *float64 `json:"seconds_since_epoch"` // the fraction is dropped
	Ref      *string  `json:"reference"`
}

// Codes of touch.
const (
	incompatible = code(-402000)  // USER_INCOMPATIBLE_PARAMS
	notFormed    = code(-1084000) // INPUT_ARG_NOT_WELL_FORMED_ERR
)

func (o *touchOptions) check() error {
	switch {
	case o.Replica != nil && o.Resource != nil, o.Ref != nil && o.Seconds != nil:
		return incompatible
	case o.Replica != nil && *o.Replica < 0, o.Seconds != nil && *o.Seconds < 0:
		return notFormed
	case o.Resource != nil && *o.Resource == "", o.Ref != nil && *o.Ref == "":
		return notFormed
	}
	return nil
}

// touch is call 20007: sets the modify time, of collections too, in whole seconds; an
// object that is not there is made. Of an object it changes one replica: the one named,
// or the good one that was modified last.
func (a *agent) touch(in *touchInput) (answer, error) {
	if in.Path == "" {
		return answer{}, notFormed
	}
	if err := in.Options.check(); err != nil {
		return answer{}, err
	}
	if err := checkPath(in.Path); err != nil {
		return answer{}, err
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	when, err := a.touchTime(&in.Options)
	if err != nil {
		return answer{}, err
	}
	if x := a.z.cat.collAt(in.Path); x != nil && a.seesColl(x) {
		return answer{}, a.touchCollection(x, &in.Options, when)
	}
	o, err := a.find(in.Path)
	if err != nil && in.Options.NoCreate {
		return answer{}, nil
	}
	if err != nil {
		if o, err = a.touchNew(in); err != nil {
			return answer{}, err
		}
	}
	r, err := a.touched(o, &in.Options)
	if err != nil {
		return answer{}, err
	}
	if err := a.may(o.Access, levelModifyMeta); err != nil {
		return answer{}, err
	}
	r.Modify = when
	a.z.cat.save(record{Object: o})
	return answer{}, nil
}

// touchTime returns the time to set.
func (a *agent) touchTime(opts *touchOptions) (int64, error) {
	switch {
	case opts.Seconds != nil:
		return int64(*opts.Seconds), nil
	case opts.Ref == nil:
		return a.z.now(), nil
	}
	if x := a.z.cat.collAt(*opts.Ref); x != nil && a.seesColl(x) {
		return x.Modify, nil
	}
	o, err := a.find(*opts.Ref)
	if err != nil {
		return 0, err
	}
	return o.best().Modify, nil
}

func (a *agent) touchCollection(x *coll, opts *touchOptions, when int64) error {
	if opts.Replica != nil || opts.Resource != nil {
		return incompatible
	}
	if err := a.may(x.Access, levelModify); err != nil {
		return err
	}
	a.z.cat.touchColl(x, when)
	return nil
}

// touchNew makes an empty object.
func (a *agent) touchNew(in *touchInput) (*object, error) {
	if in.Options.Replica != nil {
		return nil, code(wire.CodeObjectNotExist)
	}
	inp := &wire.DataObjInp{Path: in.Path, CreateMode: 0o600, OpenFlags: wire.OpenWriteOnly | wire.OpenCreate | wire.OpenTruncate}
	if in.Options.Resource != nil {
		inp.Cond = wire.KeyValPair{{Key: wire.KwDestRescName, Value: *in.Options.Resource}}
	}
	d, err := a.openNew(inp)
	if err != nil {
		return nil, err
	}
	delete(a.descs, d.fd)
	_ = d.file.Close()
	a.z.finish(d, "")
	return d.obj, nil
}

// touched returns the replica whose time is set.
func (a *agent) touched(o *object, opts *touchOptions) (*replica, error) {
	goodOnes := slices.DeleteFunc(slices.Clone(o.Replicas), func(r *replica) bool {
		switch {
		case opts.Replica != nil:
			return r.Num != *opts.Replica
		case opts.Resource != nil:
			return a.z.cat.resources[r.Resc].Name != *opts.Resource
		}
		return r.Status != good
	})
	switch {
	case len(goodOnes) > 0:
		return slices.MaxFunc(goodOnes, func(x, y *replica) int { return cmp.Compare(x.Modify, y.Modify) }), nil
	case opts.Replica != nil || opts.Resource != nil:
		return nil, code(wire.CodeNoSuchReplica)
	}
	return nil, code(wire.CodeNoGoodReplica)
}
