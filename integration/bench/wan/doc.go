// Package wan is a TCP proxy that makes a server on this machine look as if it were at
// the far end of a wide-area network.
//
// What crosses it, in either direction,
//
//   - waits for its connection's window: a byte counts from when the proxy takes it until
//     one half of the round trip after it was delivered, as unacknowledged data would, so
//     that one connection never carries more than about window/RTT bytes per second;
//   - then for the link, which all connections of a direction share, first come first
//     served in chunks of at most 64 KiB;
//   - and then travels for half of the round trip. Any number of chunks are on their way
//     at the same time.
//
// A new connection also waits one round trip before its first byte upstream, as for the
// handshake. Nothing is lost, reordered or made slower at a connection's start.
//
// A Path counts connections, bytes and, by a mark in the stream upstream, requests.
package wan
