// Package posix holds the tests of the file system's semantics: conformance suites and
// random operations on mounts that are made inside the test process. It is a package of
// its own so that its tests run beside those of package integration. They need root and
// /dev/fuse, and fail without them.
package posix
