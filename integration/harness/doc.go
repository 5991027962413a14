// Package harness builds the meshmount program, runs it on a mount point as its
// own process, and ends it for sure: a failed test leaves no mount and no process
// behind. It is for tests that treat the program as users do, from outside.
//
// Start, Mounted, Detach and the facts about processes return errors and can be
// used by any program; what takes a testing.TB fails the test instead.
package harness
