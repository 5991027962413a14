package writeback

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
)

// simSeeds is how many programs run in each test.
const simSeeds = 100

// simRun is a program that appends to a journal on a simDisk, and what it was promised.
// Group n is a few records with the ID n.
type simRun struct {
	t     *testing.T
	dice  *rand.Rand
	disk  *simDisk
	boot  int
	next  uint64          // of the next group
	state []uint64        // the groups that are live, ascending
	sure  map[uint64]bool // must be there now
	gone  map[uint64]bool // refused for want of space
	lose  bool            // the crash will be a loss of power, not only of the process

	after *simDisk // as the crash left it
	must  []uint64 // what must be there then
	may   map[uint64]bool
	sum   int // of must over all crashes
}

func simGroup(n uint64) []*record {
	dice := rand.New(rand.NewPCG(n, 9))
	group := make([]*record, 1+dice.IntN(4))
	for i := range group {
		size := dice.IntN(60)
		if dice.IntN(12) == 0 {
			size = dice.IntN(3000)
		}
		group[i] = &record{Kind: recOp, Op: opPut, ID: n, Gen: uint64(i), Size: int64(len(group)), Path: strings.Repeat("p", size)}
	}
	return group
}

// crash notes what the disk would be now, and what has to be on it.
func (r *simRun) crash() {
	if r.lose {
		r.after = r.disk.powerLost(r.dice)
	} else {
		r.after = r.disk.killed()
	}
	r.may = map[uint64]bool{}
	for _, n := range r.state {
		if r.sure[n] {
			r.must = append(r.must, n)
		}
	}
	for n := range r.next + 1 {
		r.may[n] = !r.gone[n]
	}
}

// run works until the crash.
func (r *simRun) run(j *journal, crashAt int) {
	ops := 0
	r.disk.before = func() {
		if ops++; ops == crashAt {
			r.crash()
		}
	}
	r.disk.part = func(n int) int { return r.dice.IntN(n + 1) }
	for r.after == nil {
		switch r.dice.IntN(12) {
		case 0:
			r.synced(j.sync())
		case 1:
			if r.dice.IntN(4) == 0 {
				r.compact(j)
			}
		case 2: // many are done
			k := r.dice.IntN(len(r.state) + 1)
			r.forget(k)
		default:
			r.append(j, r.dice.IntN(4) == 0)
		}
	}
	r.disk.before, r.disk.part, r.disk.fail = nil, nil, nil
	_ = j.close() // of a process that is dead
}

// forget lets go of the oldest groups. They may be there or not from now on.
func (r *simRun) forget(k int) {
	for _, n := range r.state[:k] {
		delete(r.sure, n)
	}
	r.state = r.state[k:]
}

func (r *simRun) append(j *journal, sync bool) {
	n := r.next
	err := j.append(simGroup(n), sync)
	if r.after == nil {
		r.next++
	}
	var e *remote.Error
	switch {
	case err == nil || errors.As(err, &e) && e.Unsure:
		r.state = append(r.state, n)
		r.sure[n] = err == nil && sync || !r.lose
	case errors.Is(err, remote.NoSpace):
		r.gone[n] = true
	case r.disk.fail == nil:
		r.t.Errorf("append: %v", err)
	}
	if sync {
		r.synced(err)
	}
}

// synced notes that all is safe.
func (r *simRun) synced(err error) {
	if err == nil {
		for _, n := range r.state {
			r.sure[n] = true
		}
	}
}

func (r *simRun) compact(j *journal) {
	err := j.compact(func(yield func(*record) bool) {
		for _, n := range r.state {
			for _, rec := range simGroup(n) {
				if !yield(rec) {
					return
				}
			}
		}
	})
	if err == nil {
		r.synced(nil)
	} else if r.disk.fail == nil && r.disk.space == 0 {
		r.t.Errorf("compact: %v", err)
	}
}

// reopen reads what the crash left, and goes on with it.
func (r *simRun) reopen() *journal {
	if r.after != nil {
		r.disk = r.after
	}
	if r.lose {
		r.boot++
	}
	r.lose = r.dice.IntN(2) == 0
	j, err := openLog("", logOptions{SegmentSize: 8 << 10, Reserve: 2 << 10, BootID: fmt.Sprint("boot-", r.boot), fs: r.disk, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		r.t.Fatal(err)
	}
	all := logReplayAll(r.t, j)
	found := r.groups(all)
	has := map[uint64]bool{}
	for i, n := range found {
		if has[n] = true; r.after != nil && !r.may[n] {
			r.t.Errorf("group %d was never added, or was refused", n)
		}
		if i > 0 && found[i-1] >= n {
			r.t.Errorf("group %d comes behind group %d", n, found[i-1])
		}
	}
	r.sum += len(r.must)
	for _, n := range r.must {
		if !has[n] {
			r.t.Errorf("group %d of %d is lost", n, r.next)
		}
	}
	if text := j.damage(); text != "" {
		r.t.Errorf("damage: %s", text)
	}
	r.after, r.must, r.state, r.sure = nil, nil, found, has
	r.next++ // of the one that was under way
	return j
}

// groups returns the groups of records, each of which has to be whole.
func (r *simRun) groups(all []*record) (found []uint64) {
	for len(all) > 0 {
		want := simGroup(all[0].ID)
		for i, rec := range want {
			if i >= len(all) || all[i].ID != rec.ID || all[i].Gen != rec.Gen || all[i].Path != rec.Path {
				r.t.Fatalf("group %d is not whole", rec.ID)
			}
		}
		found = append(found, want[0].ID)
		all = all[len(want):]
	}
	return found
}

func simPrograms(t *testing.T, trouble func(r *simRun)) {
	t.Helper()
	t.Parallel()
	promised := 0
	for seed := range uint64(simSeeds) {
		r := &simRun{t: t, dice: rand.New(rand.NewPCG(seed, 77)), disk: newSimDisk(), sure: map[uint64]bool{}, gone: map[uint64]bool{}}
		for range 5 {
			j := r.reopen()
			if trouble != nil {
				trouble(r)
			}
			r.run(j, 1+r.dice.IntN(150))
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
		_ = r.reopen().close()
		promised += r.sum
	}
	if promised < 1000 {
		t.Errorf("only %d groups were promised", promised)
	}
}

// simSick lets operations of the disk fail now and then.
func simSick(r *simRun) {
	dice := rand.New(rand.NewPCG(r.next, 5))
	r.disk.fail = func(op, _ string) error {
		if dice.IntN(12) == 0 {
			return fmt.Errorf("%s: %w", op, errSimDisk)
		}
		return nil
	}
}

// simSmall gives the disk little space.
func simSmall(r *simRun) { r.disk.space = 40<<10 + r.dice.Int64N(30<<10) }

// TestLogCrash ends the process or loses power at any point. If the process ends, all is
// there that was added; if power is lost, what was synced. Groups are whole and in their
// order, and nothing is called damaged.
func TestLogCrash(t *testing.T) { simPrograms(t, nil) }

// TestLogCrashSick is TestLogCrash on a disk with errors.
func TestLogCrashSick(t *testing.T) { simPrograms(t, simSick) }

// TestLogCrashFull is TestLogCrash on a disk that is full now and then.
func TestLogCrashFull(t *testing.T) { simPrograms(t, simSmall) }
