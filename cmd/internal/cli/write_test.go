package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/integration/efss"
)

// moodySite is a server that refuses what is written while it is told to.
type moodySite struct {
	*efss.Running
	answer atomic.Int64 // status for all that changes something, 0: it is carried out
}

func newMoodySite(t *testing.T) *moodySite {
	t.Helper()
	s := &moodySite{Running: site(t, efss.StartOptions{})}
	s.SetFaults(func(r *http.Request) *efss.Fault {
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, "PROPFIND", "REPORT", "SEARCH":
			return nil
		}
		if status := s.answer.Load(); status != 0 {
			return &efss.Fault{Status: int(status)}
		}
		return nil
	})
	return s
}

// back mounts with --write=back.
func (w *world) back(s *moodySite, flags ...string) {
	w.t.Helper()
	w.succeeds(w.run(append(append([]string{"mount", "--write=back"}, flags...), w.point, "a="+address(s.Running))...))
}

// store writes a file in the mount.
func (w *world) store(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.point, "a", name), []byte(text), 0o644); err != nil {
		w.t.Fatalf("%v\n%s", err, w.logs())
	}
}

// status returns what status --json tells of the only mount.
func (w *world) status(args ...string) control.Status {
	w.t.Helper()
	r := w.run(append([]string{"status", "--json"}, args...)...)
	w.succeeds(r)
	var list []control.Status
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list) != 1 {
		w.t.Fatalf("%v: %s", err, r.out)
	}
	return list[0]
}

// becomes waits until the only mount's status is as check wants it.
func (w *world) becomes(check func(*control.Status) bool) control.Status {
	w.t.Helper()
	var s control.Status
	await(w.t, func() error {
		if s = w.status(); !check(&s) {
			return fmt.Errorf("%+v\n%s", s, w.logs())
		}
		return nil
	})
	return s
}

func parkedOne(s *control.Status) bool { return s.Parked == 1 }

// leftList reads the list that a command has printed.
func leftList(t *testing.T, text string) pending.Left {
	t.Helper()
	var l pending.Left
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return l
}

func TestFlushAndStatus(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	w.back(s, "--upload-delay=1h", "--staging-size=64MiB")
	w.store("one", "text")
	if err := os.Mkdir(filepath.Join(w.point, "a/dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.store("dir/two", "more text")
	now := w.status(w.point)
	if now.Mountpoint != w.point || now.State != control.StateMounted || now.Write != "back" || now.PID != w.holder().PID || now.Limit != 64<<20 ||
		len(now.Branches) != 1 || now.Branches[0].Name != "/a" || !now.Branches[0].Mounted || now.Parked != 0 || now.Pending < 2 {
		t.Errorf("%+v", now)
	}
	if _, err := os.Stat(filepath.Join(s.Disk("me"), "one")); err == nil {
		t.Error("it was uploaded before its time")
	}
	r := w.run("status")
	w.succeeds(r)
	for _, want := range []string{w.point + ": process ", "writes back", "branch  pending", "/a      ", "put /a/one, 4 B", "put /a/dir/two, 9 B"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is not in\n%s", want, r.out)
		}
	}
	w.succeeds(w.run("flush", filepath.Join(w.point, "a/dir")))
	readBack(t, filepath.Join(s.Disk("me"), "dir/two"), "more text")
	if now := w.status("--all"); now.Pending != 1 || len(now.Items) != 1 || now.Items[0].Path != "/a/one" || now.Items[0].Size != 4 {
		t.Errorf("%+v", now)
	}
	r = w.run("flush", "--json")
	w.succeeds(r)
	if !strings.Contains(r.out, `"count": 0`) {
		t.Errorf("%s", r.out)
	}
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	if now := w.status(); now.Pending != 0 || len(now.Items) != 0 {
		t.Errorf("%+v", now)
	}
	w.succeeds(w.run("unmount", w.point))
	w.clean()
	if r := w.run("status"); r.code != exit.OK || r.out != "there are no mounts\n" {
		t.Errorf("%+v", r)
	}
}

// TestFsyncReachesTheServer if it is to, and tells what the server says.
func TestFsyncReachesTheServer(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
	w.back(s, "--upload-delay=1h", "--fsync=remote")
	file, err := os.Create(filepath.Join(w.point, "a/one"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString("text")
	if err := errors.Join(err, file.Sync()); err != nil {
		t.Errorf("%v\n%s", err, w.logs())
	}
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	s.answer.Store(http.StatusForbidden)
	_, err = file.WriteString(", more")
	if syncErr := file.Sync(); err != nil || !errors.Is(syncErr, os.ErrPermission) {
		t.Errorf("%v, %v", err, syncErr)
	}
	if err := file.Close(); err != nil && !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
	w.becomes(parkedOne)
	s.answer.Store(0)
	w.succeeds(w.run("retry", "--all"))
	w.succeeds(w.run("unmount", w.point))
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text, more")
	w.clean()
}

// TestUploadLimit tells how fast an upload goes and how long it will take.
func TestUploadLimit(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2")
	w.back(s, "--upload-delay=0", "--upload-limit=256KiB")
	content := strings.Repeat("0123456789abcdef", 1<<16)
	w.store("one", content)
	now := w.becomes(func(s *control.Status) bool { return s.Uploading == 1 && s.Sent > 0 && s.Rate > 0 })
	if now.Bytes != int64(len(content)) || now.Sent >= now.Bytes || now.TimeLeft() <= 0 {
		t.Errorf("%+v", now)
	}
	r := w.run("status")
	if !strings.Contains(r.out, "uploading") || !strings.Contains(r.out, "/s") || !strings.Contains(r.out, " % sent") {
		t.Errorf("%s", r.out)
	}
	w.succeeds(w.run("unmount", w.point))
	readBack(t, filepath.Join(s.Disk("me"), "one"), content)
	w.clean()
}

// TestUnmountUploads although it is not time yet.
func TestUnmountUploads(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	w.back(s, "--upload-delay=1h")
	w.store("one", "text")
	w.succeeds(w.run("pause", w.point))
	if now := w.status(); !now.Paused || now.Pending != 1 {
		t.Errorf("%+v", now)
	}
	r := w.run("unmount", "--json", w.point)
	w.succeeds(r)
	if l := leftList(t, r.out); l.Count != 0 || l.Mountpoint != w.point || l.Changes == nil {
		t.Errorf("%+v", l)
	}
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	w.clean()
}

// TestUnmountLeavesWhatCannotBeStored for the next mount.
func TestUnmountLeavesWhatCannotBeStored(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	w.back(s, "--drain-timeout=1s")
	dir := w.holder().CacheDir
	s.answer.Store(http.StatusServiceUnavailable)
	w.store("one", "text")
	r := w.run("unmount", "--json", w.point)
	w.fails(r, exit.DataLeft, "1 change (4 B) did not reach their servers: /a/one")
	if !strings.Contains(r.errors, "list: "+filepath.Join(dir, "leftovers.json")) {
		t.Errorf("%s", r.errors)
	}
	l := leftList(t, r.out)
	if l.Count != 1 || l.Bytes != 4 || l.Changes[0].Op != "put" || l.Changes[0].Path != "/a/one" || l.CacheDir != dir {
		t.Errorf("%+v", l)
	}
	readBack(t, l.Changes[0].File, "text")
	if file, err := os.ReadFile(filepath.Join(dir, "leftovers.json")); err != nil || string(file) != r.out {
		t.Errorf("%q, %v", file, err)
	}
	w.clean()
	// It can be looked at and copied without a mount.
	for _, args := range [][]string{nil, {w.point}, {filepath.Join(w.point, "a/one")}, {"--cache-dir", dir}} {
		if now := w.status(args...); now.State != control.StateEnded || now.Pending != 1 || now.Mountpoint != w.point || len(now.Items) != 1 || now.Items[0].Path != "/a/one" {
			t.Errorf("%q: %+v", args, now)
		}
	}
	if r := w.run("status"); !strings.Contains(r.out, w.point+": not mounted; what is left is uploaded by the next mount with "+dir) {
		t.Errorf("%+v", r)
	}
	w.fails(w.run("flush"), exit.DataLeft, "changes of the mount on "+w.point+" wait in "+dir)
	w.succeeds(w.run("export", "out", "1"))
	readBack(t, filepath.Join(w.dir, "out/a/one"), "text")
	r = w.run("export", "out", "1")
	if r.code != exit.Failed || !strings.Contains(r.out, "out/a/one exists already") {
		t.Errorf("%+v", r)
	}
	// The next mount has it at once, and uploads it.
	w.back(s)
	readBack(t, filepath.Join(w.point, "a/one"), "text")
	s.answer.Store(0)
	w.succeeds(w.run("retry", "--all"))
	w.succeeds(w.run("flush", w.point))
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	w.succeeds(w.run("unmount", w.point))
	if _, err := os.Stat(filepath.Join(dir, "leftovers.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the list is still there: %v", err)
	}
	w.clean()
}

// TestParkedChanges are told, copied, tried again and given up.
func TestParkedChanges(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	w.back(s, "--upload-delay=0")
	s.answer.Store(http.StatusForbidden)
	w.store("one", "text")
	now := w.becomes(parkedOne)
	item := now.Items[0]
	if item.State != control.ItemParked || item.Cause == "" || item.Kind != "permission" && item.Kind == "" || now.Pending != 0 {
		t.Errorf("%+v", item)
	}
	readBack(t, item.File, "text")
	id := fmt.Sprint(item.ID)
	r := w.run("flush", filepath.Join(w.point, "a"))
	w.fails(r, exit.DataLeft, "1 change at "+w.point+" cannot be stored: /a/one (")
	if !strings.Contains(r.out, "parked") || !strings.Contains(r.out, "put /a/one, 4 B: ") {
		t.Errorf("%s", r.out)
	}
	r = w.run("export", "out")
	w.succeeds(r)
	readBack(t, filepath.Join(w.dir, "out/a/one"), "text")
	w.fails(w.run("retry", "99999"), exit.NoChange, "change 99999: there is no")
	w.fails(w.run("retry", "one"), exit.Usage, `"one" is not the number of a change`)
	w.fails(w.run("retry"), exit.Usage, "name changes by their numbers, or use --all")
	w.fails(w.run("drop", id), exit.Usage, "drop loses what was written; copy it with: meshmount export DIR; then use --i-know-this-loses-data")
	// Still refused: it is parked again.
	w.succeeds(w.run("retry", id))
	w.becomes(parkedOne)
	s.answer.Store(0)
	w.succeeds(w.run("retry", id))
	w.succeeds(w.run("flush"))
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	s.answer.Store(http.StatusForbidden)
	w.store("two", "lost")
	now = w.becomes(parkedOne)
	w.succeeds(w.run("drop", "--i-know-this-loses-data", fmt.Sprint(now.Items[0].ID)))
	w.becomes(func(s *control.Status) bool { return s.Parked == 0 && s.Pending == 0 })
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}

// TestParkedChangesAreTold by the next mount.
func TestParkedChangesAreTold(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	w.back(s, "--upload-delay=0")
	s.answer.Store(http.StatusForbidden)
	w.store("one", "text")
	w.becomes(parkedOne)
	w.fails(w.run("unmount", w.point), exit.DataLeft, "1 change (4 B) did not reach their servers: /a/one (")
	r := w.run("mount", "--write=back", w.point, "a="+address(s.Running))
	w.succeeds(r)
	if want := "meshmount: warning: 1 change of an earlier mount could not be stored; see: meshmount status " + w.point + "\n"; r.errors != want {
		t.Errorf("it warns %q, want %q", r.errors, want)
	}
	w.becomes(parkedOne)
	w.succeeds(w.run("drop", "--i-know-this-loses-data", "--mount", w.point, "1"))
	w.succeeds(w.run("unmount", w.point))
	// Dropped without a mount.
	w.back(s, "--upload-delay=0")
	w.store("two", "text")
	w.becomes(parkedOne)
	r = w.run("unmount", "--json", w.point)
	id := fmt.Sprint(leftList(t, r.out).Changes[0].ID)
	w.succeeds(w.run("drop", "--i-know-this-loses-data", id))
	if r := w.run("status"); r.out != "there are no mounts\n" {
		t.Errorf("%+v", r)
	}
	w.clean()
}

// TestWriteThroughTellsOfLeftChanges, which it does not upload.
func TestWriteThroughTellsOfLeftChanges(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	w.back(s, "--drain-timeout=1s")
	dir := w.holder().CacheDir
	s.answer.Store(http.StatusServiceUnavailable)
	w.store("one", "text")
	w.fails(w.run("unmount", w.point), exit.DataLeft, "/a/one")
	s.answer.Store(0)
	r := w.run("mount", "--write=through", w.point, "a="+address(s.Running))
	w.succeeds(r)
	if want := "meshmount: warning: 1 change of an earlier mount wait in " + dir + "; they are uploaded by a mount with --write=back\n"; r.errors != want {
		t.Errorf("it warns %q, want %q", r.errors, want)
	}
	if now := w.status(); now.Write != "through" || now.Pending != 0 {
		t.Errorf("%+v", now)
	}
	w.fails(w.run("pause", w.point), exit.Failed, "the mount writes through: nothing waits to be stored")
	w.succeeds(w.run("flush"))
	w.succeeds(w.run("unmount", w.point))
	// Another set of branches at the same place has another cache directory.
	r = w.run("mount", "--write=back", w.point, "b="+address(s.Running))
	w.succeeds(r)
	if want := "1 change of an earlier mount wait in " + dir + "; they are uploaded by a mount of the same branches with --cache-dir=" + dir; !strings.Contains(r.errors, want) {
		t.Errorf("it warns %q, want %q", r.errors, want)
	}
	w.fails(w.run("retry", "--all"), exit.Usage, "there are several mounts: ")
	w.succeeds(w.run("unmount", w.point))
	w.back(s)
	w.succeeds(w.run("unmount", w.point))
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	w.clean()
}

// TestKilledMount leaves its changes to the next one.
func TestKilledMount(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	w.back(s, "--upload-delay=1h")
	w.store("one", "text")
	h := w.holder()
	if err := syscall.Kill(h.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, func() error {
		if err := state.Probe(w.point, probePatience); !errors.Is(err, syscall.ENOTCONN) || h.Alive() {
			return fmt.Errorf("not dead: %v", err)
		}
		return nil
	})
	if now := w.status(w.point); now.State != control.StateEnded || now.Pending != 1 {
		t.Errorf("%+v", now)
	}
	w.succeeds(w.run("unmount", w.point))
	w.back(s)
	readBack(t, filepath.Join(w.point, "a/one"), "text")
	w.succeeds(w.run("unmount", w.point))
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	w.clean()
}

// TestPlainUmountGoesOnUploading, and can be waited for.
func TestPlainUmountGoesOnUploading(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	s.answer.Store(http.StatusServiceUnavailable)
	b := w.start("mount", "-f", "--write=back", w.point, "a="+address(s.Running))
	b.says(t, "msg=mounted")
	w.store("one", "text")
	if out, err := exec.Command("fusermount3", "-u", w.point).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	now := w.becomes(func(s *control.Status) bool { return s.State == control.StateDraining })
	if now.Pending != 1 || now.PID != b.cmd.Process.Pid {
		t.Errorf("%+v", now)
	}
	r := w.run("unmount", "--json", "--timeout=1s", w.point)
	w.fails(r, exit.UnmountTimeout, "is unmounted, but process ")
	if l := leftList(t, r.out); l.Count != 1 || l.Changes[0].Path != "/a/one" {
		t.Errorf("%+v", l)
	}
	if r := w.run("status", w.point); !strings.Contains(r.out, ": unmounted, and process ") {
		t.Errorf("%+v", r)
	}
	s.answer.Store(0)
	w.succeeds(w.run("retry", "--all"))
	if r := w.run("flush", w.point); r.code != exit.OK && r.code != exit.NotMounted { // it may have ended
		t.Errorf("%+v", r)
	}
	if code := b.ends(t); code != exit.OK {
		t.Errorf("code %d\n%s", code, b.log())
	}
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	w.clean()
}

// TestSecondSignalEndsTheWait for a server, and nothing is lost.
func TestSecondSignalEndsTheWait(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	s.answer.Store(http.StatusServiceUnavailable)
	b := w.start("mount", "-f", "--write=back", "--drain-timeout=0", w.point, "a="+address(s.Running))
	b.says(t, "msg=mounted")
	w.store("one", "text")
	if out, err := exec.Command("fusermount3", "-u", w.point).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.says(t, "msg=unmounted")
	b.signal(t, syscall.SIGTERM)
	b.says(t, "another signal ends the wait")
	b.signal(t, syscall.SIGTERM)
	if code := b.ends(t); code != exit.DataLeft || !strings.Contains(b.log(), "the next mount with ") || !strings.Contains(b.log(), "1 change (4 B)") {
		t.Errorf("code %d\n%s", code, b.log())
	}
	s.answer.Store(0)
	w.back(s)
	w.succeeds(w.run("unmount", w.point))
	readBack(t, filepath.Join(s.Disk("me"), "one"), "text")
	w.clean()
}

// TestNoPlaceForChanges refuses the mount and says what to do.
func TestNoPlaceForChanges(t *testing.T) {
	s := newMoodySite(t)
	w := newWorld(t, "MESHMOUNT_PASSWORD_A=hunter2", "MESHMOUNT_PASSWORD_B=hunter2")
	cache := filepath.Join(w.dir, "c")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("c/pending", 0o600, "in the way")
	mount := func(args ...string) result {
		return w.run(append([]string{"mount", "--write=back", "--cache-dir", cache, w.point}, args...)...)
	}
	w.fails(mount("a="+address(s.Running)), exit.CacheBad, "; make room or choose another --cache-dir; with --write=through nothing is kept here")
	if err := os.Remove(filepath.Join(cache, "pending")); err != nil {
		t.Fatal(err)
	}
	w.fails(mount("--staging-reserve=1000TiB", "a="+address(s.Running)), exit.CacheBad, "--staging-reserve leaves 1000TiB")
	w.fails(mount("a="+address(s.Running), "b="+address(s.Running)), exit.Config, "are the same collection, and what is written in one would not show in the other; leave one out, make one --read-only, or use --write=through")
	w.succeeds(mount("--read-only=b=true", "a="+address(s.Running), "b="+address(s.Running)))
	w.succeeds(w.run("unmount", w.point))
	w.clean()
}
