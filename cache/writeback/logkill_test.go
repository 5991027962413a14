package writeback

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	logKillDir  = "WRITEBACK_TEST_LOG_KILL_DIR"
	logKillLive = 300 // groups that the child keeps when it compacts
)

// logKillOptions make many segments.
var logKillOptions = logOptions{SegmentSize: 32 << 10, Reserve: 4 << 10}

// logOwner is an owner of a journal that appends groups in several goroutines.
type logOwner struct {
	j    *journal
	mu   sync.Mutex
	next uint64 // guarded by mu; of the next group
}

// add appends a group and says so.
func (o *logOwner) add(sync bool) error {
	o.mu.Lock()
	n := o.next
	err := o.j.append(simGroup(n), false)
	o.next++
	if err == nil && o.j.bloated(4*logKillLive, false) {
		err = o.j.compact(o.live)
	}
	o.mu.Unlock()
	if err == nil && sync {
		err = o.j.sync()
	}
	if err == nil {
		_, err = fmt.Println("added", n)
	}
	return err
}

func (o *logOwner) live(yield func(*record) bool) {
	for n := o.next - min(o.next, logKillLive); n < o.next; n++ {
		for _, r := range simGroup(n) {
			if !yield(r) {
				return
			}
		}
	}
}

// TestLogKillChild is the process that TestLogKill kills. It appends without an end.
func TestLogKillChild(t *testing.T) {
	dir := os.Getenv(logKillDir)
	if dir == "" {
		return // only a helper of TestLogKill
	}
	j, all := logOpen(t, dir, logKillOptions)
	o := &logOwner{j: j}
	if len(all) > 0 {
		o.next = all[len(all)-1].ID + 1
	}
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for n := 0; ; n++ {
				if err := o.add((n+w)%5 == 0); err != nil {
					fmt.Println("failed", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestLogKill kills a process that appends, again and again: whatever it said to have
// added is there, in its order.
func TestLogKill(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "j")
	dice := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	last, total := -1, 0
	for round := range 50 {
		added := logKillOne(t, dir, dice.IntN(400))
		total += len(added)
		j, all := logOpen(t, dir, logKillOptions)
		found := (&simRun{t: t}).groups(all)
		if !slices.IsSorted(found) || len(found) != int(found[len(found)-1]-found[0])+1 {
			t.Fatalf("round %d: groups are missing between %d and %d, which are %d", round, found[0], found[len(found)-1], len(found))
		}
		last = max(last, slices.Max(append(added, -1)))
		if int(found[0]) > max(last-logKillLive+3, 0) || int(found[len(found)-1]) < last {
			t.Fatalf("round %d: found %d to %d, but %d was added", round, found[0], found[len(found)-1], last)
		}
		if text := j.damage(); text != "" {
			t.Errorf("round %d: damage: %s", round, text)
		}
		if round%4 == 0 {
			logClose(t, j)
		} else {
			logAbandon(t, j)
		}
	}
	t.Logf("%d groups were added", total)
}

// logKillOne runs the child until it has added as many groups and some more, and returns
// what it added.
func logKillOne(t *testing.T, dir string, count int) (added []int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLogKillChild$")
	cmd.Env = append(os.Environ(), logKillDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text, ok := strings.CutPrefix(lines.Text(), "added ")
		n, err := strconv.Atoi(text)
		if !ok || err != nil {
			t.Errorf("the child says %q", lines.Text())
			break
		}
		if added = append(added, n); len(added) == count+1 {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	return added
}
