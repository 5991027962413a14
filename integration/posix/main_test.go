package posix_test

import (
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
