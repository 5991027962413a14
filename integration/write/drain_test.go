package write_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/fs/control"
	"github.com/meshmount/meshmount/integration/harness"
)

// exitDataLeft is the exit code of an end that leaves changes on this node.
const exitDataLeft = 53

// writeSome writes some files, which the server takes its time for.
func writeSome(t *testing.T, m *mount) expect {
	t.Helper()
	want := expect{"d": nil}
	m.mkdir(t, "d")
	for i := range 20 {
		name := fmt.Sprint("d/f", i)
		want[name] = book(uint64(i), 30_000)
		m.write(t, name, want[name])
	}
	want["large"] = book(99, 6<<20)
	m.write(t, "large", want["large"])
	return want
}

// TestDrain ends mounts of slow servers in the ways that wait: the end comes when the server
// has all.
func TestDrain(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *mount){
		"unmount": func(t *testing.T, m *mount) { must(t, "unmount", m.Dir) },
		"SIGTERM": func(t *testing.T, m *mount) {
			if err := m.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		},
		"fusermount3": func(t *testing.T, m *mount) { // nobody waits, and the process goes on
			harness.Run(t, "/", "fusermount3", "-u", m.Dir)
			if on, err := harness.Mounted(m.Dir); on || err != nil {
				t.Errorf("it is still mounted (%v)", err)
			}
		},
		"fusermount3, status and unmount": func(t *testing.T, m *mount) {
			harness.Run(t, "/", "fusermount3", "-u", m.Dir)
			if now := m.status(t); now.State != control.StateDraining || now.Pending == 0 {
				t.Errorf("status after fusermount3: %+v", now)
			}
			must(t, "unmount", m.Dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, s *server) {
				m := s.mounted(t, cacheDir(t), "--upload-delay=1h", "--uploads=2", "--batch-file-size=0")
				s.slow(50 * time.Millisecond)
				want := writeSome(t, m)
				end(t, m)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if err := m.Wait(ctx); err != nil {
					t.Error(err)
				}
				want.onServer(t, s)
			})
		})
	}
}

// leftovers is what unmount --json and leftovers.json tell.
type leftovers struct {
	Count   int            `json:"count"`
	Bytes   int64          `json:"bytes"`
	Changes []control.Item `json:"changes"`
}

// files returns what is expected of files.
func (e expect) files() expect {
	files := expect{}
	for name, data := range e {
		if data != nil {
			files[name] = data
		}
	}
	return files
}

// check wants the changes of files to be told, with content that lies where it is said.
func (l *leftovers) check(t *testing.T, want expect) {
	t.Helper()
	if l.Count != len(l.Changes) || l.Count < len(want) || l.Bytes == 0 {
		t.Errorf("%d changes and %d bytes are told, %d in the list, for %d", l.Count, l.Bytes, len(l.Changes), len(want))
	}
	told := map[string]control.Item{}
	for _, i := range l.Changes {
		told[i.Path] = i
	}
	for name, data := range want {
		i, ok := told["/b/"+name]
		if !ok || i.ID == 0 || i.State == "" || i.Op == "" || data != nil && i.Size != int64(len(data)) {
			t.Errorf("%s is told as %+v", name, i)
		}
		if info, err := os.Stat(i.File); data != nil && (err != nil || info.Size() < int64(len(data))) {
			t.Errorf("%s should lie in %q: %v", name, i.File, err)
		}
	}
}

// TestDrainTimeout ends a mount whose server is away: it gives up in time, tells what is left,
// and the next mount uploads it.
func TestDrainTimeout(t *testing.T) {
	each(t, func(t *testing.T, s *server) {
		cache := cacheDir(t)
		m := s.mounted(t, cache, "--drain-timeout=1s", "--io-timeout=1h")
		d := s.holdUploads(t)
		want := writeSome(t, m)
		files := want.files()
		began := time.Now()
		out, code := command(t, "unmount", "--json", m.Dir)
		if code != exitDataLeft {
			t.Fatalf("exit code %d, want %d\n%s", code, exitDataLeft, out)
		}
		if took := time.Since(began); took > patience {
			t.Errorf("it gave up after %v", took)
		}
		var told leftovers
		if err := json.Unmarshal([]byte(jsonOf(out)), &told); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		told.check(t, files)
		text, err := os.ReadFile(filepath.Join(cache, "leftovers.json"))
		var kept leftovers
		if err == nil {
			err = json.Unmarshal(text, &kept)
		}
		if err != nil {
			t.Fatal(err)
		}
		kept.check(t, files)
		if now := statusOf(t, "--cache-dir="+cache); now.State != control.StateEnded || now.Pending+now.Parked != told.Count {
			t.Errorf("status afterwards: %+v", now)
		}
		d.open()
		s.settle(t)
		m = s.mounted(t, cache)
		want.inMount(t, m)
		m.MustUnmount(t)
		want.onServer(t, s)
		if _, err := os.Stat(filepath.Join(cache, "leftovers.json")); !os.IsNotExist(err) {
			t.Errorf("the list is still there: %v", err)
		}
	})
}

// jsonOf cuts the JSON object out of what a command printed to both outputs.
func jsonOf(out string) string {
	begin, end := -1, -1
	for i, c := range out {
		if c == '{' && begin < 0 {
			begin = i
		}
		if c == '}' {
			end = i + 1
		}
	}
	return out[max(0, begin):max(0, begin, end)]
}

// TestJournalOwned mounts with a cache directory whose journal another mount has open.
func TestJournalOwned(t *testing.T) {
	t.Parallel()
	s := startServer(t, "nextcloud")
	cache := cacheDir(t)
	m := s.mounted(t, cache)
	point := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := harness.Start(t.Context(), harness.Spec{Binary: harness.StaticProgram(t), Dir: point, Log: filepath.Join(t.TempDir(), "log"),
		Args: []string{writeMode(), "--cache-dir=" + cache, s.branch("b", s.address())}, Env: []string{password("b")}})
	if err == nil {
		t.Error("two mounts have one journal")
	}
	m.write(t, "f", book(1, 100))
	m.MustUnmount(t)
	expect{"f": book(1, 100)}.onServer(t, s)
}
