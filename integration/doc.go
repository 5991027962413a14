// Package integration holds the tests that need a real mount, a real server or
// the whole source tree:
//
//   - arch_test.go checks the structure: imports, owners of libraries, sizes;
//   - apps*_test.go run unmodified programs (tar, git, rsync, sqlite3, HDF5 and
//     NetCDF tools, gcc) on mounts made by the built program;
//   - kill_test.go, user_test.go and hostile_test.go kill the built program, run
//     it without privileges and put it before servers that misbehave;
//   - readme_test.go compares the README's tables with the code's.
//
// Conformance suites and random operations on mounts made inside the test process are
// in integration/posix. Embedded servers live in integration/efss and integration/zone,
// Apache in integration/httpd, and integration/harness builds, runs and ends the
// program. The tests need root and /dev/fuse, and fail without them.
package integration
