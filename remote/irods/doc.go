// Package irods is the adapter for iRODS zones: a branch is a collection.
//
// # Connections
//
// Each connection is a process and a database connection at the server, so the pool
// starts with one, makes another only for a call that has waited for a good part of
// what making it takes, and gives back what is idle. Where the server is far away, several
// are made at once when reads pile up. When the server refuses more, it works with what it
// has.
//
// # Reads
//
// Reads and listings share connections: several are under way on each, so that none waits
// for a round trip of another. A cold object is opened, read and closed in one round trip
// of three calls, and a range of one opened, read and its version asked for in one; the
// number of the descriptor is guessed, and a wrong guess is noticed. An object of which a
// range was read stays open for a while. Measured over 50 ms and 1.2 Gbit/s on a busy
// machine, with four connections before the embedded zone: 570 objects of 16 KiB a second
// by 64 readers and 150 by 8, 54 ms to the first byte, 130 to 142 MB/s by read-ahead where
// plain TCP comes to 146, a tree of 1,000 objects in 10 collections listed in 0.2 s.
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
// # Writes
//
// A new object may be sent while it is still being written (PutGrowing), and parts of one
// that is there may be changed (Patch), but not atomically: see PutOptions.Redo for what
// is left if the writer dies. A large new object can be read by all before the server has
// its checksum, with which the upload is complete. Measured over 50 ms and 1.2 Gbit/s before
// the embedded zone, with four connections: 1 GiB is there after 7.60 to 7.68 s where plain
// TCP takes 7.26 to 7.34 s, and complete 0.9 s later.
//
// Many small new files go as one archive, which the server extracts in place (PutBatch).
// Measured over 50 ms on a busy machine before the embedded zone, 1,000 files of 16 KiB:
// 17 s one by one by 16 callers, 4 s in one batch. A real server takes 4 ms for each file
// of an archive and 22 ms and more for each that comes alone. What a batch keeps on the
// server until it is complete is never listed, and swept after a crash.
//
// # Changes
//
// The catalog has no journal, and the time of a collection tells less than that of a
// directory. Backend.Changed says what is told and what is not.
//
// # What a zone has no place for
//
// Permission bits that differ from those at the object's making and the targets of
// symbolic links are AVUs, meshmount:mode and meshmount:symlink. All other AVUs are
// extended attributes, user.irods.NAME.
package irods
