// Package cache keeps blocks of remote files on the local disk.
//
// A Store is a directory of slab files, cut into slots of one block each, with a
// Badger database as the index from block to slot. A Cached is a remote.Backend that
// serves reads of pinned versions from a Store and fetches what is missing.
//
// # What is promised
//
// A block is served only if its slot names the same branch, object, version and
// block, and the checksum of every chunk that is read holds. Anything else is a miss.
// Nothing in a Store is precious: it may be wiped at any time, and a disk that is
// full, fails or goes away turns the Store into one that never hits (Stats tells).
//
// # Slots
//
// A slot is a header of 4 KiB and the bytes of one block. The header holds the
// identity, a generation and one CRC-32C for each chunk of 16 KiB, so that a small
// read checks what it reads and not the whole block. A slot is written in this order:
// header marked as being written, bytes, header, index entry. A process that dies at
// any point leaves a slot that says by itself that it is not whole, or one without an
// entry in the index.
//
// # Start
//
// Open scans no slots. Slots are first used in the order of their numbers, so the
// boundary of the unused ones is found by bisection; what lies in a used slot is
// learned from its header when it is to be used again.
//
// # Eviction
//
// S3-FIFO (Yang and others, SOSP 2023): new blocks enter a small queue of a tenth of
// the slots and go on to the main queue only if they were read again; a block that
// comes back soon after it left the small queue enters the main queue at once. One
// pass over a huge file thus flows through the small queue. A hit costs no more than
// a counter. SIEVE (NSDI 2024) is simpler still, but by its authors' account does not
// withstand scans. The kernel reads a block in pieces, so that what counts as reading
// again is defined with care: see queue.touch.
//
// # Metadata
//
// A Tree remembers the listings of a branch beside the blocks: in a log of segments, the
// oldest of which goes when there are too many, with an index in memory (metaLog).
// Measured with 1,000,000 entries in 10,000 directories: 84 MB on the disk, opened in
// 3 ms, a listing of 100 entries loaded in 25 µs. Listings of a Store that was not
// closed come back without an age: they have to be proven by the server's word.
//
// # Badger and full disks
//
// Badger writes through memory maps: where the file system has no block to give, the
// process dies of SIGBUS. So the index is given its space first. Its log is allocated
// in full before the first entry is written. The moments in which Badger makes other
// files (opening, and flushing its table, which is only ever done by closing and
// opening it again) are entered only after a look at the free space, with the ballast
// file given back for as long as they last. What remains is another process that takes
// more than the whole ballast within such a moment (some ten milliseconds for each ten
// thousand blocks).
package cache
