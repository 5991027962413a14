package integration_test

import (
	"os"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// long tells whether the long variants are wanted.
func long() bool { return os.Getenv("MESHMOUNT_LONG") != "" }

// full returns most if the long variants are wanted, else some.
func full[N any](some, most N) N {
	if long() {
		return most
	}
	return some
}

// wantErrno fails the test if err, of the call named what, is not the given errno.
var wantErrno = harness.WantErrno
