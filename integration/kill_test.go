package integration_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
)

// victim is a file that is overwritten again and again while the process is killed.
type victim struct {
	branch string
	disk   string // on the server's disk
	atomic bool   // the adapter promises old or new content
	last   func() string
	begun  int // the last version whose writing has begun
	acked  int // the last version whose close succeeded
	torn   int // how often the disk held a mixture or a stump
}

const (
	killsDefault = 50
	killsLong    = 500
	victimMost   = 1 << 20 // bytes
)

// TestKill kills the process at random moments of overwrites, on all dialects at
// once. Whatever the moment, each server has one whole version, not older than the
// last one acknowledged, and listings show no temporary names.
//
// It does not run in parallel with tests that start processes: a process that is
// started while a file is being written has the file open, too, for a moment, and
// when it closes it, the kernel asks for what is there to be stored.
func TestKill(t *testing.T) {
	kills := killsDefault
	if os.Getenv("MESHMOUNT_LONG") != "" {
		kills = killsLong
	}
	victims, args, env := killSites(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	cut := 0
	for range kills {
		cut += killOnce(t, victims, args, env, time.Duration(random.IntN(250))*time.Millisecond)
		for _, v := range victims {
			v.check(t)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, %d of %d overwrites were cut off", kills, cut, kills*len(victims))
	if cut < kills*len(victims)/3 {
		t.Errorf("hardly any overwrite was cut off")
	}
	for _, v := range victims {
		if v.begun < kills {
			t.Errorf("%s: only %d versions written", v.branch, v.begun)
		}
	}
	listAfterKills(t, victims, args, env)
}

// killSites starts a server for each dialect and Apache, each a branch.
func killSites(t *testing.T) (victims []*victim, args, env []string) {
	t.Helper()
	add := func(name string, s site) {
		branch := "kill-" + name
		_, url, _ := strings.Cut(s.args[0], "=")
		_, secret, _ := strings.Cut(s.env[0], "=")
		args = append(args, branch+"="+url)
		env = append(env, "MESHMOUNT_PASSWORD_"+strings.ToUpper(strings.ReplaceAll(branch, "-", "_"))+"="+secret)
		victims = append(victims, &victim{branch: branch, disk: filepath.Join(s.disk("a"), "victim"),
			atomic: s.caps(t, "a").AtomicPut, last: s.last})
	}
	for _, dialect := range efss.Dialects() {
		add(dialect.String(), startEFSS(t, dialect))
	}
	add("apache", startApache(t))
	add("rclone-real", startRclone(t))
	return victims, args, env
}

// killOnce mounts, overwrites all victims until the process is killed after some
// time, and returns how many overwrites were under way then.
func killOnce(t *testing.T, victims []*victim, args, env []string, after time.Duration) int {
	t.Helper()
	m := harness.Mounting(t, env, args...)
	for _, v := range victims {
		if err := v.overwrite(m.Dir); err != nil { // one for sure, also as a warm-up
			t.Fatalf("%s: %v", v.branch, err)
		}
	}
	var writers sync.WaitGroup
	for _, v := range victims {
		writers.Go(func() {
			for v.overwrite(m.Dir) == nil {
			}
		})
	}
	time.Sleep(after)
	m.Kill()
	writers.Wait()
	cut := 0
	for _, v := range victims {
		if v.begun > v.acked {
			cut++
		}
	}
	return cut
}

// overwrite writes the next version through the mount.
func (v *victim) overwrite(mount string) error {
	v.begun++
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if v.begun%3 == 0 {
		flags = os.O_RDWR | os.O_CREATE // truncated at the end instead
	}
	file, err := os.OpenFile(filepath.Join(mount, v.branch, "victim"), flags, 0o644)
	if err != nil {
		return err
	}
	content := version(v.begun)
	_, err = file.Write(content)
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	v.acked = v.begun
	return nil
}

// check looks at what the server has.
func (v *victim) check(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(v.disk)
	if err != nil {
		t.Errorf("%s: %v", v.branch, err)
		return
	}
	n, whole := versionOf(content)
	switch {
	case !whole && !v.atomic:
		v.torn++
	case !whole:
		t.Errorf("%s: the server has a mixture or a stump of %d bytes (head: version %d) after %d was acknowledged and %d begun\n%s",
			v.branch, len(content), n, v.acked, v.begun, v.last())
	case n < v.acked || n > v.begun:
		t.Errorf("%s: the server has version %d, but %d was acknowledged and %d begun", v.branch, n, v.acked, v.begun)
	}
}

// listAfterKills looks for temporary names in listings, and at the content through
// a fresh mount.
func listAfterKills(t *testing.T, victims []*victim, args, env []string) {
	t.Helper()
	m := harness.Mounting(t, env, args...)
	for _, v := range victims {
		entries, err := os.ReadDir(filepath.Join(m.Dir, v.branch))
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 || entries[0].Name() != "victim" {
			t.Errorf("%s: the listing shows %v", v.branch, entries)
		}
		if err := v.overwrite(m.Dir); err != nil {
			t.Errorf("%s: overwrite after the kills: %v", v.branch, err)
		}
		content, err := os.ReadFile(filepath.Join(m.Dir, v.branch, "victim"))
		if err != nil || !bytes.Equal(content, version(v.begun)) {
			t.Errorf("%s: read back after the kills: %d bytes, %v", v.branch, len(content), err)
		}
		left, err := os.ReadDir(filepath.Dir(v.disk))
		if err != nil {
			t.Fatal(err)
		}
		hidden := slices.DeleteFunc(left, func(e os.DirEntry) bool { return e.Name() == "victim" || e.Name() == ".DAV" })
		t.Logf("%-16s %3d versions, torn %d, hidden leftovers on the server %d", v.branch, v.begun, v.torn, len(hidden))
	}
	m.MustUnmount(t)
}

// version returns the content of the n-th version: its number, its length, and
// bytes that follow from the number.
func version(n int) []byte {
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	size := 16 + random.Uint64()%victimMost
	content := make([]byte, size)
	_, _ = random.Read(content[16:]) // it never fails
	binary.LittleEndian.PutUint64(content, uint64(n))
	binary.LittleEndian.PutUint64(content[8:], size)
	return content
}

// versionOf returns which version content begins as, and whether it is all of it.
func versionOf(content []byte) (n int, whole bool) {
	if len(content) < 16 {
		return 0, false
	}
	head := binary.LittleEndian.Uint64(content)
	if head > 1<<24 {
		return 0, false
	}
	return int(head), bytes.Equal(content, version(int(head)))
}

// TestVersions makes sure that the kill test could see a mixture and a stump.
func TestVersions(t *testing.T) {
	for n := range 20 {
		a, b := version(n), version(n+1)
		if got, whole := versionOf(a); got != n || !whole {
			t.Errorf("version %d is not recognised: %d %v", n, got, whole)
		}
		mixture := append(slices.Clone(a[:len(a)/2]), b[min(len(a)/2, len(b)):]...)
		for what, content := range map[string][]byte{"stump": a[:len(a)-1], "mixture": mixture, "empty": nil} {
			if _, whole := versionOf(content); whole {
				t.Errorf("version %d: a %s passes", n, what)
			}
		}
	}
}
