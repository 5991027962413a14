// Package archive owns the formats in which many files are kept as one.
//
// # What --archive=keep writes
//
// An archive is a plain zip: its members are stored, not compressed, lie one behind the
// other without a gap, and bear the plain names of the files; unzip, Python's zipfile and
// the desktops open it. The last member, ".meshmount.json", is the manifest:
//
//	{"format":1, "id":"20261122T170000.000000Z-k3v9q2xw", "supersedes":[],
//	 "members":[{"name":"a.txt","size":5,"mtime":"...","mode":"0640","sha256":"..."}]}
//
// It has what the zip's directory has no room for: exact times, digests, which archives
// this one replaces, and of a member that was taken over from another archive its origin
// there. Whatever is in it is checked against the directory of the zip. Nothing else is
// kept of an archive anywhere: the archives alone give the whole index.
//
// Directory and manifest are the end of the file, so that one ranged request of the end
// brings both. A member's bytes are at a known place without another request, because the
// layout has no gaps: an archive with any other layout is not taken for one of ours.
//
// # Names
//
// An archive is the hidden file ".meshmount-<id>.zip". An id is a time in UTC and random
// letters, so that ids sort by age. A tombstone is the empty file
// ".meshmount-<id>.<number>.gone": it says all by its name, so that who lists the directory
// needs no request to read it. It declares the member of that number dead, by the archive
// in which it was first, so that it holds wherever a compaction has carried the member.
package archive
