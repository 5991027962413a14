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
// Many nodes write at the same time. Nothing is hidden or deleted because of a judgement that
// may be wrong: two files of one name are both shown.
//
//   - A file of ours is made only if there is none of its name, and never changed. Generation
//     g+1 of an archive is made from generation g alone, so that only one compaction wins. Of
//     an archive the newest generation counts that is listed and can be read.
//   - A member is dead if there is its tombstone. It does not show while the plain file is
//     there, by the server's version, that it was made from (Pack). Nothing else hides it.
//   - Of several that claim a name, a plain file has it, or else the member whose archive is
//     the oldest by the server's clock. The others show as NAME.conflict-LETTERS-TIME, and are
//     ordinary files there. Members of one name, time and content are one file.
//   - Who has stored an archive, or a plain file that was to be new, lists the directory before
//     he says so, and takes back what others have under that name: Exist. He does so also if
//     his own comes first: the other may have been told before it was there.
//   - Who replaces, renames or unpacks a member puts the plain file first and the tombstone
//     after it. The first tombstone decides: who finds one that is not his takes the plain
//     file back. Between the two steps, and after a crash there, both show. The same call
//     again finds the file that it has put, and goes on with the tombstone; Replaced does so
//     for who has a journal, also where the plain file has been changed since.
//     Who unpacks a directory asks for the tombstone of each member before he puts the file: his
//     listing may be old by then.
//   - An archive of which little is alive is carried to its next generation by who changes
//     something in the directory. What is of no use any more goes when the newest file of ours
//     in the listing is a minute younger, by the server's clock, than what makes it useless:
//     so no listing under way misses both. An archive of which all is dead leaves a grave for
//     a week, which keeps a slow compaction from bringing members back. Where the server does
//     not check with a PUT that there is nothing (Caps.Create), nothing is compacted.
//
// # What is taken for granted
//
// That no listing takes a minute. That who was cut off between a compaction's reading and its
// PUT does not go on after a week, or in a directory that was removed and made again in that
// moment. A Remove or Rename of a plain file goes by a listing that is up to two seconds old:
// a Pack that has begun since, and dies before it sees that the file has gone, shows it again.
// A second file that was made meanwhile from the same bytes, by another program that removes
// the first, is not told from it.
//
// # Trouble
//
// An archive that cannot be had now (Locked, Unavailable) is the error of the listing. A file
// that has the name of an archive and is not one, or may not be read, is shown as the plain
// file that it is, and told once in the log; its directory is not empty, and nothing is tidied
// up of it.
//
// # Cost
//
// A batch is one request for each directory, and a listing after it. A file that is put
// alone is followed by a listing too, if it was to be new. A look at a name that is not
// there costs a listing, or one request if the directory has a version that is proof. An
// archive is read by one or two requests of its end, and known from then on. Who reads several
// members of an archive gets its file in pieces of a MiB, with many members each. The removal
// of a member whose version is known is two requests, whatever the directory holds.
package keep
