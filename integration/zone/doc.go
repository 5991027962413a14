// Package zone is an embedded iRODS zone for tests and demos: one server that holds the
// catalog and the data, and speaks the native protocol (XML packing, TLS, both flows of
// native authentication, PAM).
//
// It behaves as a real iRODS 5.0.2 was measured to behave, its traps included: a replica
// that is being written locks everybody else out; whoever hangs up without closing
// leaves a stale one; renaming with operation 11 passes the lock; extraction of a
// truncated archive succeeds; a removal stops unless its progress is answered. Where
// nothing was measured, the code follows the server's source.
//
// # Data
//
// Everything lies below Options.Dir and survives a restart:
//
//	catalog.log       users, resources, collections, objects: one JSON record a line
//	vault/RESOURCE/   the bytes, one file for each replica, named by object and replica
//	tls/              the certificate authority made for Options.TLS
//
// The catalog is appended to with each change and written anew at the start. A replica
// that was being written when the zone died is stale afterwards.
//
// # Agents
//
// Federate joins zones; see there for what their agents pass on to each other.
//
// As with the real server each connection has an agent of its own, with its own
// descriptors and queries. One lock guards the catalog; it is never held while bytes
// move.
package zone
