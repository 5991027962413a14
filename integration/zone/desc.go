package zone

import (
	"bytes"
	"errors"
	"io"
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

// Codes of calls on what is not an open descriptor.
const (
	descRange  = code(wire.CodeDescriptorRange) // a number that cannot be one
	descClosed = code(-345000)                  // BAD_INPUT_DESC_INDEX
	// closedTwice is what a close of a closed descriptor gets.
	closedTwice = code(wire.CodeInvalidInput)
	maxDesc     = 1026
)

// desc returns an open descriptor.
func (a *agent) desc(fd int) (*desc, error) {
	if fd < 3 || fd >= maxDesc {
		return nil, descRange
	}
	d := a.descs[fd]
	if d == nil {
		return nil, descClosed
	}
	return d, nil
}

// read is call 675. Nothing at the end of the file is status 0.
func (a *agent) read(in *wire.OpenedDataObjInp) (answer, error) {
	d, err := a.desc(in.Desc)
	if err != nil {
		return answer{}, err
	}
	if d.in.OpenFlags&3 == wire.OpenWriteOnly {
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

// readBody reads the whole byte stream of a request: nothing is carried out before.
func readBody(r *wire.Request) ([]byte, error) {
	data := make([]byte, 0, min(r.Size, 4<<20)+bytes.MinRead) // or ReadFrom would make it grow
	buf := bytes.NewBuffer(data)
	n, err := buf.ReadFrom(r.Body)
	if err == nil && n != int64(r.Size) {
		err = io.ErrUnexpectedEOF
	}
	return buf.Bytes(), err // an error: the client is gone
}

// write is call 676.
func (a *agent) write(in *wire.OpenedDataObjInp, r *wire.Request) (answer, error) {
	data, err := readBody(r)
	if err != nil {
		return answer{}, err
	}
	d, err := a.desc(in.Desc)
	if err != nil {
		return answer{}, err
	}
	if d.write == nil {
		return answer{}, code(wire.CodeUnixWrite - int(syscall.EBADF))
	}
	n, err := d.append(data)
	if err != nil {
		return answer{}, errnoCode(wire.CodeUnixWrite, err)
	}
	return answer{status: n}, nil
}

// append writes where the descriptor stands, or at the end if it was opened so.
func (d *desc) append(data []byte) (int, error) {
	if d.in.OpenFlags&wire.OpenAppend != 0 {
		if _, err := d.file.Seek(0, io.SeekEnd); err != nil {
			return 0, err
		}
	}
	n, err := d.file.Write(data)
	if n > 0 {
		d.wrote = max(d.wrote, 0) + int64(n)
	}
	return n, err
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
