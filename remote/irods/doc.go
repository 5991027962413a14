// Package irods is the adapter for iRODS zones: a branch is a collection.
//
// # Connections
//
// Each connection is a process and a database connection at the server, so the pool
// starts with one, makes another only for a call that has waited for a good part of
// what making it takes, and gives back what is idle. When the server refuses more, it
// works with what it has.
//
// # Questions
//
// What the catalog knows is asked for with GenQuery, several questions in one round
// trip. An object is one entry, whatever the number of its replicas: the first good
// replica counts, and is the one that is read if others are stale. While a replica is
// being written the object is locked for everybody else (Locked). One with stale replicas
// only is torn: its writer died, and what it holds may be a mixture (Corrupt when it is
// read). A torn object is listed, can be removed and can be written again. One whose
// server died while it was written stays locked until an administrator sees to it.
//
// What the user may do is the highest level that the user or a group has. The owner's
// name says nothing of it.
//
// # Versions
//
// The version of an object is its identifier, size and checksum, or modify time if the
// checksum is missing or weak. Times are whole seconds: without a checksum, the version of
// an object that was changed just now is provisional. The adapter has the server keep a
// checksum of all that it writes.
//
// # What a zone has no place for
//
// Permission bits that differ from those at the object's making and the targets of
// symbolic links are AVUs, meshmount:mode and meshmount:symlink. All other AVUs are
// extended attributes, user.irods.NAME.
package irods
