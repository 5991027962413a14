package write_test

import (
	"os"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv(driverVar) != "" {
		driverMain()
		return
	}
	harness.Main(m)
}

// long tells whether the long variants are wanted.
func long() bool { return os.Getenv("MESHMOUNT_LONG") != "" }

// through tells whether the mounts are to write through, which is for tests of these tests:
// what is acknowledged is on the servers then.
func through() bool { return os.Getenv("MESHMOUNT_TEST_WRITE") == "through" }

// writeMode is how the mounts of these tests write.
func writeMode() string {
	if through() {
		return "--write=through"
	}
	return "--write=back"
}
