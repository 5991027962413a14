package zone

import (
	"io"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// put is call 606 with the data in the request. A checksum that does not fit is an
// error, but the object stays, with the bytes as received and their true checksum.
func (a *agent) put(in *wire.DataObjInp, r *wire.Request) (answer, error) {
	if !in.Cond.Has(wire.KwDataIncluded) {
		return answer{}, code(wire.CodeUnknownAPI) // a parallel transfer over other ports
	}
	d, err := a.openForPut(in)
	if err != nil {
		return answer{}, err
	}
	n, err := io.Copy(d.file, r.Body)
	if err != nil {
		return answer{}, err // the client is gone; leave finishes the object
	}
	if n != int64(r.Size) {
		return answer{}, io.ErrUnexpectedEOF
	}
	want, verify := in.Cond.Get(wire.KwVerifyChecksum)
	fits := true
	if verify {
		if fits, err = sameChecksum(d.file.Name(), want); err != nil {
			return answer{}, errnoCode(wire.CodeUnixRead, err)
		}
	}
	if _, err := a.close(&wire.OpenedDataObjInp{Desc: d.fd}); err != nil {
		return answer{}, err
	}
	if !fits {
		return answer{}, code(wire.CodeChecksum)
	}
	return answer{}, nil
}

func (a *agent) openForPut(in *wire.DataObjInp) (*desc, error) {
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	if o := a.z.cat.objectAt(in.Path); o != nil && !in.Cond.Has(wire.KwForce) {
		return nil, code(wire.CodeOverwriteNoForce)
	}
	open := *in
	open.OpenFlags = wire.OpenReadWrite | wire.OpenCreate | wire.OpenTruncate
	d, err := a.openObject(&open)
	if err == nil {
		d.write.checksum = d.write.checksum || in.Cond.Has(wire.KwVerifyChecksum)
	}
	return d, err
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
	_, err = io.Copy(to.file, from.file)
	if _, closing := a.close(&wire.OpenedDataObjInp{Desc: to.fd}); err == nil {
		err = closing
	}
	return answer{}, err
}
