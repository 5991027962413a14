package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxAddress is the longest name of a socket, less the NUL byte at its end (unix(7)).
const maxAddress = 107

// place is the address of a socket. Close it after use of addr.
type place struct {
	addr *net.UnixAddr
	dir  int // descriptor of the directory, -1 if addr does without
}

// locate returns an address for a socket with that name, however long it is.
func locate(name string) (place, error) {
	p := place{&net.UnixAddr{Name: name, Net: "unix"}, -1}
	if len(name) <= maxAddress {
		return p, nil
	}
	fd, err := unix.Open(filepath.Dir(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return p, &os.PathError{Op: "open", Path: filepath.Dir(name), Err: err}
	}
	p.dir = fd
	p.addr.Name = filepath.Join("/proc/self/fd", strconv.Itoa(fd), filepath.Base(name))
	if len(p.addr.Name) > maxAddress {
		p.close()
		return p, &os.PathError{Op: "socket", Path: name, Err: unix.ENAMETOOLONG}
	}
	return p, nil
}

func (p place) close() {
	if p.dir >= 0 {
		_ = unix.Close(p.dir)
	}
}

// errPeer is the error of a process of another user at the other end.
var errPeer = errors.New("the process belongs to another user")

// peer returns the user of the process at the other end of a connection.
func peer(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	ctrlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(ctrlErr, err); err != nil {
		return -1, fmt.Errorf("user at the other end: %w", err)
	}
	return int(cred.Uid), nil
}

// trusted tells whether a process of this user may talk with one of user uid.
func trusted(own, uid int) bool { return uid == own || uid == 0 }
