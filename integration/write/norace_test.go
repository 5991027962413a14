//go:build !race

package write_test

// raced tells whether this test program has the race detector.
const raced = false
