// Package wire speaks the iRODS protocol, XML packing, from both ends: Dial and
// Conn are the client, Accept and Session the server. Messages, framing and tables
// of numbers are shared.
//
// The facts come from conversations recorded with iRODS 5.0.2 (testdata) and from
// the packing instructions of its public headers (rodsPackInstruct.h and the
// headers of the API calls).
//
// # Framing
//
// A message is a 4-byte big-endian length, a MsgHeader_PI of that many bytes, and up
// to three parts whose lengths stand in the header, in this order: msg (a packed
// structure), error (an RError_PI) and bs (raw bytes, the "byte stream"). In a
// request the header's intInfo is the number of the API call, in a reply the status:
// negative is an error code (see Error), what else it means depends on the call.
//
// # Packing
//
// The packing looks like XML and is not: there are no attributes, no character
// references but the five of Escape, and bytes that XML forbids (control characters,
// bytes that are not UTF-8) stand as they are. So the package has its own codec. It
// gives back every byte except NUL, which a C string cannot hold. It is tolerant of
// white space and of elements that it does not know, and strict about those that
// must be there: a missing or garbled field is an error, never a zero.
//
// Peers older than 4.2.9 mix up two quotation marks; they are not supported.
//
// Decoded strings share the memory of the whole message: clone those that are kept
// for long.
//
// # Secrets
//
// Native authentication proves the password by a digest; no message holds it. PAM
// needs it on the wire and is refused unless TLS is on, before the password is even
// asked for.
//
// # Concurrency
//
// A connection does one thing at a time, in both directions: the protocol is strictly
// serial. A second call while one is under way fails with ErrBusy and harms nothing.
// Close may be called at any time.
package wire
