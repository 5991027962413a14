package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/integration/efss"
)

func TestStats(t *testing.T) {
	s := plainSite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A_B=hunter2")
	s.put(t, "input", 1<<20)
	w.succeeds(w.run("mount", "--cache-size=64MiB", "--cache-reserve=0", w.point, "a/b="+address(s.Running)))
	if _, err := os.ReadFile(filepath.Join(w.point, "a/b/input")); err != nil {
		t.Fatal(err)
	}
	h := w.holder()
	r := w.run("stats", "--json", w.point)
	w.succeeds(r)
	var got control.Stats
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	if got.PID != h.PID || got.Mountpoint != w.point || got.Version != "test" || got.Memory.Resident < 1<<20 || got.Memory.Heap < 1<<10 || got.Memory.Limit != 256<<20 {
		t.Errorf("%+v", got)
	}
	if got.Cache == nil || got.Cache.State != "ready" || got.Cache.MaxSlots < 16 || got.Ahead == nil || got.Ahead.Limit != 56<<20 {
		t.Errorf("%+v %+v", got.Cache, got.Ahead)
	}
	if len(got.Branches) != 1 || got.Branches[0].Name != "a/b" || strings.Contains(r.out, password) {
		t.Fatalf("%s", r.out)
	}
	if read := got.Branches[0].Ops["read"]; read.Received < 1<<20 || read.Calls == 0 || read.Seconds <= 0 {
		t.Errorf("%+v", got.Branches[0].Ops)
	}
	// From within, and for people.
	cmd := w.command("meshmount", "stats", ".")
	cmd.Dir = filepath.Join(w.point, "a/b")
	r = w.finish(cmd)
	w.succeeds(r)
	for _, want := range []string{w.point + ": process ", "memory: ", "cache: ready, ", "read ahead: ", "branch a/b (", " read "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	w.succeeds(w.run("unmount", w.point))
	if _, err := os.Lstat(h.Control); err == nil {
		t.Error("the control socket is left")
	}
	w.clean()
}

func TestStatsWithoutCacheAndReadAhead(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	w.succeeds(w.run("mount", "--cache=off", "--read-ahead=0", w.point, "="+address(s)))
	r := w.run("stats", w.point)
	w.succeeds(r)
	if !strings.Contains(r.out, "cache: off\nread ahead: off\nbranch = (") {
		t.Errorf("%s", r.out)
	}
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

func TestControlOfNoMount(t *testing.T) {
	w := newWorld(t)
	for _, command := range []string{"stats", "refresh"} {
		w.fails(w.run(command, w.dir), exit.NotMounted, w.dir+" is not in a meshmount mount; see: mount -t fuse.meshmount")
		w.fails(w.run(command, "none/deep"), exit.NotMounted, "is not in a meshmount mount")
		w.fails(w.run(command), exit.Usage, "is missing; run: meshmount help "+command)
	}
}

func TestControlOfADeadMount(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	w.succeeds(w.run("mount", w.point, "="+address(s)))
	h := w.holder()
	if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, func() error {
		if err := state.Probe(w.point, probePatience); err == nil || h.Alive() {
			return errors.New("not dead")
		}
		return nil
	})
	for _, command := range []string{"stats", "refresh"} {
		w.fails(w.run(command, filepath.Join(w.point, "x")), exit.DeadMount, "the process behind the mount on "+w.point+" has died; run: meshmount unmount "+w.point)
	}
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

// TestControlSocketThatIsGone finds the mount and not its process.
func TestControlSocketThatIsGone(t *testing.T) {
	s := site(t, efss.StartOptions{})
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	w.succeeds(w.run("mount", w.point, "="+address(s)))
	if err := os.Remove(w.holder().Control); err != nil {
		t.Fatal(err)
	}
	w.fails(w.run("stats", w.point), exit.NoAnswer, "no such file or directory; see its log")
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

// TestRefresh sees what was made elsewhere before its time.
func TestRefresh(t *testing.T) {
	s := plainSite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A_B=hunter2")
	w.succeeds(w.run("mount", "--attr-ttl=1h", "--dir-ttl=1h", "--negative-ttl=1h", w.point, "a/b="+address(s.Running)))
	dir := filepath.Join(w.point, "a/b")
	seen := func() (names []string) {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	refresh := func(from string, path string) {
		t.Helper()
		cmd := w.command("meshmount", "refresh", path)
		cmd.Dir = from
		r := w.finish(cmd)
		w.succeeds(r)
		if r.out != "" || r.errors != "" {
			t.Errorf("it says %+v", r)
		}
	}
	for i, way := range []struct{ from, path string }{{w.dir, "mnt"}, {dir, "."}, {dir, ".."}, {"/", dir}} {
		name := "file" + string(rune('0'+i))
		if before := seen(); len(before) != i {
			t.Fatalf("%d files are seen: %q", i, before)
		}
		s.put(t, name, 16)
		if now := seen(); len(now) != i {
			t.Errorf("%s was seen before its time: %q", name, now)
		}
		refresh(way.from, way.path)
		await(t, func() error {
			if now := seen(); len(now) != i+1 {
				return fmt.Errorf("after refresh %s in %s: %q", way.path, way.from, now)
			}
			return nil
		})
	}
	// One name, which is known not to be there.
	if _, err := os.Stat(filepath.Join(dir, "late")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	s.put(t, "late", 32)
	if _, err := os.Stat(filepath.Join(dir, "late")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was seen before its time: %v", err)
	}
	refresh(dir, "late")
	await(t, func() error { // the kernel is told behind the command's back
		_, err := os.Stat(filepath.Join(dir, "late"))
		return err
	})
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}
