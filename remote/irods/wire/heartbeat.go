package wire

import (
	"context"
	"fmt"
	"io"
	"net"
)

// Heartbeat asks the server at address whether it is alive. It needs no credentials
// and leaves no connection behind, but costs the server a process.
func Heartbeat(ctx context.Context, address string) error {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return &BrokenError{Err: err}
	}
	defer func() { _ = nc.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	if err := heartbeat(nc); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return &BrokenError{Err: err}
	}
	return nil
}

// heartbeatFrame is the whole request; its header has no lengths.
var heartbeatFrame = "\x00\x00\x00\x33<MsgHeader_PI><type>HEARTBEAT</type></MsgHeader_PI>"

func heartbeat(rw io.ReadWriter) error {
	if _, err := io.WriteString(rw, heartbeatFrame); err != nil {
		return err
	}
	var answer [len(typeHeartbeat)]byte
	if _, err := io.ReadFull(rw, answer[:]); err != nil {
		return unexpected(err)
	}
	if string(answer[:]) != typeHeartbeat {
		return fmt.Errorf("%w: %q for a heart-beat", ErrFrame, answer[:])
	}
	return nil
}
