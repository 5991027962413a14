package zone

import (
	"io"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// put is call 606 with the data in the request. The replica is good afterwards, also if
// there was no data, and the others are stale. A size or checksum that does not fit is an
// error, but the object stays, stale, with the bytes as received; in the case of the
// checksum with their size and true checksum.
func (a *agent) put(in *wire.DataObjInp, r *wire.Request) (answer, error) {
	if !in.Cond.Has(wire.KwDataIncluded) {
		return answer{}, code(wire.CodeUnknownAPI) // a parallel transfer over other ports
	}
	data, err := readBody(r)
	if err != nil {
		return answer{}, err
	}
	d, err := a.openForPut(in)
	if err != nil {
		return answer{}, err
	}
	delete(a.descs, d.fd)
	defer func() { _ = d.file.Close() }()
	_, err = d.append(data)
	sum, mismatch := d.checksumAtPut()
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	switch {
	case err != nil:
		a.z.spoil(d, "")
		return answer{}, errnoCode(wire.CodeUnixWrite, err)
	case in.DataSize > 0 && in.DataSize != int64(len(data)):
		a.z.settle(d, stale, restored)
		a.z.cat.save(record{Object: d.obj})
		return answer{}, copyLength
	case mismatch:
		a.z.spoil(d, sum)
		return answer{}, code(wire.CodeChecksum)
	}
	d.wrote = max(d.wrote, 1) // no data is an overwrite too
	a.z.finish(d, sum)
	a.z.cat.touchColl(d.obj.coll, a.z.now()) // an overwrite too
	return answer{}, nil
}

// copyLength is SYS_COPY_LEN_ERR.
const copyLength = code(-27000)

// checksumAtPut is checksumAtClose for a put, which computes one to verify even if none
// was given.
func (d *desc) checksumAtPut() (sum string, mismatch bool) {
	if !d.in.Cond.Has(wire.KwVerifyChecksum) || d.in.Cond.Has(wire.KwRegChecksum) {
		return d.checksumAtClose()
	}
	want, _ := d.in.Cond.Get(wire.KwVerifyChecksum)
	sum, _ = checksumLike(d.file.Name(), want)
	return sum, sum != want
}

func (a *agent) openForPut(in *wire.DataObjInp) (*desc, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	open := *in
	open.OprType = wire.OprPut
	open.OpenFlags = wire.OpenReadWrite | wire.OpenCreate | wire.OpenTruncate
	if o := a.z.cat.objectAt(in.Path); o != nil {
		if !in.Cond.Has(wire.KwForce) {
			return nil, code(wire.CodeOverwriteNoForce)
		}
		name, ok := in.Cond.Get(wire.KwDestRescName)
		if resc := a.z.cat.resourceNamed(name); ok && resc != nil && o.on(resc) == nil {
			return nil, code(wire.CodeHierarchy) // cannot put to another resource
		}
	}
	return a.openObject(&open)
}

// get is call 608 with the data in the reply.
func (a *agent) get(in *wire.DataObjInp) (answer, error) {
	a.z.mu.Lock()
	open := *in
	open.OpenFlags = wire.OpenReadOnly
	d, err := a.openObject(&open)
	var size int64
	if err == nil {
		size = d.replica.Size
	}
	a.z.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	if size > maxRead {
		size = maxRead // larger ones would go over other ports
	}
	ans, err := a.read(&wire.OpenedDataObjInp{Desc: d.fd, Len: int(size)})
	if _, closing := a.close(&wire.OpenedDataObjInp{Desc: d.fd}); err == nil {
		err = closing
	}
	ans.out = &wire.PortalOprOut{}
	return ans, err
}

// copy is call 696.
func (a *agent) copy(in *wire.DataObjCopyInp) (answer, error) {
	in.Src.OpenFlags = wire.OpenReadOnly
	a.z.mu.Lock()
	from, err := a.openObject(&in.Src)
	a.z.mu.Unlock()
	if err != nil {
		return answer{}, err
	}
	defer func() { _, _ = a.close(&wire.OpenedDataObjInp{Desc: from.fd}) }()
	to, err := a.openForPut(&in.Dst)
	if err != nil {
		return answer{}, err
	}
	to.wrote, err = io.Copy(to.file, from.file)
	if _, closing := a.close(&wire.OpenedDataObjInp{Desc: to.fd}); err == nil {
		err = closing
	}
	return answer{}, err
}
