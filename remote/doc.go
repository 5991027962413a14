// Package remote is the contract between meshmount and the stores it mounts.
//
// A branch of the mount is one Backend: a WebDAV share, an iRODS collection, or
// memory. Adapters (remote/webdav, remote/memory, ...) implement Backend;
// decorators (Watchdog, Throttle, Limit, Observe, Breaker, Retry) wrap one Backend
// in another; the layers above (fs, cache, prefetch) see nothing but this package.
// It imports no other package of the project.
//
// # Paths
//
// A path is slash-separated, rooted at the branch and clean: "/" is the branch's
// root, "/a/b" an entry in it. No element is empty, "." or "..", none holds a NUL
// byte. Names are bytes, compared byte for byte; a backend that would store a name
// under other bytes (Unicode normalisation, for one) must refuse it with Invalid,
// or prove after the fact that the name came out as given. CheckPath tests the
// form; a backend may rely on it and must not clean paths silently.
//
// # Versions
//
// Entry.Version is an opaque validator of a file's bytes. Two entries of one path
// with the same non-empty Version have the same bytes, unless one of them is
// Provisional: then the version was sampled so soon after the change that a second
// change could hide behind it (servers with time stamps of one second), and only a
// fresh, non-provisional sample proves equality. For directories the version, if
// there is one, changes when a direct child is added, removed or renamed; with
// Caps.PropagatesVersion it changes when anything below changes.
//
// # Errors
//
// Every error returned by a Backend is a *Error or wraps one, except the errors of
// an ended context, which stay context.Canceled and context.DeadlineExceeded (or
// the cause given to the context, when that is a *Error). Kind is the vocabulary:
// errors.Is(err, remote.NotExist) works. Error.Unsure says that a change may have
// been carried out although an error came back (the answer was lost).
//
// # Cancellation and progress
//
// A call whose context ends returns soon and leaks nothing. A mutation that was
// cancelled on the way may or may not have happened. An adapter calls Progress
// whenever bytes move in either direction, so that the Watchdog can tell a slow
// transfer from a dead one.
//
// # Concurrency
//
// All methods may be called from many goroutines at once. Callbacks (List's yield,
// Source's readers) run in the calling goroutine or one that has ended when the
// call returns, never two at a time; the methods of a Growing and the reads of a Patch's
// bytes may run many at a time, and have ended as well.
package remote
