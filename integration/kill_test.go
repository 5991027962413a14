package integration_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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
	port   int    // of the server
	disk   string // on the server's disk
	atomic bool   // the adapter promises old or new content
	last   func() string
	begun  int // the last version whose file was opened to be written
	acked  int // the last version whose close succeeded, or that was there after a kill
	torn   int // how often the disk held a mixture or a stump
	gaps   int // how often there was nothing while the server still worked
}

const (
	killsSome  = 50
	killsLong  = 500
	victimMost = 1 << 20 // bytes
)

// TestKill kills the process at random moments of overwrites, on all dialects at
// once. Whatever the moment, each server has one whole version, not older than the
// last one acknowledged or seen, and listings show no temporary names.
//
// That holds at once where the adapter promises it, and on all servers when they have
// finished what the dead process had asked for. The next process begins only then: a
// server may carry out a request that it has got long after its client died, after
// those of other clients, and nothing that a client does can prevent that everywhere.
//
// It does not run in parallel with tests that start processes: a process that is
// started while a file is being written has the file open, too, for a moment, and
// when it closes it, the kernel asks for what is there to be stored.
func TestKill(t *testing.T) {
	kills := full(killsSome, killsLong)
	victims, args, env := killSites(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	cut := 0
	for range kills {
		cut += killOnce(t, victims, args, env, time.Duration(random.IntN(200))*time.Millisecond)
		for _, v := range victims {
			v.check(t, false)
		}
		settle(t, victims)
		for _, v := range victims {
			v.check(t, true)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills, %d of %d overwrites were cut off", kills, cut, kills*len(victims))
	if cut < kills*len(victims)/4 {
		t.Errorf("hardly any overwrite was cut off")
	}
	listAfterKills(t, victims, args, env)
}

// settle waits until the servers have finished what the dead process had asked for.
func settle(t *testing.T, victims []*victim) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	var ports []int
	for _, v := range victims {
		ports = append(ports, v.port)
	}
	if err := harness.Settled(ctx, ports...); err != nil {
		t.Fatal(err)
	}
}

// killSites starts a server for each dialect and Apache, each a branch.
func killSites(t *testing.T) (victims []*victim, args, env []string) {
	t.Helper()
	add := func(name string, s site) {
		branch := "kill-" + name
		_, address, _ := strings.Cut(s.args[0], "=")
		_, secret, _ := strings.Cut(s.env[0], "=")
		args = append(args, branch+"="+address)
		env = append(env, "MESHMOUNT_PASSWORD_"+strings.ToUpper(strings.ReplaceAll(branch, "-", "_"))+"="+secret)
		victims = append(victims, &victim{branch: branch, port: portOf(t, address), disk: filepath.Join(s.disk("a"), "victim"),
			atomic: s.caps(t, "a").AtomicPut, last: s.last})
	}
	for _, dialect := range efss.Dialects() {
		add(dialect.String(), startEFSS(t, dialect))
	}
	add("apache", startApache(t))
	add("rclone-real", startRclone(t))
	return victims, args, env
}

// portOf returns the port of a branch's address.
func portOf(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// killOnce mounts, overwrites all victims until the process is killed after some
// time, and returns how many overwrites were under way then.
func killOnce(t *testing.T, victims []*victim, args, env []string, after time.Duration) int {
	t.Helper()
	m := harness.MountingProgram(t, harness.StaticProgram(t), env, args...) // what the race detector says would be lost
	for _, v := range victims {
		if err := v.overwrite(m.Dir); err != nil { // one for sure, also as a warm-up
			t.Fatalf("%s: version %d: %v\n%s", v.branch, v.begun, err, v.last())
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
	next := v.begun + 1
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if next%3 == 0 {
		flags = os.O_RDWR | os.O_CREATE // truncated at the end instead
	}
	file, err := os.OpenFile(filepath.Join(mount, v.branch, "victim"), flags, 0o644)
	if err != nil {
		return err
	}
	v.begun = next
	content := version(next)
	_, err = file.Write(content)
	if err == nil {
		err = file.Truncate(int64(len(content)))
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	v.acked = next
	return nil
}

// check looks at what the server has; settled says that it has finished its work.
func (v *victim) check(t *testing.T, settled bool) {
	t.Helper()
	content, err := os.ReadFile(v.disk)
	if errors.Is(err, fs.ErrNotExist) && !v.atomic && !settled {
		v.gaps++ // the server deletes the old file before it puts the new one in its place
		return
	}
	if err != nil {
		t.Errorf("%s: %v (settled: %v), version %d was acknowledged and %d begun\n%s", v.branch, err, settled, v.acked, v.begun, v.last())
		return
	}
	n, whole := versionOf(content)
	switch {
	case !whole && !v.atomic:
		v.torn++
	case !whole:
		t.Errorf("%s: the server has a mixture or a stump of %d bytes (head: version %d, settled: %v) after %d was acknowledged and %d begun\n%s",
			v.branch, len(content), n, settled, v.acked, v.begun, v.last())
	case n < v.acked || n > v.begun:
		t.Errorf("%s: the server has version %d (settled: %v), but %d was acknowledged or seen and %d begun\n%s",
			v.branch, n, settled, v.acked, v.begun, v.last())
	default:
		v.acked = n
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
		t.Logf("%-16s %3d versions, torn %d, gaps %d, hidden leftovers on the server %d", v.branch, v.begun, v.torn, v.gaps, len(hidden))
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
