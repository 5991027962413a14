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
// that lets others write to the same replica. The names of all fields are the real ones.
func (a *agent) descInfo(in *fdInput) (answer, error) {
	d := a.descs[in.FD]
	if d == nil {
		return answer{}, code(wire.CodeInvalidInput)
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	token, openType := "", 2
	switch {
	case d.created:
		token, openType = d.write.token, 1
	case d.write != nil:
		token, openType = d.write.token, 3
	}
	out, err := wire.NewJSON(map[string]any{
		"bytes_written": d.wrote, "checksum": "", "checksum_flag": 0, "copies_needed": 0, "data_size": -1,
		"data_object_info": a.objectInfo(d), "data_object_input": inputInfo(d.in), "data_object_input_replica_flag": 1,
		"in_pdmo": "", "in_use": true, "l3descInx": 3, "lock_file_descriptor": 0, "open_type": openType,
		"operation_status": 0, "operation_type": d.in.OprType, "other_data_object_info": nil, "plugin_data": nil,
		"purge_cache_flag": 0, "remote_l1_descriptor_index": 0, "remote_zone_host": nil,
		"replica_status": d.atOpen.Status, "replica_token": token, "replication_data_object_info": nil,
		"source_l1_descriptor_index": 0, "stage_flag": 0,
	})
	if err == nil {
		out.Data = append(out.Data, 0)
	}
	return answer{out: out}, err
}

// objectInfo describes the replica of a descriptor as it was when it was opened.
func (a *agent) objectInfo(d *desc) map[string]any {
	o, r := d.obj, &d.atOpen
	name, zone := owner(o.Owner, a.z.opts.Name)
	return map[string]any{
		"checksum": r.Checksum, "collection_id": o.CollID, "condition_input": []any{}, "data_access": "",
		"data_access_index": 0, "data_comments": "", "data_create": stamp(r.Create), "data_expiry": stamp(0),
		"data_id": o.ID, "data_map_id": 0, "data_mode": o.Mode, "data_modify": stamp(r.Modify),
		"data_owner_name": name, "data_owner_zone": zone, "data_size": r.Size, "data_type": o.Type,
		"destination_resource_name": "", "file_path": a.z.cat.file(o, r), "flags": 0, "in_pdmo": "",
		"is_replica_current": r.Status == good, "next": nil, "object_path": o.path(), "other_flags": 0,
		"registering_user_id": 0, "replica_number": r.Num, "replica_status": r.Status,
		"resource_hierarchy": d.resource.Name, "resource_id": d.resource.ID, "resource_name": d.resource.Name,
		"special_collection": nil, "status_string": "", "sub_path": "", "version": "", "write_flag": 0,
	}
}

func inputInfo(in *wire.DataObjInp) map[string]any {
	cond := []map[string]string{}
	for _, pair := range in.Cond {
		cond = append(cond, map[string]string{"key": pair.Key, "value": pair.Value})
	}
	return map[string]any{
		"condition_input": cond, "create_mode": in.CreateMode, "data_size": in.DataSize,
		"number_of_threads": in.NumThreads, "object_path": in.Path, "offset": in.Offset, "open_flags": in.OpenFlags,
		"operation_type": in.OprType, "special_collection": nil,
	}
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

// cut changes the size of an object, or nothing if that is the size in the catalog.
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
		return nil, code(wire.CodeHierarchy)
	}
	r, err := a.named(o, &in.Cond)
	if err != nil {
		return nil, err
	}
	if in.DataSize < 0 {
		return nil, code(wire.CodeInvalidInput)
	}
	if r.Size == in.DataSize {
		return r, nil
	}
	if err := os.Truncate(a.z.cat.file(o, r), in.DataSize); err != nil {
		return nil, errnoCode(wire.CodeUnixTruncate, err)
	}
	for _, other := range o.Replicas {
		other.Status = stale
	}
	r.Status, r.Size, r.Checksum, r.Modify = good, in.DataSize, "", a.z.now()
	a.z.cat.save(record{Object: o})
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
	r, err := a.named(o, &in.Cond)
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
