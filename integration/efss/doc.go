// Package efss is an embedded file sync and share server for tests and demos.
//
// It speaks WebDAV the way real servers were measured to speak it, their
// weaknesses included: Options.Dialect picks the server to resemble, and one table
// (dialects.go) says how each of them answers. The default is Nextcloud 34 with its
// own storage on a local disk.
//
// Folders come as archives: from Nextcloud as a zip, and as the broken tar that it was seen
// to send; from OpenCloud's archiver as tar, within limits at which it just ends.
//
// # Data
//
// Everything lies below Options.Dir and survives a restart:
//
//	files/USER/...     the user's files, plain, under their own names
//	catalog.log        ids, ETags, dead properties, app passwords: one JSON record a line
//	uploads/USER/ID/   chunks of uploads that are under way
//	tus/               the same for tus
//	tmp/               bodies being received; emptied at the start
//	tls/               the certificate authority made for Start with TLS
//
// The catalog is appended to with each change and written anew at the start. What
// differs between catalog and disk at the start (after a crash, or because somebody
// wrote below files/ while the server was off) is settled in favour of the disk;
// Scan does the same while the server runs.
//
// # Concurrency
//
// A Server may be used from many goroutines. The tree of all users is guarded by one
// read-write lock that is never held during a transfer.
package efss
