package posix_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// mapFile maps a file as a whole, shared.
func mapFile(t *testing.T, path string, prot int) []byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // the mapping stays
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), prot, unix.MAP_SHARED)
	if err != nil {
		t.Fatalf("mmap: %v", err)
	}
	return p
}

// Stores into a shared mapping are the file's content: for reads at once, for the
// server after msync, and also when the descriptor was closed before and there is
// no msync at all.
func TestSharedMapping(t *testing.T) {
	back := memory.New(memory.Options{})
	dir := ""
	if !isChild(t) {
		dir = serve(t, rootBranch(back, time.Minute)).dir
		write(t, dir+"/f", strings.Repeat("-", 10_000))
		write(t, dir+"/g", strings.Repeat("-", 10_000))
	}
	child(t, dir, nil, func(t *testing.T, dir string) {
		f := mapFile(t, dir+"/f", unix.PROT_READ|unix.PROT_WRITE)
		copy(f[5000:], "by msync")
		got, err := os.ReadFile(dir + "/f")
		if err != nil || string(got[5000:5008]) != "by msync" {
			t.Errorf("read beside the mapping: %q, %v", got[5000:5008], err)
		}
		if err := unix.Msync(f, unix.MS_SYNC); err != nil {
			t.Errorf("msync: %v", err)
		}
		w, err := os.OpenFile(dir+"/f", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteAt([]byte("by write"), 7000); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if got := string(f[7000:7008]); got != "by write" {
			t.Errorf("the mapping shows %q", got)
		}
		g := mapFile(t, dir+"/g", unix.PROT_READ|unix.PROT_WRITE)
		copy(g[9992:], "the tail")
		if err := unix.Munmap(g); err != nil {
			t.Error(err)
		}
	})
	if isChild(t) {
		return
	}
	wantFile(t, dir+"/f", strings.Repeat("-", 5000)+"by msync"+strings.Repeat("-", 1992)+"by write"+strings.Repeat("-", 2992))
	wantFile(t, dir+"/g", strings.Repeat("-", 9992)+"the tail")
	// The kernel releases the last mapping behind the program's back.
	deadline := time.Now().Add(4 * time.Minute)
	for stored(t, back, "/g") != strings.Repeat("-", 9992)+"the tail" {
		if time.Now().After(deadline) {
			t.Fatal("what was stored without msync did not reach the server")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A mapping outlives the name and the descriptor of its file.
func TestMappingOfUnlinked(t *testing.T) {
	dir := ""
	if !isChild(t) {
		dir = serve(t, memoryBranch(time.Minute)).dir
		write(t, dir+"/f", strings.Repeat("x", 20_000))
	}
	child(t, dir, nil, func(t *testing.T, dir string) {
		p := mapFile(t, dir+"/f", unix.PROT_READ|unix.PROT_WRITE)
		if err := os.Remove(dir + "/f"); err != nil {
			t.Fatal(err)
		}
		copy(p[100:], "hello")
		if err := unix.Msync(p, unix.MS_SYNC); err != nil {
			t.Error(err)
		}
		if string(p[98:107]) != "xxhelloxx" || p[19_999] != 'x' {
			t.Errorf("%q", p[98:107])
		}
	})
	if !isChild(t) {
		if _, err := os.Stat(dir + "/f"); !os.IsNotExist(err) {
			t.Errorf("the file is back: %v", err)
		}
	}
}

// A program on the mount can be run, and is not changed while it runs.
func TestExecute(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	text, err := os.ReadFile("/bin/echo")
	if err != nil {
		t.Fatal(err)
	}
	prog := filepath.Join(dir, "echo")
	if err := os.WriteFile(prog, text, 0o755); err != nil {
		t.Fatal(err)
	}
	// By way of a shell: the Go runtime would wait in its own exec for the mount.
	out, err := exec.Command("/bin/sh", "-c", `"$1" it runs`, "sh", prog).CombinedOutput()
	if err != nil || string(out) != "it runs\n" {
		t.Errorf("%q, %v", out, err)
	}
}

// stored returns what the server has of a file.
func stored(t *testing.T, b *memory.Backend, path string) string {
	t.Helper()
	e, err := b.Stat(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := b.Open(t.Context(), remote.Ref{Path: path, Size: e.Size})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Locks hold among the processes of the node. The child tries what we hold.
func TestFlock(t *testing.T) {
	dir := ""
	if !isChild(t) {
		dir = serve(t, memoryBranch(time.Minute)).dir
	}
	locksBetween(t, dir, func(fd int, exclusive bool) error {
		how := unix.LOCK_SH
		if exclusive {
			how = unix.LOCK_EX
		}
		return unix.Flock(fd, how|unix.LOCK_NB)
	}, func(fd int) error { return unix.Flock(fd, unix.LOCK_UN) })
}

func TestFcntlLocks(t *testing.T) {
	dir := ""
	if !isChild(t) {
		dir = serve(t, memoryBranch(time.Minute)).dir
	}
	lock := func(fd int, kind int16) error {
		return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: kind, Start: 10, Len: 5})
	}
	locksBetween(t, dir, func(fd int, exclusive bool) error {
		if exclusive {
			return lock(fd, unix.F_WRLCK)
		}
		return lock(fd, unix.F_RDLCK)
	}, func(fd int) error { return lock(fd, unix.F_UNLCK) })
}

// locksBetween takes locks here and tries them in a child, which reads what to try
// from a pipe, one line at a time, and answers.
func locksBetween(t *testing.T, dir string, lock func(fd int, exclusive bool) error, unlock func(fd int) error) {
	t.Helper()
	if isChild(t) {
		tryLocks(t, lock, unlock)
		return
	}
	f, err := os.Create(dir + "/lock")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ask := tryingChild(t, dir)
	fd := int(f.Fd())
	for _, step := range []struct {
		mine            func() error
		shared, exclude string
	}{
		{func() error { return nil }, "ok", "ok"},
		{func() error { return lock(fd, false) }, "ok", "busy"},
		{func() error { return lock(fd, true) }, "busy", "busy"},
		{func() error { return unlock(fd) }, "ok", "ok"},
	} {
		if err := step.mine(); err != nil {
			t.Fatal(err)
		}
		if s, e := ask("shared"), ask("exclusive"); s != step.shared || e != step.exclude {
			t.Errorf("the other process gets %s shared and %s exclusive, want %s and %s", s, e, step.shared, step.exclude)
		}
	}
	// A lock goes with the process that has it.
	if got := ask("keep"); got != "ok" {
		t.Fatal(got)
	}
	if err := lock(fd, true); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("lock that the other has: %v", err)
	}
	ask("")
	if err := lock(fd, true); err != nil {
		t.Errorf("lock that the other had: %v", err)
	}
}

// tryingChild starts the child and returns how to ask it. The question "" ends it.
func tryingChild(t *testing.T, dir string) (ask func(string) string) {
	t.Helper()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := startChild(t, dir, nil, theirIn, theirOut)
	_ = theirIn.Close()
	_ = theirOut.Close()
	answers := bufio.NewReader(out)
	return func(q string) string {
		t.Helper()
		if q == "" {
			_ = in.Close()
			if text, err := p.wait(); err != nil {
				t.Errorf("child: %v\n%s", err, text)
			}
			return ""
		}
		if _, err := fmt.Fprintln(in, q); err != nil {
			t.Fatal(err)
		}
		line, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line)
	}
}

// tryLocks is the child's side.
func tryLocks(t *testing.T, lock func(fd int, exclusive bool) error, unlock func(fd int) error) {
	fd, err := unix.Open(os.Getenv(childDir)+"/lock", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	answer := os.NewFile(4, "answers")
	questions := bufio.NewScanner(os.NewFile(3, "questions"))
	for questions.Scan() {
		err := lock(fd, questions.Text() != "shared")
		switch {
		case errors.Is(err, unix.EAGAIN):
			_, err = fmt.Fprintln(answer, "busy")
		case err == nil && questions.Text() != "keep":
			if err = unlock(fd); err == nil {
				_, err = fmt.Fprintln(answer, "ok")
			}
		case err == nil:
			_, err = fmt.Fprintln(answer, "ok")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Processes append lines to one file: none is lost or broken.
func TestAppendFromProcesses(t *testing.T) {
	const processes, lines = 4, 250
	dir := serve(t, memoryBranch(time.Minute)).dir
	var all sync.WaitGroup
	for p := range processes {
		all.Go(func() {
			script := fmt.Sprintf(`exec >>"$1"; i=0; while [ $i -lt %d ]; do echo "process %d line $i"; i=$((i+1)); done`, lines, p)
			if out, err := exec.Command("/bin/sh", "-c", script, "sh", dir+"/log").CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	text, err := os.ReadFile(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	for p := range processes {
		for i := range lines {
			if line := fmt.Appendf(nil, "process %d line %d\n", p, i); bytes.Count(text, line) != 1 {
				t.Fatalf("%q is there %d times", line, bytes.Count(text, line))
			}
		}
	}
	if n := bytes.Count(text, []byte("\n")); n != processes*lines {
		t.Errorf("%d lines", n)
	}
}

// O_DIRECT goes past the page cache and still agrees with it.
func TestDirectAndCached(t *testing.T) {
	dir := serve(t, memoryBranch(time.Minute)).dir
	direct, err := os.OpenFile(dir+"/f", os.O_CREATE|os.O_RDWR|syscall.O_DIRECT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	cached, err := os.OpenFile(dir+"/f", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer cached.Close()
	for i := range 20 {
		a, b := direct, cached
		if i%2 == 1 {
			a, b = cached, direct
		}
		want := bytes.Repeat([]byte{byte('a' + i)}, 5000+i)
		if _, err := a.WriteAt(want, int64(i*1000)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := b.ReadAt(got, int64(i*1000)); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}
