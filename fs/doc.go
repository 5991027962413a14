// Package fs is the file system without FUSE: one tree over several branches, with
// POSIX semantics, as plain Go calls. fs/mount hands the kernel's requests to it;
// tests call it directly.
//
// # Tree
//
// A mount table maps path prefixes to branches (remote.Backend). The longest prefix
// wins, so branches may nest. Directories above a branch that no branch provides
// are synthetic and read-only. Paths are those of package remote, rooted at the
// mount point.
//
// # Open files
//
// What is open is kept in a table of file objects. A file object is one lineage of
// versions: the version of the open, and then only what was written through this
// mount. If somebody else replaces the file on the server, the name gets a new file
// object and a new inode number, and the old handles keep their version: they never
// see bytes of two versions (Changed when the old bytes can no longer be had).
//
// The first write makes a sparse staging file; what was not written is read from
// the base version, and only when it is needed. Flush and Fsync put the whole
// content to the server, on the condition that the server still has the base
// version. On conflict ours is stored beside it as NAME.conflict-HOST-TIME and the
// call fails with Conflict. Content that cannot be put at all is moved to
// Options.ParkDir when its last handle goes, never dropped.
//
// # Extended attributes
//
// user.meshmount.* is made up here. Names with the prefix of the branch's
// remote.Xattrer are read and written on its server, at once; there are no others.
// What was read is used again for AttrTTL. A file that the server has yet to see has
// none, and is put there first when one is set. They are about what has a name:
// those of a file that has lost it are out of reach.
//
// # Listings
//
// A complete listing answers for all names in its directory, absent ones included, as
// long as Branch.DirTTL and AttrTTL allow, in memory and, with Branch.Tree, over
// remounts. Then it is proven, where that is possible: by the version that its
// directory shows in the listing above, if versions change with all that is below
// (remote.Caps.PropagatesVersion), or by what the server tells of changes
// (remote.Tracker). One question proves a whole tree so; what has changed is listed
// again on the way to what is asked for. Elsewhere each directory is listed again. What
// a new listing shows to be other is told to the kernel. When a tree is walked, the next
// directories are listed ahead (Branch.Listings).
//
// What was changed here is forgotten on the disk before and after the change, and what
// an unclean end leaves has no age: it is proven or not used.
//
// # Locks, in the order in which they are taken
//
//  1. path locks (locker): one per path for what changes its name or its content on
//     the server; over a whole subtree for renames and directory removal.
//  2. file.filling: whoever brings missing bytes from the server into the staging file.
//  3. file.content: whoever changes the staged bytes; never during an upload, which
//     keeps writers off by file.frozen. Readers rely on the staging file's own lock.
//  4. file.telling: from a commit until it is known here, and while what has become of it
//     is told.
//  5. state, held for moments and never during I/O: FS.mu before file.mu before the
//     locks of inodes, versions and inoCache; dirFetch.mu before metaCache.mu;
//     otherwise never two at a time.
package fs
