package integration_test

import (
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// wantErrno fails the test if err, of the call named what, is not the given errno.
var wantErrno = harness.WantErrno
