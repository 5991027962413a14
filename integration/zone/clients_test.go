package zone

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// debianPython is the interpreter that finds Debian's packages, whatever else there is
// in the path.
const debianPython = "/usr/bin/python3"

// clientArgs are the arguments that the test clients take: port, zone, user, password
// and, with TLS, the authority.
func clientArgs(t *testing.T, z *Zone) []string {
	t.Helper()
	_, port, err := net.SplitHostPort(z.Addr())
	if err != nil {
		t.Fatal(err)
	}
	args := []string{port, z.Name(), "rods", "rods"}
	if z.CAFile() != "" {
		args = append(args, z.CAFile())
	}
	return args
}

// onBoth runs a client on a zone without and with TLS. It must end with "done".
func onBoth(t *testing.T, program string, args ...string) {
	for name, change := range map[string]func(*Options){
		"plain": nil,
		"TLS":   func(o *Options) { o.TLS, o.Policy = true, wire.PolicyRequire },
	} {
		t.Run(name, func(t *testing.T) {
			all := append(slices.Clone(args), clientArgs(t, start(t, change))...)
			out, err := exec.CommandContext(t.Context(), program, all...).CombinedOutput()
			if err != nil || !strings.HasSuffix(string(out), "done\n") {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}

// TestPythonClient lets an independent client, Debian's python3-irodsclient, use the
// zone, without and with TLS.
func TestPythonClient(t *testing.T) {
	if out, err := exec.Command(debianPython, "-c", "import irods").CombinedOutput(); err != nil {
		t.Fatalf("python3-irodsclient is needed: %v\n%s", err, out)
	}
	onBoth(t, debianPython, "testdata/client.py")
}

// build builds a package of a module beside this one.
func build(t *testing.T, module, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, pkg)
	cmd.Dir = filepath.Join("..", module)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", module, err, out)
	}
	return program
}

// TestGoClient lets another one, a program on go-irodsclient, do the same.
func TestGoClient(t *testing.T) {
	onBoth(t, build(t, "irodsclient", "."))
}

// TestIrodsfs mounts the zone by the FUSE client irodsfs and uses the mount.
func TestIrodsfs(t *testing.T) {
	program := build(t, "irodsfs", "github.com/cyverse/irodsfs/cmd")
	z := start(t, nil)
	dir := filepath.Join(t.TempDir(), "mnt")
	data := t.TempDir()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("irods://rods:rods@%s/tempZone/home/rods", z.Addr())
	cmd := exec.Command(program, "--foreground", "--data_root", data, "--log_path", filepath.Join(data, "log"), url, dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("fusermount3", "-u", dir).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // its status says nothing of the zone
		if t.Failed() {
			t.Logf("irodsfs: %s", out.String())
		}
	})
	waitFor(t, func() bool { return mounted(dir) })
	useMount(t, dir)
	c := dial(t, z, "rods", "rods")
	if got := c.tree(z.Home("rods")); !strings.Contains(got, "/sub/moved 300000 ") {
		t.Errorf("the zone holds %s", got)
	}
}

// mounted tells whether something is mounted on dir.
func mounted(dir string) bool {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && strings.Contains(string(mounts), " "+dir+" ")
}

// useMount makes, reads, moves and removes files.
func useMount(t *testing.T, dir string) {
	t.Helper()
	content := bytes.Repeat([]byte("abc"), 100000)
	sub := filepath.Join(dir, "sub")
	for _, err := range []error{
		os.Mkdir(sub, 0o755),
		os.WriteFile(filepath.Join(sub, "file"), content, 0o644),
		os.WriteFile(filepath.Join(sub, "other"), nil, 0o644),
		os.Rename(filepath.Join(sub, "file"), filepath.Join(sub, "moved")),
		os.Remove(filepath.Join(sub, "other")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	got, err := os.ReadFile(filepath.Join(sub, "moved"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	entries, err := os.ReadDir(sub)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}
