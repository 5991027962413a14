package writeback

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// logSlowDir is a directory in which a sync takes as long as the test wants.
type logSlowDir struct {
	logDir
	syncs *atomic.Int64
	gate  chan struct{}
}

type logSlowFile struct {
	logFile
	dir logSlowDir
}

func (d logSlowDir) create(name string) (logFile, error) {
	file, err := d.logDir.create(name)
	return logSlowFile{file, d}, err
}

func (f logSlowFile) sync() error {
	f.dir.syncs.Add(1)
	<-f.dir.gate
	return f.logFile.sync()
}

// TestLogGroupCommit has many appends wait for one sync, and the next one serve them all.
func TestLogGroupCommit(t *testing.T) {
	dir := logSlowDir{logDir: logDir(t.TempDir()), syncs: &atomic.Int64{}, gate: make(chan struct{}, 1)}
	j, _ := logOpen(t, "", logOptions{fs: dir})
	dir.gate <- struct{}{}
	logAppend(t, j, false, recPut(0)) // makes the segment
	begun := dir.syncs.Load()
	var wg sync.WaitGroup
	const writers = 20
	for n := range writers {
		wg.Go(func() {
			if err := j.append([]*record{recPut(n)}, true); err != nil {
				t.Error(err)
			}
		})
	}
	for appended := uint64(0); appended < writers+1; time.Sleep(time.Millisecond) { // all but one while it syncs
		j.mu.Lock()
		appended = j.seq
		j.mu.Unlock()
	}
	close(dir.gate)
	wg.Wait()
	if n := dir.syncs.Load() - begun; n < 1 || n > 2 {
		t.Errorf("%d syncs for %d appends", n, writers)
	}
}

// TestLogConcurrentSick has several goroutines append to a disk with errors, and loses
// power: whatever was synced is there.
func TestLogConcurrentSick(t *testing.T) {
	for seed := range uint64(30) {
		disk := newSimDisk()
		opts := logOptions{SegmentSize: 8 << 10, Reserve: 1 << 10, fs: disk}
		j, _ := logOpen(t, "", opts)
		dice := rand.New(rand.NewPCG(seed, 3))
		disk.fail = func(op, name string) error {
			if dice.IntN(15) == 0 {
				return fmt.Errorf("%s %s: %w", op, name, errSimDisk)
			}
			return nil
		}
		disk.slow = func() { time.Sleep(100 * time.Microsecond) } // others append meanwhile
		var wg sync.WaitGroup
		var mu sync.Mutex
		synced := map[uint64]bool{}
		for w := range uint64(5) {
			wg.Go(func() {
				for n := range uint64(40) {
					id := w*1000 + n
					if j.append(simGroup(id), n%3 != 0) == nil && n%3 != 0 {
						mu.Lock()
						synced[id] = true
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		opts.fs, opts.BootID = disk.powerLost(dice), "boot-2"
		after, all := logOpen(t, "", opts)
		for _, n := range (&simRun{t: t}).groups(all) {
			delete(synced, n)
		}
		if len(synced) > 0 || after.damage() != "" {
			t.Fatalf("seed %d: %d groups are lost, damage %q", seed, len(synced), after.damage())
		}
	}
}
