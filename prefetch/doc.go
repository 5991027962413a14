// Package prefetch hides the distance to a server from whoever reads a file.
//
// A Prefetcher serves one branch of the mount; its Reader serves one open handle.
// The kernel asks an unprivileged mount for 128 KiB at a time, at most two requests
// at once (measured with go-fuse v2.12 on Linux 6.18), which over 50 ms is 5 MB/s. A
// Reader therefore watches what is asked for, and fetches ahead, over several
// connections, as much as the path holds: bandwidth times delay.
//
// # The parts
//
//   - window, a pure struct, knows the pattern of one handle's reads (forward,
//     backward, strided, random; several streams interleaved) and says which ranges
//     to fetch ahead. It starts small and doubles only when the reader had to wait.
//   - climber, a pure struct, finds how many requests at once help.
//   - Budget is the memory of all readers of the process, exact and fair.
//   - Lanes bounds the requests of one branch; whoever waits goes before what is
//     fetched ahead.
//   - Reader holds the pieces: fetched or on the way, each fetched once, however many
//     wait for it.
//   - DirAhead and Walk, pure structs, see that the small files of a directory are
//     opened one after the other, or that a tree is walked, and say what comes next.
//   - Bundling, a pure struct, judges whether files come sooner each alone or as the
//     server packs them, in one answer.
//
// # Promises
//
// A read that finds its bytes missing asks for just these itself, at once: it never
// waits behind something fetched ahead. A failed fetch ahead is nobody's error.
// Memory is never more than the Budget: if there is none, a read goes straight into
// the caller's buffer. Every byte is of the version of the handle's remote.Ref, as far
// as the Source keeps its own promise; once that is gone (remote.Changed), what was
// fetched stays readable and everything else fails for the rest of the handle's life.
//
// # Locks
//
// Order: Reader.mu, then Lanes.mu or Budget.mu. Neither Lanes nor Budget calls a
// Reader with its own lock held, and no Reader releases a lane or reclaims memory with
// its own lock held, since both may call other Readers.
package prefetch
