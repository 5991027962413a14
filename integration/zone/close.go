package zone

import (
	"os"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// close is call 673. A writer's close updates the catalog and unlocks the object, even
// if other writers have not closed. What it sets depends on what its own descriptor did:
// if that wrote nothing, the others' bytes change the size only.
func (a *agent) close(in *wire.OpenedDataObjInp) (answer, error) {
	d, err := a.desc(in.Desc)
	if err == descClosed {
		err = closedTwice
	}
	if err != nil {
		return answer{}, err
	}
	delete(a.descs, d.fd)
	defer func() { _ = d.file.Close() }()
	if d.write == nil {
		return answer{}, nil
	}
	sum, mismatch := d.checksumAtClose()
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if mismatch {
		a.z.spoil(d, sum)
		return answer{}, code(wire.CodeChecksum)
	}
	if size := a.z.sizeOf(d.obj, d.replica); d.unexpected(size) && !d.obj.gone {
		a.z.cutShort(d, size)
		return answer{status: int(int32(size))}, nil
	}
	a.z.finish(d, sum)
	return answer{}, nil
}

// unexpected tells whether a replica has another size than the one that was announced when
// it was opened.
func (d *desc) unexpected(size int64) bool { return d.in.DataSize > 0 && d.in.DataSize != size }

// cutShort ends a descriptor whose replica has not the size that was announced: the
// replica is stale, with the size that it has, and the others are as before. By the source
// the status of the call is that size, as far as 32 bits hold it.
func (z *Zone) cutShort(d *desc, size int64) {
	d.exit()
	r := d.replica
	r.Size = size
	if d.wrote >= 0 {
		r.Checksum = ""
	}
	z.settle(d, stale, restored)
	z.cat.save(record{Object: d.obj})
}

// checksumAtClose computes the checksum that was asked for at open, and compares it with
// the one to verify.
func (d *desc) checksumAtClose() (sum string, mismatch bool) {
	_, register := d.in.Cond.Get(wire.KwRegChecksum)
	want, _ := d.in.Cond.Get(wire.KwVerifyChecksum)
	if !register && want == "" {
		return "", false
	}
	sum, _ = checksumLike(d.file.Name(), want) // unreadable: none
	return sum, !register && sum != want
}

// finish ends what a descriptor did: if it made the replica or wrote, that is good and
// the others are stale; otherwise all statuses and the time are as before, even if the
// open has truncated.
func (z *Zone) finish(d *desc, checksum string) {
	d.exit()
	o, r := d.obj, d.replica
	if o.gone {
		return
	}
	r.Size = z.sizeOf(o, r)
	changed := d.created || d.wrote > 0
	switch {
	case changed:
		z.settle(d, good, stale)
		r.Modify, r.Checksum = z.now(), checksum
	case !d.joined: // one that joined leaves the lock alone
		z.settle(d, d.write.before[r], restored)
	}
	if checksum != "" {
		r.Checksum = checksum
	}
	z.cat.save(record{Object: o})
}

// restored stands for the statuses before the lock.
const restored = -1

// settle gives the written replica and the others their statuses and ends the lock,
// whoever holds it.
func (z *Zone) settle(d *desc, status, others int) {
	o, w := d.obj, d.write
	o.writing = nil
	for _, r := range o.Replicas {
		before, known := w.before[r]
		switch {
		case r == d.replica:
			r.Status = status
		case others != restored:
			r.Status = others
		case known:
			r.Status = before
		}
	}
}

// spoil ends a descriptor whose bytes are not what the client has announced: the replica
// is stale, with its size and true checksum, and the others are as before.
func (z *Zone) spoil(d *desc, checksum string) {
	d.exit()
	if d.obj.gone {
		return
	}
	d.replica.Size, d.replica.Checksum = z.sizeOf(d.obj, d.replica), checksum
	z.settle(d, stale, restored)
	z.cat.save(record{Object: d.obj})
}

func (z *Zone) sizeOf(o *object, r *replica) int64 {
	info, err := os.Stat(z.cat.file(o, r))
	if err != nil {
		return 0
	}
	return info.Size()
}

// abandon ends what a descriptor does when its agent goes away without closing it: a
// replica that was open for writing is stale, with the bytes that have come, even if
// there were none; the others are as before. The size of one that existed before stays
// as it was.
func (z *Zone) abandon(d *desc) {
	_ = d.file.Close()
	d.exit()
	if d.write == nil || d.obj.gone {
		return
	}
	r := d.replica
	if d.created {
		r.Size = z.sizeOf(d.obj, r)
	}
	r.Checksum, r.Modify = "", z.now()
	z.settle(d, stale, restored)
	z.cat.save(record{Object: d.obj})
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

// replicaClose is call 20004: closes without updating the catalog and without unlocking
// the object if it is told so, as all writers but the first one do. Each update makes
// the other replicas stale.
func (a *agent) replicaClose(in *replicaCloseInput) (answer, error) {
	d := a.descs[in.FD]
	if d == nil {
		return answer{}, descClosed
	}
	size := in.UpdateSize == nil || *in.UpdateSize
	status := in.UpdateStatus == nil || *in.UpdateStatus
	if in.ComputeChecksum && !status {
		return answer{}, code(-402000) // USER_INCOMPATIBLE_PARAMS
	}
	delete(a.descs, d.fd)
	defer func() { _ = d.file.Close() }()
	if d.write == nil {
		return answer{}, nil
	}
	sum := ""
	if in.ComputeChecksum {
		sum, _ = checksumFile(d.file.Name()) // unreadable: none
	}
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	d.exit()
	if !d.obj.gone && (size || status) {
		a.z.update(d, size, status)
		if sum != "" {
			d.replica.Checksum = sum
		}
		a.z.cat.save(record{Object: d.obj})
	}
	return answer{}, nil
}

// update is what replicaClose does to the catalog.
func (z *Zone) update(d *desc, size, status bool) {
	r := d.replica
	now := z.sizeOf(d.obj, r)
	changed := now != d.atOpen.Size || d.wrote > 0
	if size {
		r.Size = now
		if changed || d.created && status {
			r.Modify = z.now()
		}
		if changed && !d.created || !status {
			r.Checksum = ""
		}
	}
	switch {
	case !status:
		z.settleOthers(d)
	case changed || d.created:
		z.settle(d, good, stale)
	default:
		z.settle(d, d.write.before[r], stale)
	}
}

// settleOthers makes the other replicas stale and leaves the lock.
func (z *Zone) settleOthers(d *desc) {
	for _, r := range d.obj.Replicas {
		if r != d.replica {
			r.Status = stale
			d.write.before[r] = stale
		}
	}
}
