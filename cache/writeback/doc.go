// Package writeback keeps changes on this node until their servers have them, and brings
// them there.
//
// A Store is a journal and a directory of staging files. A Branch is a remote.Backend that
// shows a remote tree with all changes made through it, most of which its server has yet
// to see. What is committed is in the journal before the call returns; the scheduler
// carries it out behind the program's back, in an order that the server's other users can
// make sense of.
//
// # What is promised
//
// A change that was acknowledged is carried out, or parked where people find it, or met
// somebody else's change and lies beside that. It survives the death of the process
// (always) and of the machine (if it was synced: Commit.Sync, or once the syncer has come
// round, within Options.SyncEvery). Nothing is dropped but by Store.Drop.
//
// # Changes
//
// A change is a put, mkdir, symlink, remove, rename or setattr. Those of one path wait
// for each other, those of a directory's children for the directory, and the removal of a
// directory for what is pending below it. All others go in parallel, as many as the
// server bears (pace).
//
// What sends no content waits for answers only: it has room of its own beside the uploads
// (Policy.Calls). The mode of a directory that was just made is set by a change of its own, later,
// as programs give it another one and a time when all is in it.
//
// New files that are small leave together where the server takes many at a time
// (Policy.Batch, remote.Batcher). That changes nothing of the above: each is a change with its
// own job, which prepares it and writes down what it is about to send; where it would send,
// it waits for the others of its batch, and goes on with its own result. What cannot go in a
// batch goes alone, and so does what has failed in batches a few times.
//
// Changes of attributes wait a moment, too, for others and for the next ones of the same entry,
// and leave together (remote.AttrBatcher). Those of what is pending go with it.
//
// Removals wait a moment for others (Policy.Prune). When a directory is to go and nothing but
// removals is pending below it, all of them are one job, which removes the directory as a whole
// on the condition that nothing is in it but what they are about (remote.Pruner). They end
// together. If the condition does not hold, each goes by itself, for good; after an error that
// may pass they are tried together again, a few times. While a program still removes, the
// directories that went are looked at ahead, where that is of use (remote.Foreseer).
//
// A change that the server cannot have heard of may still be altered without it: a file
// that is written again replaces its put, one that is removed takes it back, one that is
// renamed takes it along, with all of a directory that was made here. As soon as one
// attempt was made, the server may have heard, whatever came back; from then on changes
// only follow each other.
//
// Each change knows the version of the server on which it builds, or the change before it
// that will make one. It is carried out on the condition that this version is still there.
//
// # States
//
//	idle     waits for changes before it, for its time (Policy.Delay, back-off) or for a
//	         free place
//	running  one attempt is under way
//	parked   failed for good: Permission, TooLarge, a name that cannot be... It waits for
//	         Retry or Drop, and what depends on it with it
//	over     done, withdrawn or dropped; not in the journal any more
//
// Errors that may pass (Unavailable, Locked, Corrupt, those without a Kind, all of the way to
// the server) are tried again for ever, with waits that grow to a minute, or as long as the
// server asked for. A server that refuses the secret (Auth) or has no space (NoSpace) holds
// its branch: hardly anything is sent until a single attempt has gone well, and NoSpace is
// told to those who write (Branch.Full).
//
// A put that finds another version than its own (Conflict, Exist) compares bytes first: an
// attempt before may have stored them, and its answer may have been lost. What attempts may
// have stored that is not wanted any more are ghosts: size and CRC-32C of a content, or of the
// parts of it that were written here (digest). They are in the journal before the attempt
// begins, go with the change and on to those that follow it, and survive restarts. Very large
// files that were not written in order have no digest; those are known by size and time, if a
// time was to be stored. What is none of these is somebody else's change; ours goes beside it
// (ConflictPath).
//
// # Staging files
//
// A file is written where it is staged, also after its commit: as on a local disk, a crash
// may leave what came after the last commit, or not. While the content is sent, it is
// pinned: a write to what is being sent tears the attempt, which begins anew later; after
// three times the writer is held up instead. Bytes that were never written are holes over
// the server's version; they are fetched when they are read, and before the upload where
// the server cannot take ranges alone (remote.Patcher). A file that nobody needs any more is
// kept empty under another name, and used again (spares).
//
// New files of up to 64 KiB lie side by side in shared files of 1 MiB (slots). A place is given
// out once; a content that outgrows its place moves, and stays where it was as well until it is
// not needed at all; a shared file goes when nothing in it is needed. So whatever the journal
// says after a crash, it never finds other bytes there.
//
// A large new file that is written in order is sent while it grows (remote.GrowingPutter);
// its commit then only waits for the end of that.
//
// # Crash points
//
// What a process leaves that dies at any moment, and why doing it again is harmless:
//
//   - Before the record of a commit: a staging file that no record names. The next Open
//     removes it.
//   - After the record: the change. It is carried out by the next process, after a moment
//     (Options.Grace): requests of the one before may still be on their way.
//   - In the middle of an attempt: the server has the old or the new content, or (zones) a
//     torn object, which PutOptions.Redo may replace. A chunked upload goes on where it was
//     (PutOptions.Resume), unless the content was touched since: then its name was dropped
//     from the journal before the write.
//   - After the server's answer, before the record of the end: the change is carried out
//     again and finds its own work. Put: same bytes. Mkdir: there is a directory. Remove:
//     there is nothing. Rename: the source is gone and the target has the bytes. Symlink: it
//     is there. Setattr: gives the same twice. If the program has changed the content since,
//     the ghost tells that what is there is ours.
//   - Between the steps in which a backend replaces something (remote.Replacer): the former
//     content may be there under another name. The change is made again, whatever it finds, and
//     ends by having that go; until then this node does not show it. What a program waits for
//     is in the journal as well, as a debt (steps.go), or becomes a change like others.
//   - In an early upload of a file that was never committed: atomic servers have nothing but
//     what is not complete; for the others there may be a torn file. A record says
//     beforehand what to take away (opClean), and where that may be torn, nobody sees the
//     path before it was tried.
//   - In any upload: names of what is not complete (temporary files, upload folders) bear the
//     journal's tag, and are removed before the change is repeated (remote.Sweeper).
//   - The machine goes down: records of before the last sync are whole, later ones are cut
//     off or whole. A record whose content was not synced is trusted only if its digest
//     holds; otherwise it is parked, never sent.
//
// # Locks
//
// Store.mu guards all changes of all branches; it is held for moments, and over appends to
// the journal, never over syncs or requests. Stage.mu and the locks of journal, space and
// growth come after it. Callbacks (OnSettled) run without locks in one goroutine of each
// branch.
package writeback
