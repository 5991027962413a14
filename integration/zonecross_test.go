package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/integration/harness"
)

// crossTree makes a tree with all that both a share and a zone can keep: small and large
// files, modes, old times, links, empty files and directories, odd names.
func crossTree(t *testing.T, root string) {
	t.Helper()
	harness.Shell(t, root, `
		mkdir -p tree/sub/deep tree/empty.d
		head -c 9000000 /dev/urandom >tree/large
		head -c 70000 /dev/urandom >tree/sub/medium
		printf '#!/bin/sh\necho run\n' >tree/run.sh
		chmod 0755 tree/run.sh
		echo private >tree/private
		chmod 0600 tree/private
		: >tree/empty
		echo odd >"tree/a b  c & d;e#%41+=@!~(){}[]'"
		echo utf8 >'tree/sub/Ünïcödé-名前'
		ln -s run.sh tree/link
		ln -s sub/deep tree/dirlink
		ln -s ../no/such tree/dangling
		for i in $(seq 40); do echo "file $i" >tree/sub/deep/file$i; done
		find tree -type f -name 'file*' -exec touch -d '2011-03-04 05:06:07 UTC' {} +
		touch -d '2001-02-03 04:05:06 UTC' tree/large tree/private
		find tree -depth -type d -exec touch -d '2012-01-02 03:04:05 UTC' {} +
	`)
}

// TestCross moves and copies files and trees between a share and a zone in one mount, in
// both directions, by cp, cp -a, rsync -a and mv, and compares what comes of it, on a
// fresh mount and on the servers, too.
func TestCross(t *testing.T) {
	t.Parallel()
	s := startShareAndZone(t)
	local := t.TempDir()
	crossTree(t, local)
	want := scan(t, filepath.Join(local, "tree"))
	program := full(harness.StaticProgram, harness.Program)(t)
	m := harness.MountingProgram(t, program, s.env, s.args...)
	for _, way := range [][2]string{{"a", "b"}, {"b", "a"}} {
		from, to := filepath.Join(m.Dir, way[0]), filepath.Join(m.Dir, way[1])
		t.Run("from-"+way[0], func(t *testing.T) {
			harness.Run(t, local, "cp", "-a", "tree", filepath.Join(from, "source"))
			sameTree(t, "source", want, filepath.Join(from, "source"), true)
			crossRename(t, from, to)
			crossCopy(t, from, to, want)
			crossMove(t, from, to, want)
		})
	}
	if t.Failed() {
		return
	}
	before := map[string]map[string]fact{"a": scan(t, filepath.Join(m.Dir, "a")), "b": scan(t, filepath.Join(m.Dir, "b"))}
	m.MustUnmount(t)
	m = harness.MountingProgram(t, program, s.env, s.args...)
	for _, branch := range []string{"a", "b"} {
		after := scan(t, filepath.Join(m.Dir, branch))
		compareFacts(t, "branch "+branch+" after a fresh mount", before[branch], after)
		compareDisk(t, branch, after, s.disk(branch))
	}
	m.MustUnmount(t)
}

// sameTree compares a tree with what is wanted; exact: modes and times, too.
func sameTree(t *testing.T, what string, want map[string]fact, root string, exact bool) {
	t.Helper()
	got := scan(t, root)
	switch {
	case !exact:
		got, want = contents(got), contents(want)
	case onShare(root):
		got, want = undated(got), undated(want)
	}
	compareFacts(t, what, want, got)
}

// onShare tells whether a path is in the branch with the OpenCloud share, where the times
// of directories follow what happens below them.
func onShare(path string) bool { return strings.Contains(path+"/", "/mnt/a/") }

// undated are the facts without the times of directories.
func undated(facts map[string]fact) map[string]fact {
	bare := map[string]fact{}
	for path, f := range facts {
		if f.kind.IsDir() {
			f.mtime = 0
		}
		bare[path] = f
	}
	return bare
}

// transferred is what rsync says that it has done, without the times of directories that
// have changed by themselves.
func transferred(out, to string) string {
	if !onShare(to) {
		return out
	}
	var kept strings.Builder
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, ".d..t...... ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// contents are the facts without modes and times.
func contents(facts map[string]fact) map[string]fact {
	bare := map[string]fact{}
	for path, f := range facts {
		f.mode, f.mtime = 0, 0
		bare[path] = f
	}
	return bare
}

// crossRename checks that rename refuses to cross, and changes nothing.
func crossRename(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"large", "sub", "link"} {
		source := filepath.Join(from, "source", name)
		wantErrno(t, "rename "+name, unix.Rename(source, filepath.Join(to, "renamed")), syscall.EXDEV)
		wantErrno(t, "rename without replacing "+name, unix.Renameat2(unix.AT_FDCWD, source, unix.AT_FDCWD, filepath.Join(to, "renamed"), unix.RENAME_NOREPLACE), syscall.EXDEV)
		if _, err := os.Lstat(source); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(to, "renamed")); !os.IsNotExist(err) {
		t.Errorf("the target of a refused rename: %v", err)
	}
}

// crossCopy copies by cp, cp -a and rsync.
func crossCopy(t *testing.T, from, to string, want map[string]fact) {
	t.Helper()
	harness.Run(t, from, "cp", "source/large", filepath.Join(to, "large"))
	if got, err := examine(filepath.Join(to, "large")); err != nil || got.sum != want["large"].sum || time.Since(time.Unix(got.mtime, 0)) > time.Hour {
		t.Errorf("cp of a file: %v, %v", got, err)
	}
	harness.Run(t, from, "cp", "-r", "source", filepath.Join(to, "cp-r"))
	sameTree(t, "cp -r", want, filepath.Join(to, "cp-r"), false)
	harness.Run(t, from, "cp", "-a", "source", filepath.Join(to, "cp-a"))
	sameTree(t, "cp -a", want, filepath.Join(to, "cp-a"), true)
	rsync := func() string {
		return harness.Run(t, from, "rsync", "-a", "--itemize-changes", "source/", filepath.Join(to, "rsync")+"/")
	}
	if out := rsync(); strings.Count(out, "\n") < len(want) {
		t.Errorf("rsync copied only\n%s", out)
	}
	sameTree(t, "rsync -a", want, filepath.Join(to, "rsync"), true)
	if out := transferred(rsync(), to); out != "" {
		t.Errorf("the second rsync has something to do:\n%s", out)
	}
	out := harness.Run(t, from, "rsync", "-a", "--checksum", "--itemize-changes", "source/", filepath.Join(to, "rsync")+"/")
	if out = transferred(out, to); out != "" {
		t.Errorf("rsync by checksum has something to do:\n%s", out)
	}
	harness.Shell(t, from, `echo more >>source/sub/medium; rm source/sub/deep/file7`)
	out = harness.Run(t, from, "rsync", "-a", "--delete", "--itemize-changes", "source/", filepath.Join(to, "rsync")+"/")
	if strings.Count(out, ">f") != 1 || !strings.Contains(out, "sub/medium") || !strings.Contains(out, "*deleting   sub/deep/file7") {
		t.Errorf("after a change and a removal rsync did\n%s", out)
	}
	sameTree(t, "rsync -a after changes", scan(t, filepath.Join(from, "source")), filepath.Join(to, "rsync"), true)
}

// crossMove moves a file over another one and a tree, there and back.
func crossMove(t *testing.T, from, to string, want map[string]fact) {
	t.Helper()
	harness.Run(t, to, "mv", "large", filepath.Join(from, "source", "empty"))
	if got, err := examine(filepath.Join(from, "source", "empty")); err != nil || got.sum != want["large"].sum {
		t.Errorf("mv over a file: %v, %v", got, err)
	}
	harness.Run(t, to, "mv", "cp-a", filepath.Join(from, "moved"))
	sameTree(t, "mv", want, filepath.Join(from, "moved"), true)
	harness.Run(t, from, "mv", "moved", "source/private", to)
	sameTree(t, "mv back", want, filepath.Join(to, "moved"), true)
	for _, gone := range []string{filepath.Join(to, "large"), filepath.Join(to, "cp-a"), filepath.Join(from, "moved"), filepath.Join(from, "source", "private")} {
		if _, err := os.Lstat(gone); !os.IsNotExist(err) {
			t.Errorf("%s: %v after mv", gone, err)
		}
	}
	harness.Shell(t, from, fmt.Sprintf(`rm -r source; cd %q; rm -r cp-r; mv rsync rsync-%s; mv moved moved-%s; rm private`,
		to, filepath.Base(from), filepath.Base(from)))
}
