package zone

import (
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// fdInput is the input of call 20000.
type fdInput struct {
	FD int `json:"fd"`
}

// descInfo is call 20000: what the server knows of a descriptor, above all the token
// that lets others write to the same replica.
func (a *agent) descInfo(in *fdInput) (answer, error) {
	d, err := a.desc(in.FD)
	if err != nil {
		return answer{}, err
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	token := ""
	if d.active() {
		token = d.write.token
	}
	o, r := d.obj, d.replica
	out, err := wire.NewJSON(map[string]any{
		"in_use": true, "l3descInx": 3, "replica_token": token, "replica_status": r.Status, "data_size": -1, "bytes_written": -1,
		"data_object_info": map[string]any{
			"object_path": o.path(), "data_id": o.ID, "collection_id": o.CollID, "data_type": o.Type, "data_size": r.Size,
			"checksum": r.Checksum, "data_owner_name": o.Owner, "data_owner_zone": a.z.opts.Name,
			"replica_number": r.Num, "replica_status": r.Status, "data_mode": o.Mode,
			"resource_hierarchy": d.resource.Name, "resource_name": d.resource.Name, "resource_id": d.resource.ID,
			"data_create": stamp(r.Create), "data_modify": stamp(r.Modify), "file_path": a.z.cat.file(o, r),
		},
		"data_object_input": map[string]any{
			"object_path": o.path(), "open_flags": d.flags, "create_mode": d.mode, "data_size": -1,
		},
	})
	if err == nil {
		out.Data = append(out.Data, 0)
	}
	return answer{out: out}, err
}

// replicaCloseInput is the input of call 20004. What is left out is true, but for the
// checksum.
type replicaCloseInput struct {
	FD              int   `json:"fd"`
	UpdateSize      *bool `json:"update_size"`
	UpdateStatus    *bool `json:"update_status"`
	ComputeChecksum bool  `json:"compute_checksum"`
	Notify          *bool `json:"send_notifications"`
}

// replicaClose is call 20004: closes without unlocking the object if it is told so, as
// all writers but the first one do.
func (a *agent) replicaClose(in *replicaCloseInput) (answer, error) {
	d, err := a.desc(in.FD)
	if err != nil {
		return answer{}, err
	}
	status := in.UpdateStatus == nil || *in.UpdateStatus
	sum := ""
	if in.ComputeChecksum {
		if sum, err = checksumFile(d.file.Name()); err != nil {
			return answer{}, errnoCode(wire.CodeUnixRead, err)
		}
	}
	delete(a.descs, d.fd)
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	_ = d.file.Close()
	if !d.active() {
		return answer{}, nil
	}
	d.write.writers--
	switch {
	case status:
		a.z.finish(d.obj, sum)
	case in.UpdateSize == nil || *in.UpdateSize:
		d.replica.Size = a.z.sizeOf(d.obj, d.replica)
	}
	return answer{}, nil
}

// replicaTruncate is call 802.
func (a *agent) replicaTruncate(in *wire.DataObjInp) (answer, error) {
	r, err := a.cut(in)
	if err != nil {
		return answer{}, err
	}
	out := `{"message":"","replica_number":` + strconv.Itoa(r.Num) + `,"resource_hierarchy":"` + a.z.rescName(r) + `"}`
	return answer{out: &wire.STR{Text: out}}, nil
}

// truncate is call 652, which servers call deprecated.
func (a *agent) truncate(in *wire.DataObjInp) (answer, error) {
	_, err := a.cut(in)
	return answer{}, err
}

func (z *Zone) rescName(r *replica) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.cat.resources[r.Resc].Name
}

// cut changes the size of an object.
func (a *agent) cut(in *wire.DataObjInp) (*replica, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	o, err := a.find(in.Path)
	if err != nil {
		return nil, err
	}
	if err := a.may(o.Access, levelModify); err != nil {
		return nil, err
	}
	if o.writing != nil {
		return nil, code(wire.CodeObjectLocked)
	}
	r, err := a.replicaFor(o, &in.Cond)
	if err != nil {
		return nil, err
	}
	if in.DataSize < 0 {
		return nil, code(wire.CodeInvalidInput)
	}
	if err := os.Truncate(a.z.cat.file(o, r), in.DataSize); err != nil {
		return nil, errnoCode(wire.CodeUnixTruncate, err)
	}
	o.writing = newWriting(r)
	o.writing.modified = true
	a.z.finish(o, "")
	return r, nil
}

// replicate is call 695: a copy on another resource, or a stale one there renewed.
func (a *agent) replicate(in *wire.DataObjInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	o, err := a.find(in.Path)
	if err != nil {
		return answer{}, err
	}
	name, _ := in.Cond.Get(wire.KwDestRescName)
	resc := a.z.cat.resourceNamed(name)
	switch {
	case resc == nil:
		return answer{}, noResource
	case o.writing != nil:
		return answer{}, code(wire.CodeHierarchy)
	}
	if err := a.may(o.Access, levelRead); err != nil {
		return answer{}, err
	}
	from, to := o.best(), o.on(resc)
	if from.Status != good {
		return answer{}, code(wire.CodeNoGoodReplica)
	}
	if to != nil && to.Status == good {
		return answer{}, code(wire.CodeNotAllowed)
	}
	if to == nil {
		to = &replica{Resc: resc.ID, Create: a.z.now()}
		for _, r := range o.Replicas {
			to.Num = max(to.Num, r.Num+1)
		}
		o.Replicas = append(o.Replicas, to)
	}
	if err := copyFile(a.z.cat.file(o, from), a.z.cat.file(o, to)); err != nil {
		o.Replicas = slices.DeleteFunc(o.Replicas, func(r *replica) bool { return r == to && r.Status != good })
		return answer{}, errnoCode(wire.CodeUnixWrite, err)
	}
	to.Size, to.Checksum, to.Status, to.Modify = from.Size, from.Checksum, good, from.Modify
	a.z.cat.save(record{Object: o})
	return answer{}, nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// trim is call 632: removes a replica, named by number or resource, but not the last
// good one.
func (a *agent) trim(in *wire.DataObjInp) (answer, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	o, err := a.find(in.Path)
	if err != nil {
		return answer{}, err
	}
	if err := a.may(o.Access, levelModify); err != nil {
		return answer{}, err
	}
	if o.writing != nil {
		return answer{}, code(wire.CodeObjectLocked)
	}
	r, err := a.replicaFor(o, &in.Cond)
	if err != nil {
		return answer{}, err
	}
	others := 0
	for _, other := range o.Replicas {
		if other != r && (other.Status == good || r.Status != good) {
			others++
		}
	}
	if others == 0 {
		return answer{}, code(wire.CodeNotAllowed)
	}
	o.Replicas = slices.DeleteFunc(o.Replicas, func(other *replica) bool { return other == r })
	_ = os.Remove(a.z.cat.file(o, r)) // nothing refers to it any more
	a.z.cat.save(record{Object: o})
	return answer{status: 1}, nil
}

// touchInput is the input of call 20007.
type touchInput struct {
	Path    string `json:"logical_path"`
	Options struct {
		NoCreate bool     `json:"no_create"`
		Replica  *int     `json:"replica_number"`
		Resource string   `json:"leaf_resource_name"`
		Seconds  *float64 `json:"seconds_since_epoch"`
		Ref      string   `json:"reference"`
	} `json:"options"`
}

// touch is call 20007: sets the modify time, of collections too, in whole seconds; an
// object that is not there is made.
func (a *agent) touch(in *touchInput) (answer, error) {
	if err := checkPath(in.Path); err != nil {
		return answer{}, err
	}
	when := a.z.now()
	if in.Options.Seconds != nil {
		when = int64(*in.Options.Seconds)
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if x := a.z.cat.collAt(in.Path); x != nil && a.seesColl(x) {
		if err := a.may(x.Access, levelModify); err != nil {
			return answer{}, err
		}
		a.z.cat.touchColl(x, when)
		return answer{}, nil
	}
	o, err := a.find(in.Path)
	if err != nil && in.Options.NoCreate {
		return answer{}, nil
	}
	if err != nil {
		d, err := a.openNew(&wire.DataObjInp{Path: in.Path, CreateMode: 0o644, OpenFlags: wire.OpenReadWrite | wire.OpenCreate})
		if err != nil {
			return answer{}, err
		}
		delete(a.descs, d.fd)
		_ = d.file.Close()
		a.z.finish(d.obj, "")
		o = d.obj
	}
	if err := a.may(o.Access, levelModify); err != nil {
		return answer{}, err
	}
	if o.writing != nil {
		return answer{}, code(wire.CodeObjectLocked)
	}
	o.best().Modify = when
	a.z.cat.save(record{Object: o})
	return answer{}, nil
}
