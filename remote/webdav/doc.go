// Package webdav is the adapter for WebDAV servers and their dialects: a
// remote.Backend over HTTP for Nextcloud, OpenCloud and oCIS, Reva, Apache mod_dav,
// rclone serve webdav, XRootD and any other server that speaks RFC 4918.
//
// Servers are weaker than their specifications, each in its own way. Everything
// that differs between them stands in one table (dialect.go): what an entity tag is
// worth, which conditions are looked at, how a file is replaced without a torn
// state in between, which names come back as they were given. Dial finds the row by
// status.php, the OCS capabilities and the headers of the first answers, with one
// OPTIONS request where these say nothing.
//
// # Versions
//
// The Version of a file is the entity tag without quotes and without the mark of a
// weak tag, followed, where that alone is too weak, by a space and a second part:
//
//   - Nextcloud derives the tag from mtime (seconds), inode and size. When the time
//     of the upload (nc:upload_time) is more than two seconds away from the mtime,
//     the mtime was set by a client and may repeat, and the upload time becomes
//     part of the Version. Within two seconds it says nothing new and is left out,
//     so that the answer of a PUT suffices to know the Version.
//   - The oCIS family derives the tag from node and mtime, and clients set mtimes:
//     the server's own SHA-1, shown with every file, is part of the Version.
//   - XRootD has no tags, and some servers (nginx) show none in listings: mtime and
//     size take their place, and the answer to a GET is compared by these.
//
// A Version is Provisional while a second change could still hide behind it: as long
// as the server's clock (Date) is not more than two seconds past the mtime, or the
// tag is weak. The checksum of the oCIS family and the content hash of rclone are
// proof at once.
//
// Directories have a Version where their tag changes with their children (not Reva,
// not rclone).
//
// # Reading
//
// A read is one request, conditional where the server does that, and a look (PROPFIND)
// after it where an equal tag may cover a change: on Nextcloud and XRootD, for a part of
// a file; parts that are read side by side share it. Over 50 ms and 1.2 Gbit/s with a
// window of 4 MiB, eight requests of 4 MiB at once fill the path (four of 8 MiB, or
// sixteen of 1 MiB, do as well), at 0.45 s of CPU for 1 GiB. Connections are made before
// they are wanted (dialer.go) and read in large pieces (bulk.go). Where a server speaks
// HTTP/2, large bodies go over HTTP/1.1 connections beside it (transport.go).
//
// The small files of a directory come in one answer where the server packs directories
// (archiverbundle.go): as a zip from a Nextcloud (zipfolder.go), as tar from the archiver of
// the oCIS family (archiver.go). Three directories of 300 files of 4 KiB, 50 ms away, from a
// server of four processes that is at work for 20 ms on each request took 2.4 s in place of
// 7.8 s through a mount, and 5.2 s if it is at work for 2 ms on each file of an archive.
//
// # Attributes
//
// Where the server keeps dead properties, one property in a namespace of ours
// (attr.go) holds the mode, the mtime if the server itself keeps none, and the
// target of a symbolic link. A symbolic link is a small file whose content is its
// target. Other clients see and keep it as such.
//
// # Writing
//
// See put.go for how each dialect stores a file, and the table for what that is
// worth. Temporary names are ".meshmount-<random>.tmp"; they are never listed and
// cannot be used by callers. Files that are still being written are sent by growing.go.
//
// Large bodies leave in pieces of 128 KiB (bulk.go): 0.3 to 0.4 s of CPU for 1 GiB. One
// connection carries a window in a round trip, so chunks (chunked.go) and ranges
// (ranges.go) go over several. What a failed upload leaves is deleted, if need be when
// the server answers again (leftovers.go).
//
// Many small new files go in batches (batch.go): by PUTs side by side that the server
// itself refuses if there is something, with one listing for each directory afterwards in
// place of a look at each file; or by Nextcloud's bulk upload (bulkupload.go), many files
// in one request. That replaces what is there, so that a listing comes before: between the
// two remains a short race (remote.GuardLook), which a PUT has not. PutOptions.Loose saves
// the PROPPATCH for the time of a file.
//
// A Put or PutGrowing with PutOptions.Resume goes on where the server can hold parts and
// show them: chunks of a Nextcloud. With mod_dav the name only keeps temporary files from
// piling up. tus cannot go on in another process: the address of an upload is known to
// who began it. Redo changes nothing: no way of storing leaves a torn file of ours.
package webdav
