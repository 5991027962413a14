// Package archive owns the formats in which many files are kept as one.
//
// # What --archive=keep writes
//
// An archive is a plain zip: its members are stored, not compressed, lie one behind the
// other without a gap, and bear the plain names of the files; unzip, Python's zipfile and
// the desktops open it. The last member, ".meshmount.json", is the manifest:
//
//	{"format":2, "id":"20261122T170000.000000Z-k3v9q2xw", "generation":0,
//	 "members":[{"name":"a.txt","number":0,"size":5,"mtime":"...","mode":"0640","sha256":"..."}]}
//
// It has what the zip's directory has no room for: exact times, digests, the numbers of the
// members, and when the archive was born, if this is not its first generation. Whatever is in
// it is checked against the directory of the zip. Nothing else is kept of an archive anywhere:
// the archives alone give the whole index.
//
// Directory and manifest are the end of the file, so that one ranged request of the end
// brings both. A member's bytes are at a known place without another request, because the
// layout has no gaps: an archive with any other layout is not taken for one of ours.
//
// # Names
//
// An archive is the hidden file ".meshmount-<id>.<generation>.zip". An id is a time in UTC and
// random letters. Generation g+1 holds what was alive of generation g, with the same numbers,
// and there can be only one; without members it is a grave. A tombstone is the file
// ".meshmount-<id>.<number>.gone": it says all by its name, so that who lists the directory
// needs no request to read it (its content only tells its author that it is his). It declares
// the member of that number dead in all generations.
package archive
