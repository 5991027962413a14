// Package browse shows archives of a remote tree as directories.
//
// Beside each x.tar and x.zip there is a directory, its view: x.tar.d, x.zip.d. In it are
// the archive's members, read-only. They are read by ranges of the archive, which is never
// fetched as a whole for the sake of one member. Compressed archives (x.tar.gz and the
// like) have no such ranges, and archives within archives no place of their own: they stay
// files.
//
// The suffix is ".d", for it ends no name of a format: programs that look at names take
// the view for nothing else, it sorts right after its archive, and a pattern like "*.zip"
// finds archives only. What is really on the server by the name of a view hides the view.
//
// # What is shown
//
// The index of an archive (package foreign) is read when a view is first looked into: the
// directory of a zip at its end, the headers of a tar one after the other. It is kept by
// path and version, in memory and, if the version is proven, on the disk. Hostile names,
// devices and links to nowhere are left out; members that cannot be read (encrypted, of
// unknown methods, sparse, overlapping) are shown, and reading them fails with Unsupported
// or Corrupt. An archive that is damaged is an empty promise: its view is there, and
// listing it fails. A server that shows no versions gets no views.
//
// # Versions
//
// The version of a member holds the archive's version, the member's place, size and
// checksum. Reads are pinned by it: the ranges are asked for under the archive's version,
// and when that is gone, the error is Changed. A directory of a view has another version
// and another identity when the archive has; so what is proven of the directory that holds
// the archive (Caps.PropagatesVersion, remote.Tracker) proves the views in it, too: each
// change of an archive is a change there.
//
// # Changes
//
// Below a view nothing can be changed: ReadOnly, or Exist where something is to be made
// that is there. Entries say so in their Access. All else, optional abilities included,
// goes through for other paths, at no cost: only names like those of views are looked at.
//
// # Locks
//
// shelf.mu, pool.mu, pages.mu and index.mu are held for moments and never together. Who
// has taken a stream holds it during requests; nobody takes two.
package browse
