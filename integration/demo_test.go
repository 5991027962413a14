package integration_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

// TestDemo runs what "make demo" runs, twice on the same data, as root and as an
// ordinary user; one without a set-uid helper, too, in the long variant.
func TestDemo(t *testing.T) {
	t.Parallel()
	demo, binary := harness.DemoProgram(t), harness.StaticProgram(t)
	data := t.TempDir()
	for range 2 {
		checkDemo(t, harness.Run(t, "/", demo, "--binary", binary, "--keep", data))
	}
	u := newPlainUser(t)
	checkDemo(t, u.run(t, "setuid.sh", nil, demo, "--binary", binary))
	if long() {
		checkDemo(t, u.run(t, "namespace.sh", nil, demo, "--binary", binary))
	}
	left, err := filepath.Glob(filepath.Join(u.home, "meshdemo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("the demo left %q, %v", left, err)
	}
}

func checkDemo(t *testing.T, out string) {
	t.Helper()
	for _, part := range []string{
		"TLS required", "without TLS", "SHA-256 of 124 files is the same", "SHA-256 of 82 files is the same",
		"says EXDEV", "cp -a kept", "unpacks to the 206 files", `attribute "diffusivity", value "0.2", unit "m2/s"`,
		"== The tree", "summary.csv", " = ", "on diskResc and tapeResc", "diskResc (good), tapeResc (good)",
		"lexisZone: all 126 objects", "archiveZone: all 3 objects", "-rw-r-----, user.irods.diffusivity",
		"== Unmount", "== Done",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("the demo does not show %q:\n%s", part, out)
		}
	}
}
