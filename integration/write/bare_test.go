package write_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/integration/harness"
)

// bareVar tells the test program that it is the bare one, and names the program to mount with.
const bareVar = "MESHMOUNT_WRITE_BARE"

func isBare() bool { return !raced || os.Getenv(bareVar) != "" }

// bareProgram returns the program to mount with.
func bareProgram(t *testing.T) string {
	t.Helper()
	if program := os.Getenv(bareVar); program != "" {
		return program
	}
	return harness.StaticProgram(t)
}

// runBare has the test carried out by this package's test program, built without the race
// detector: most of the time goes to the servers and to the comparison of what there is, of
// which the detector has nothing to tell here, and which it makes several times as dear.
func runBare(t *testing.T, seed uint64) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "bare")
	build := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c: %v\n%s", err, out)
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=0"}
	run := exec.CommandContext(t.Context(), program, args...)
	run.Env = append(os.Environ(), bareVar+"="+harness.StaticProgram(t), fmt.Sprint("MESHMOUNT_SEED=", seed))
	run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := run.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Errorf("%s %q: %v", program, args, err)
	}
}
