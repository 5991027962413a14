// Package write holds the tests of what is written and not yet on its server: what kills,
// faults of servers and of the local disk, and other clients may do to it, on real mounts
// of the built program. The expectations follow from the promises of the README, not from
// the code.
//
// The package is one of its own so that its tests run beside those of package integration.
// They need root and /dev/fuse, and fail without them. Variables:
//
//	MESHMOUNT_SEED=N   repeats the random programs of a run
//	MESHMOUNT_LONG=1   runs many more of them, and the large variants
//	MESHMOUNT_KILLS=N  is how often the crash test kills
//	MESHMOUNT_LOGS=DIR keeps the logs of its mounts there if it fails
//	MESHMOUNT_TEST_WRITE=through
//	                   tests the tests: without write-back they hold, too, where they are
//	                   not about it
package write
