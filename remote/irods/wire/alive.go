package wire

import "syscall"

// Alive tells whether the server has not hung up and has not said anything unasked.
// It looks at the socket without waiting, for connections that have lain idle. A
// connection on which a call is under way is alive.
func (c *Conn) Alive() bool {
	if c.broken.Load() || c.closed.Load() {
		return false
	}
	if !c.busy.CompareAndSwap(false, true) {
		return true
	}
	defer c.busy.Store(false)
	if c.r.Buffered() > 0 {
		return false
	}
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		// Under TLS something may lie there that is not for us, such as a session ticket.
		quiet = err == syscall.EAGAIN || n > 0 && c.tls != nil
		return true
	})
	return err == nil && quiet
}
