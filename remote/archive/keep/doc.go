// Package keep stores many small files as few large ones, on servers that cannot take many
// at a time, and shows them as the plain files they are: --archive=keep. It is a
// remote.Backend around another, and its remote.Batcher writes the archives of package
// archive.
//
// # Where archives are
//
// The small files of a directory are in archives in that very directory, as hidden files.
// So a rename or removal of the directory carries them along, whoever does it and with
// whatever program; the listing that shows the directory shows its archives with no request
// more; and the directory's version, where servers have such, tells of their changes. All
// that this package needs to know is in that listing and in the archives: there is no index
// beside them, and no lock server.
//
// # Rules
//
// Many nodes write at the same time. What they do is ordered by these rules only:
//
//   - An archive is never changed. It is made (only if there is none of its name), and
//     removed.
//   - A member is dead if there is its tombstone, an empty file whose name says which it
//     is; or if its archive is superseded by another that is there. A tombstone holds for
//     the member wherever a compaction carries it.
//   - A plain file hides the members of its name.
//   - Of several living members of a name the oldest is shown.
//   - Who has made something (an archive, a plain file that was to be new, a directory)
//     lists the directory afterwards. Who then sees another of the same name takes his own
//     back and says Exist. Of two, at least the later sees the other, so that none is ever
//     hidden that was told to be stored.
//   - Who replaces a member puts the plain file first and the tombstone after it.
//   - An archive goes when all its members are dead, tombstones when nothing that they may
//     be about has been there for a while: one that was just removed may yet be in an
//     archive that is being sent.
//
// # Crashes
//
// Each step leaves the old or the new state, with two exceptions that no server without a
// transaction over two files can spare. A rename of a member is a new file and then a
// tombstone: between them both names are there, with one content. A process that dies
// between the plain file and the tombstone leaves a hidden member behind it, which shows
// again if a program that knows nothing of archives removes the plain file; whatever this
// package does to the name removes it first.
//
// # What is taken for granted
//
// That a listing shows what was there before it began and was not removed while it ran. A
// server whose listing may miss both an archive that goes and the one that has taken its
// place shows their members as missing for that listing. And that who takes something back
// that was to be new lives until he has: if he dies first, what he made hides a member that
// somebody else was told to be stored. It is still in its archive, for unzip to find.
//
// # Damage
//
// A file that has the name of an archive and is not one, or not as it was written, is shown
// as the plain file that it is, and told once in the log. Its members are not shown then;
// nothing is removed. One that is still being written (Locked) is not shown at all.
//
// # Cost
//
// A batch is one request for each directory, and a listing after it. A file that is put
// alone is followed by a listing too, if it was to be new. A look at a name that is not
// there costs a listing, or one request if the directory has a version that is proof. An
// archive is read by one or two requests of its end, and known from then on. Who reads several
// members of an archive gets its file in pieces of a MiB, with many members each. The removal of
// a member is a request, as that of a file is; that of its tombstone comes later.
package keep
