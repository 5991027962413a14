package write_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/integration/harness"
)

// mount is a mounted server, as branch b.
type mount struct {
	*harness.Mount
	s     *server
	root  string // the branch
	cache string
}

// mounted mounts a server with write-back. Without other flags, what is written is sent at
// once, and what fails is tried again soon.
func (s *server) mounted(t *testing.T, cache string, args ...string) *mount {
	t.Helper()
	return s.mountedAt(t, s.address(), cache, args...)
}

// mountedAt is mounted through a proxy.
func (s *server) mountedAt(t *testing.T, address, cache string, args ...string) *mount {
	t.Helper()
	flags := []string{writeMode(), "--cache-dir=" + cache, "--cache-size=128MiB", "--upload-delay=0s", "--io-timeout=1h", "--retry-time=2s"}
	env := []string{password("b")}
	if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--token-file") }) {
		env = nil
	}
	m := harness.MountingProgram(t, harness.StaticProgram(t), env, slices.Concat(flags, args, []string{s.branch("b", address)})...)
	// The tree answers a moment before the control socket is there.
	await(t, "the mount", func() bool { return strings.Contains(m.Output(), "msg=mounted") })
	return &mount{Mount: m, s: s, root: filepath.Join(m.Dir, "b"), cache: cache}
}

// path returns a path in the branch.
func (m *mount) path(name string) string { return filepath.Join(m.root, name) }

// command runs meshmount and returns what it printed and its exit code.
func command(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	out, err := harness.Try(t.Context(), "/", harness.StaticProgram(t), args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("meshmount %q: %v\n%s", args, err, out)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return out, code
}

// must runs meshmount, which must succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, code := command(t, args...)
	if code != 0 {
		t.Fatalf("meshmount %q: exit code %d\n%s", args, code, out)
	}
	return out
}

// status is what meshmount status tells.
func (m *mount) status(t *testing.T) control.Status {
	t.Helper()
	return statusOf(t, m.Dir)
}

// statusOf is what meshmount status tells of a mount point, or with --cache-dir.
func statusOf(t *testing.T, args ...string) control.Status {
	t.Helper()
	out := must(t, append([]string{"status", "--json", "--all"}, args...)...)
	var list []control.Status
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("status: %v\n%s", err, out)
	}
	return list[0]
}

// find returns the items of a status that are about a path of the branch.
func find(s control.Status, name string) []control.Item {
	return slices.DeleteFunc(slices.Clone(s.Items), func(i control.Item) bool { return i.Path != "/b/"+name })
}

// flush waits until everything is on the server.
func (m *mount) flush(t *testing.T) {
	t.Helper()
	if out, code := command(t, "flush", "--timeout="+patience.String(), m.Dir); code != 0 {
		t.Fatalf("flush: exit code %d\n%s\nlog:\n%s", code, out, tail(m.Output()))
	}
}

// tail returns the last lines of a log, and all of what a process tells that hangs or crashes.
func tail(text string) string {
	lines := strings.Split(text, "\n")
	n := max(0, len(lines)-30)
	for i, line := range lines {
		if strings.HasPrefix(line, "SIGQUIT") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			n = min(n, i)
		}
	}
	return strings.Join(lines[n:], "\n")
}

// page is how much of a book has a stamp of its own.
const page = 4096

// book returns the content of a file: size bytes that follow from seed, no two pages alike,
// so that a byte of another place, file or version is known as such.
func book(seed uint64, size int) []byte {
	data := bytes.Repeat(content(7, page), size/page+1)
	for i := 0; i+16 <= len(data); i += page {
		binary.LittleEndian.PutUint64(data[i:], seed)
		binary.LittleEndian.PutUint64(data[i+8:], uint64(i/page))
	}
	return data[:size]
}

// write writes a file of the branch.
func (m *mount) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(m.path(name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// mkdir makes a directory of the branch.
func (m *mount) mkdir(t *testing.T, name string) {
	t.Helper()
	if err := os.Mkdir(m.path(name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// change opens a file of the branch and has it changed.
func (m *mount) change(t *testing.T, name string, flags int, do func(*os.File) error) {
	t.Helper()
	file, err := os.OpenFile(m.path(name), flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(file), file.Close()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// appendTo adds to the end of a file of the branch.
func (m *mount) appendTo(t *testing.T, name string, data []byte) {
	t.Helper()
	m.change(t, name, os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.Write(data); return err })
}

// expect is what a branch must hold: files, and directories by a nil value.
type expect map[string][]byte

// clone returns a copy with changes.
func (e expect) with(changes expect) expect {
	all := expect{}
	for _, m := range []expect{e, changes} {
		for name, data := range m {
			all[name] = data
		}
	}
	return all
}

// differs tells what is different in a tree.
func (e expect) differs(found tree) error {
	var faults []error
	for _, name := range paths(e) {
		got, there := found[name]
		switch {
		case !there:
			faults = append(faults, fmt.Errorf("%s is missing", name))
		case (e[name] == nil) != got.Type.IsDir() || e[name] != nil && !got.Type.IsRegular():
			faults = append(faults, fmt.Errorf("%s is a %v", name, got))
		case !bytes.Equal(got.Data, e[name]):
			faults = append(faults, fmt.Errorf("%s: %d bytes, want %d; %s", name, len(got.Data), len(e[name]), firstWrong(got.Data, e[name])))
		}
	}
	for _, name := range paths(found) {
		if _, wanted := e[name]; !wanted {
			faults = append(faults, fmt.Errorf("%s should not be there: a %v", name, found[name]))
		}
	}
	return errors.Join(faults...)
}

// firstWrong tells where two contents begin to differ.
func firstWrong(got, want []byte) string {
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			at := i / page * page
			return fmt.Sprintf("wrong from %d on, where the page begins %x", i, got[at:min(at+16, len(got))])
		}
	}
	return "all of the shorter one is right"
}

// onServer checks the server's own tree.
func (e expect) onServer(t *testing.T, s *server) {
	t.Helper()
	if err := e.differs(s.stored(t)); err != nil {
		t.Errorf("the %s server has not what was written: %v", s.kind, err)
	}
}

// inMount checks what a mount shows.
func (e expect) inMount(t *testing.T, m *mount) {
	t.Helper()
	found, err := readTree(m.root)
	if err = errors.Join(err, e.differs(found)); err != nil {
		t.Errorf("the mount does not show what was written: %v", err)
	}
}

// each runs a test for each kind of server, at the same time.
func each(t *testing.T, run func(t *testing.T, s *server)) {
	t.Helper()
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			run(t, startServer(t, kind))
		})
	}
}
