package zone

import (
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// debianPython is the interpreter that finds Debian's packages, whatever else there is
// in the path.
const debianPython = "/usr/bin/python3"

// TestPythonClient lets an independent client, Debian's python3-irodsclient, use the
// zone, without and with TLS.
func TestPythonClient(t *testing.T) {
	if out, err := exec.Command(debianPython, "-c", "import irods").CombinedOutput(); err != nil {
		t.Fatalf("python3-irodsclient is needed: %v\n%s", err, out)
	}
	for name, change := range map[string]func(*Options){
		"plain": nil,
		"TLS":   func(o *Options) { o.TLS, o.Policy = true, wire.PolicyRequire },
	} {
		t.Run(name, func(t *testing.T) {
			z := start(t, change)
			_, port, err := net.SplitHostPort(z.Addr())
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"testdata/client.py", port, z.Name(), "rods", "rods"}
			if z.CAFile() != "" {
				args = append(args, z.CAFile())
			}
			out, err := exec.CommandContext(t.Context(), debianPython, args...).CombinedOutput()
			if err != nil || !strings.HasSuffix(string(out), "done\n") {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
}
