// Package mount puts an fs.FS under a directory of the kernel's tree by FUSE. It
// unpacks the kernel's requests, calls the core, packs the answer, and does nothing
// else; each operation is a few lines. All that is not plain forwarding is here:
//
//   - errno.go is the only table from remote.Kind to errno, and the only place where
//     a failed operation is logged: once, at debug level for what programs try in
//     the normal course of things (a name that is not there), as a warning otherwise.
//   - tree.go knows which name and parent each of the kernel's node numbers has. The
//     core works by path and the kernel by node, so a rename must not slip in
//     between the making of a path and its use: operations hold their path, and a
//     rename or removal waits for those who hold it and keeps newcomers waiting
//     (hold.go). That makes what programs see through one mount exactly sequential.
//   - cursor.go turns the core's forward stream of a directory into one that can be
//     read again from any offset, with memory for one answer to the kernel.
//   - interrupt.go decides when a waiting operation gives up because of a signal.
//   - read.go makes the answers to reads, of bytes that stay where they are.
//   - direct.go decides which files are read past the page cache.
//   - notify.go tells the kernel what to forget, from goroutines of its own.
//   - device.go makes and removes the mount: by mount(2) where that is allowed, by
//     fusermount3 otherwise.
//
// # Why the raw interface of go-fuse
//
// go-fuse also offers a tree of inode objects. It moves an object to its new name
// after the Rename method has returned, and enters the result of a Lookup after the
// Lookup method has returned, outside any lock that we could share. With an answer
// that takes a WAN round trip, a lookup that began before a rename and ended after
// it would then give the object its old name back, and every use of it would fail
// with ENOENT until the kernel's entry expired. The raw interface leaves the table
// of nodes to us; it is also a fraction of the memory for each name that the kernel
// knows, and READDIRPLUS needs no second look at the entries of a listing.
//
// # Reads
//
// The page cache is the kernel's, and what it has of the version that is opened costs
// no request (FOPEN_KEEP_CACHE). What it has not comes in requests of as much as the
// kernel reads ahead: 128 KiB, two at a time, for a mount that a user makes, whatever
// it asks for; root may raise it (Options.ReadAheadKB). The numbers here and at the
// options were measured on Linux 6.18 with 2 cores, with a file in memory behind
// pread(2) and CRC-32C; CPU time is that of this process.
//
//	                              bytes/s     CPU time
//	read-ahead 128 KiB          1,535 MB/s   0.50 s/GiB
//	read-ahead 1 MiB            2,545 MB/s   0.31 s/GiB
//	direct I/O, reads of 1 MiB  3,800 MB/s   0.25 s/GiB
//	direct I/O, of 128 KiB      1,830 MB/s   0.44 s/GiB
//	direct I/O, of 16 KiB         525 MB/s   1.4  s/GiB
//	direct I/O, of 4 KiB          150 MB/s   4.9  s/GiB
//
// An answer is written to the kernel from where the bytes are: from the core's memory
// if it can lend them (fs.Handle.View), else from the buffer of the request. These
// buffers are as large as the requests, and come from a pool of go-fuse. As many as
// there are requests in flight are in use: Options.MaxBackground for read-ahead, one
// more for each thread that reads past the page cache.
//
// # Direct I/O
//
// With direct I/O (Options.DirectIO) a request is as large as the program's read, up
// to 1 MiB, and pages take no memory and no time. That wins where a program reads a
// large file once, in large pieces. Lost are: the pages for a second reading, which
// comes to us again; the kernel's read-ahead; and all speed if the program's pieces
// are small, as the table shows. Nobody knows that when the file is opened, so the
// default is not to use it. Handles that can write never do. What is written through
// one handle is seen by all others, mappings included, and files can be mapped and
// run; as shared ones with FUSE_DIRECT_IO_ALLOW_MMAP (Linux 6.6). Where two versions
// of a file are open at once, the core asks for direct I/O for one of them, as the
// kernel has one set of pages for both.
//
// FUSE passthrough is not used: the kernel then reads one file of ours in place of
// the mount's, as a whole and at the same offsets. The block cache keeps blocks of
// all files in common segments; besides, it needs CAP_SYS_ADMIN, and a file system
// that may do it cannot lie below as many others.
//
// # Directories
//
// Listings are always asked for with attributes (READDIRPLUS), which the core has
// anyway; no entry is looked up or asked for its attributes after that, until its TTL
// is over. The kernel's automatic choice between listings with and without was no
// faster, also where only the names were wanted. Lookups and listings of one directory
// run in parallel.
//
// # Identity
//
// Every answer of the core names the object by its inode number. If that is not the
// number of the node that the kernel asked about, the name has passed to another
// object meanwhile; the answer is ESTALE, and the kernel looks the name up again
// and repeats the call by itself.
package mount
