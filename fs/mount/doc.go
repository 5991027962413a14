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
//   - notify.go tells the kernel what to forget, from a goroutine of its own.
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
// # Identity
//
// Every answer of the core names the object by its inode number. If that is not the
// number of the node that the kernel asked about, the name has passed to another
// object meanwhile; the answer is ESTALE, and the kernel looks the name up again
// and repeats the call by itself.
package mount
