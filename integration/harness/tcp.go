package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// States of a TCP connection, as /proc/net/tcp shows them (tcp_states.h).
const (
	tcpFinWait1  = "04"
	tcpFinWait2  = "05"
	tcpCloseWait = "08"
	tcpClosing   = "0B"
)

// Abandoned counts the connections to some ports of this machine that the client has
// closed, or lost with its process, and the server has not: it may still work on
// requests that came over them.
func Abandoned(ports ...int) (int, error) {
	n := 0
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if strings.HasSuffix(table, "6") && noTCP6() {
			continue
		}
		file, err := os.Open(table)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return 0, err
		}
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if abandoned(strings.Fields(lines.Text()), ports) {
				n++
			}
		}
		if err := errors.Join(lines.Err(), file.Close()); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// noTCP6 tells whether there are no sockets over IPv6: to find none takes the kernel
// milliseconds in the table itself, as it looks through all of IPv4's for that.
func noTCP6() bool {
	text, err := os.ReadFile("/proc/net/sockstat6")
	return err == nil && strings.Contains(string(text), "TCP6: inuse 0\n")
}

// abandoned looks at one line: number, local address, remote address, state, ... The
// client's end counts, too, because the server does not hear of the end of a connection
// as long as it has not read what was sent before.
func abandoned(words []string, ports []int) bool {
	if len(words) < 4 {
		return false
	}
	switch words[3] {
	case tcpCloseWait:
		return slices.Contains(ports, portOf(words[1]))
	case tcpFinWait1, tcpFinWait2, tcpClosing:
		return slices.Contains(ports, portOf(words[2]))
	}
	return false
}

// portOf returns the port of an address in hexadecimal digits, -1 if it has none.
func portOf(address string) int {
	_, digits, _ := strings.Cut(address, ":")
	port, err := strconv.ParseUint(digits, 16, 16)
	if err != nil {
		return -1
	}
	return int(port)
}

// Settled returns when no server at one of the ports has an abandoned connection any
// more: what a killed client has asked for is done or dropped.
func Settled(ctx context.Context, ports ...int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := Abandoned(ports...)
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the servers at ports %d still have %d abandoned connections: %w", ports, n, ctx.Err())
		case <-tick.C:
		}
	}
}
