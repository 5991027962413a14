package harness

import (
	"errors"
	"syscall"
	"testing"
)

// WantErrno fails the test if err, of the call named what, is not the given errno.
func WantErrno(tb testing.TB, what string, err error, want syscall.Errno) {
	tb.Helper()
	if !errors.Is(err, want) {
		tb.Errorf("%s: %v, want %v", what, err, want)
	}
}
