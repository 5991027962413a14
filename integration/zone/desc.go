package zone

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// maxRead is the most that one call reads.
const maxRead = 256 << 20

// errnoCode adds the operating system's error to a code.
func errnoCode(base int, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return code(base - int(errno))
	}
	return code(base)
}

// desc returns an open descriptor.
func (a *agent) desc(fd int) (*desc, error) {
	d := a.descs[fd]
	if d == nil {
		return nil, code(wire.CodeDescriptorRange)
	}
	return d, nil
}

// read is call 675. Nothing at the end of the file is status 0.
func (a *agent) read(in *wire.OpenedDataObjInp) (answer, error) {
	d, err := a.desc(in.Desc)
	if err != nil {
		return answer{}, err
	}
	if d.flags&3 == wire.OpenWriteOnly {
		return answer{}, code(wire.CodeUnixRead - int(syscall.EBADF))
	}
	if in.Len < 0 || in.Len > maxRead {
		return answer{}, code(wire.CodeInvalidInput)
	}
	buf := make([]byte, d.room(in.Len))
	n, err := io.ReadFull(d.file, buf)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return answer{}, errnoCode(wire.CodeUnixRead, err)
	}
	return answer{status: n, body: buf[:n]}, nil
}

// room returns how much of n bytes the rest of the file can fill.
func (d *desc) room(n int) int {
	at, err := d.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return n
	}
	info, err := d.file.Stat()
	if err != nil {
		return n
	}
	return int(min(int64(n), max(info.Size()-at, 0)))
}

// write is call 676.
func (a *agent) write(in *wire.OpenedDataObjInp, r *wire.Request) (answer, error) {
	d, err := a.desc(in.Desc)
	if err != nil {
		return answer{}, err
	}
	if d.write == nil {
		return answer{}, code(wire.CodeUnixWrite - int(syscall.EBADF))
	}
	if d.flags&wire.OpenAppend != 0 {
		if _, err := d.file.Seek(0, io.SeekEnd); err != nil {
			return answer{}, errnoCode(wire.CodeUnixWrite, err)
		}
	}
	a.z.mu.Lock()
	d.write.modified = true
	a.z.mu.Unlock()
	n, err := io.Copy(d.file, r.Body)
	if err != nil {
		return answer{}, err // the client is gone, or the disk is full
	}
	if n != int64(r.Size) {
		return answer{}, io.ErrUnexpectedEOF
	}
	return answer{status: int(n)}, nil
}

// seek is call 674. A descriptor for reading does not go past the size in the catalog.
func (a *agent) seek(in *wire.OpenedDataObjInp) (answer, error) {
	d, err := a.desc(in.Desc)
	if err != nil {
		return answer{}, err
	}
	if in.Whence < io.SeekStart || in.Whence > io.SeekEnd {
		return answer{}, code(wire.CodeInvalidInput)
	}
	at, err := d.file.Seek(in.Offset, in.Whence)
	if err != nil {
		return answer{}, errnoCode(wire.CodeUnixSeek, err)
	}
	a.z.mu.Lock()
	size := d.replica.Size
	a.z.mu.Unlock()
	if d.write == nil && at > size {
		if at, err = d.file.Seek(size, io.SeekStart); err != nil {
			return answer{}, errnoCode(wire.CodeUnixSeek, err)
		}
	}
	return answer{out: &wire.FileLseekOut{Offset: at}}, nil
}

// close is call 673. A writer's close updates the catalog and unlocks the object, even
// if other writers have not closed.
func (a *agent) close(in *wire.OpenedDataObjInp) (answer, error) {
	d, err := a.desc(in.Desc)
	if err != nil {
		return answer{}, err
	}
	delete(a.descs, d.fd)
	sum := a.z.checksumAtClose(d)
	a.z.mu.Lock()
	defer a.z.mu.Unlock()
	_ = d.file.Close()
	if d.active() {
		d.write.writers--
		a.z.finish(d.obj, sum)
	}
	return answer{}, nil
}

// active tells whether the descriptor takes part in the writing that locks the object.
func (d *desc) active() bool { return d.write != nil && d.obj.writing == d.write }

// checksumAtClose computes the checksum that was asked for at open.
func (z *Zone) checksumAtClose(d *desc) string {
	z.mu.Lock()
	wanted := d.active() && d.write.checksum
	z.mu.Unlock()
	if !wanted {
		return ""
	}
	sum, _ := checksumFile(d.file.Name()) // unreadable: none
	return sum
}

// finish ends the writing of an object: the written replica is good and the others are
// stale, or all as before if nothing was written.
func (z *Zone) finish(o *object, checksum string) {
	w := o.writing
	o.writing = nil
	if o.gone {
		return
	}
	changed := w.modified || w.created
	for _, r := range o.Replicas {
		switch {
		case changed && r != w.replica:
			r.Status = stale
		case changed:
			r.Status, r.Size, r.Checksum, r.Modify = good, z.sizeOf(o, r), checksum, z.now()
		default:
			r.Status = r.before
			if checksum != "" && r == w.replica {
				r.Checksum = checksum
			}
		}
	}
	z.cat.save(record{Object: o})
}

func (z *Zone) sizeOf(o *object, r *replica) int64 {
	info, err := os.Stat(z.cat.file(o, r))
	if err != nil {
		return 0
	}
	return info.Size()
}

// abandon ends what a descriptor does when its agent goes away without closing it: a
// replica that was being written is stale, with the bytes that have come. The size of
// one that existed before stays as it was.
func (z *Zone) abandon(d *desc) {
	_ = d.file.Close()
	if !d.active() {
		return
	}
	o, w := d.obj, d.write
	o.writing = nil
	if o.gone {
		return
	}
	for _, r := range o.Replicas {
		if r != w.replica {
			r.Status = r.before
			continue
		}
		r.Status, r.Checksum = stale, ""
		if w.created {
			r.Size = z.sizeOf(o, r)
		}
	}
	z.cat.save(record{Object: o})
}
