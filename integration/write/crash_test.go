package write_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
)

// How many kills there are, on each kind of branch, in all lanes together.
const (
	killsCI    = 200
	killsLong  = 4000
	lanes      = 2
	drainEvery = 10 // kills
	keepShare  = 10 // one kill of so many more is of the lane that keeps archives
)

// lane is a mount of one branch of each kind that dies again and again.
type lane struct {
	sides  []*side
	random *rand.Rand
	cache  string
	point  string // the mount's directory
	log    string
	mount  *harness.Mount
	env    []string
	flags  []string // of its mounts, besides others
	delays []string // of uploads, one of which each mount has
	keeps  bool     // small files in archives
	// archives sums up how many the servers had after each round.
	archives int
	kills    int
	cut      int // operations that were under way when the process was killed
	round    int
}

// side is a branch of a lane: its server, the process that works on it, and what it must have.
type side struct {
	*server
	hands *driver
	// may are what it may have: without the operation that was under way when the process
	// was killed, and with it.
	may     []*model
	cut     *op      // that operation, nil if there was none
	history []string // the last operations, for reports
	wrong   []string // paths
	slow    atomic.Int64
}

// TestCrash kills the process at random points of random programs, with uploads under way
// and operations in flight. Whatever the point, the next mount shows what was acknowledged;
// and when that has drained, every server has it, and nothing else.
func TestCrash(t *testing.T) {
	seed := newSeed(t)
	kills := kills(t)
	for i := range lanes {
		t.Run(fmt.Sprint("lane", i), func(t *testing.T) {
			t.Parallel()
			newLane(t, newRandom(seed, uint64(i)), kinds()...).die(t, kills/lanes)
		})
	}
	t.Run("keep", func(t *testing.T) {
		t.Parallel()
		keepLane(t, seed).die(t, kills/keepShare)
	})
}

// die kills the process so many times.
func (l *lane) die(t *testing.T, kills int) {
	for l.kills < kills && !t.Failed() {
		l.again(t)
	}
	if t.Failed() {
		return
	}
	l.drain(t)
	t.Logf("%d kills in %d rounds, %d operations were cut off, %d archives", l.kills, l.round, l.cut, l.archives)
	if l.cut < l.kills/4 {
		t.Error("hardly any operation was cut off")
	}
	if l.keeps && l.archives == 0 && !through() {
		t.Error("nothing was stored in archives")
	}
}

// kills returns how many there are to be.
func kills(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("MESHMOUNT_KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("MESHMOUNT_KILLS: %v", err)
		}
		return n
	}
	if long() {
		return killsLong
	}
	return killsCI
}

// newLane starts servers and drivers.
func newLane(t *testing.T, random *rand.Rand, kinds ...string) *lane {
	t.Helper()
	dir := t.TempDir()
	l := &lane{random: random, cache: filepath.Join(dir, "cache"), point: filepath.Join(dir, "mnt"), log: filepath.Join(dir, "log"),
		delays: []string{"0s", "0s", "5ms", "100ms", "1h"}}
	if err := os.Mkdir(l.point, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		s := &side{server: startServer(t, kind), hands: startDriver(t), may: []*model{newModel()}}
		s.slowDown()
		s.litter = true
		l.sides = append(l.sides, s)
		l.env = append(l.env, password(kind))
	}
	t.Cleanup(func() {
		if l.mount != nil {
			l.mount.Destroy()
		}
		if t.Failed() {
			l.keepLog(t)
		}
	})
	return l
}

// keepLog shows what the log tells of what was found wrong, and keeps all of it if that is
// wanted.
func (l *lane) keepLog(t *testing.T) {
	text, err := os.ReadFile(l.log)
	if err != nil {
		return // it never started
	}
	t.Logf("log:\n%s", l.excerpt(string(text)))
	if dir := os.Getenv("MESHMOUNT_LOGS"); dir != "" {
		name := filepath.Join(dir, fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), os.Getpid()))
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// excerpt returns the lines of the log that speak of what was found wrong, and of mounts.
func (l *lane) excerpt(log string) string {
	if !slices.ContainsFunc(l.sides, func(s *side) bool { return len(s.wrong) > 0 }) {
		return tail(log)
	}
	lines := slices.DeleteFunc(strings.Split(log, "\n"), func(line string) bool {
		return !strings.Contains(line, "msg=mounted") && !slices.ContainsFunc(l.sides, func(s *side) bool { return s.concerns(line) })
	})
	return strings.Join(lines[max(0, len(lines)-mostHistory):], "\n")
}

// concerns tells whether a line of the log is about what was found wrong, or about what was
// renamed above it.
func (s *side) concerns(line string) bool {
	mine := strings.Contains(line, "branch="+s.kind+" ") || strings.Contains(line, "branch=/"+s.kind+" ")
	for _, path := range s.wrong {
		for wanted := path; wanted != "" && wanted != "."; wanted = filepath.Dir(wanted) {
			if names(line, "/"+s.kind+"/"+wanted) || mine && names(line, "/"+wanted) {
				return true
			}
			if !strings.Contains(line, "op=rename") {
				break
			}
		}
	}
	return false
}

// names tells whether a path is one of the values of a line of the log.
func names(line, path string) bool {
	return strings.Contains(line+" ", "="+path+" ") || strings.Contains(line, fmt.Sprintf("=%q", path))
}

// slowDown makes the server take its time for some changes, so that kills meet them.
func (s *side) slowDown() {
	delay := func() time.Duration { return time.Duration(rand.Int64N(s.slow.Load() + 1)) }
	if s.zone != nil {
		s.zone.SetFaults(func(zone.Call) *zone.Fault { return &zone.Fault{Delay: delay() / 4} })
		return
	}
	s.share.SetFaults(func(r *http.Request) *efss.Fault {
		if r.Method == "PROPFIND" {
			return nil
		}
		return &efss.Fault{Delay: delay()}
	})
}

// start mounts, with other timing each time.
func (l *lane) start(t *testing.T) {
	t.Helper()
	delay := l.delays[l.random.IntN(len(l.delays))]
	args := []string{writeMode(), "--cache-dir=" + l.cache, "--cache-size=256MiB", "--early-upload=2MiB", "--upload-delay=" + delay,
		"--written-times=exact", "--retry-time=5s", "--io-timeout=15s", "--log-level=debug"}
	args = append(args, l.flags...)
	for _, s := range l.sides {
		s.slow.Store(l.random.Int64N(int64(8 * time.Millisecond)))
		args = append(args, s.branch(s.kind, s.address()))
	}
	m, err := harness.Start(t.Context(), harness.Spec{Binary: harness.StaticProgram(t), Dir: l.point, Args: args, Env: l.env, Log: l.log})
	if err != nil {
		t.Fatal(err)
	}
	l.mount = m
}

// again mounts, compares what is there with what must be, works and kills the process.
func (l *lane) again(t *testing.T) {
	t.Helper()
	l.round++
	l.start(t)
	l.look(t)
	if t.Failed() {
		return
	}
	l.work(t)
	settle(t, l.servers()...)
	l.count(t)
	if l.kills%drainEvery == 0 {
		l.drain(t)
	}
}

func (l *lane) servers() []*server {
	list := make([]*server, len(l.sides))
	for i, s := range l.sides {
		list[i] = s.server
	}
	return list
}

// look compares the trees that the mount shows with what must be there, and goes on from
// what was found.
func (l *lane) look(t *testing.T) {
	t.Helper()
	defer l.watch()()
	for _, s := range l.sides {
		found, err := s.hands.tree(filepath.Join(l.point, s.kind))
		for range 10 { // a rename within a zone shows its third name for an instant
			if err == nil || s.zone == nil || !strings.Contains(err.Error(), ".meshmount-moving-") {
				break
			}
			found, err = s.hands.tree(filepath.Join(l.point, s.kind))
		}
		if err != nil {
			if _, path, ok := strings.Cut(err.Error(), l.point+"/"+s.kind+"/"); ok {
				path, _, _ = strings.Cut(path, ":")
				s.wrong = append(s.wrong, path)
			}
			t.Errorf("round %d: %s: %v\nafter\n%s", l.round, s.kind, err, strings.Join(s.history, "\n"))
			continue
		}
		s.check(t, fmt.Sprintf("round %d: the next mount", l.round), found, false)
		s.may, s.cut = []*model{observed(found)}, nil
	}
}

// check reports how a tree differs from all that there may be.
func (s *side) check(t *testing.T, when string, found tree, onServer bool) {
	t.Helper()
	var faults, paths []string
	for i, m := range append(slices.Clone(s.may), s.stuck(found)...) {
		wrong := m.compare(found, onServer)
		if s.zone != nil && len(wrong) > 0 { // of a rename behind, which was made again since
			wrong = m.compare(moved(found), onServer)
		}
		if len(wrong) == 0 {
			return
		}
		for _, fault := range wrong {
			path, _, _ := strings.Cut(fault, " is ")
			path, _, _ = strings.Cut(path, " should ")
			paths = append(paths, path)
		}
		faults = append(faults, fmt.Sprintf("-- with %d operations under way:", i))
		faults = append(faults, wrong[:min(len(wrong), mostFaults)]...)
	}
	s.wrong = append(s.wrong, paths...)
	t.Errorf("%s: %s:\n%s\nafter\n%s", when, s.kind, strings.Join(faults, "\n"), strings.Join(s.history, "\n"))
}

// moved is a tree without what renames in a zone have left that were cut short.
func moved(found tree) tree {
	found = maps.Clone(found)
	maps.DeleteFunc(found, func(at string, _ entry) bool { return strings.HasPrefix(filepath.Base(at), ".meshmount-moving-") })
	return found
}

// stuck is what there may be of a rename that was cut short between collections of a zone: if
// the new name is taken next to the old one it goes by way of a third, and a kill leaves it there.
func (s *side) stuck(found tree) (may []*model) {
	if s.zone == nil || s.cut == nil || s.cut.Verb != "rename" {
		return nil
	}
	for at := range found {
		if strings.HasPrefix(filepath.Base(at), ".meshmount-moving-") {
			m := s.may[0].clone()
			m.rename(s.cut.Path, at)
			may = append(may, m)
		}
	}
	return may
}

const (
	mostFaults  = 10
	mostHistory = 150
)

// remember takes note of the operations of a round, the last of which may have happened.
func (s *side) remember(l *lane, program []op, done int, failed error) {
	s.history = append(s.history, fmt.Sprintf("== round %d", l.round))
	for i, o := range program[:min(done+1, len(program))] {
		s.history = append(s.history, fmt.Sprintf("%d %v", i, o))
	}
	s.history = append(s.history, fmt.Sprintf("== killed after %d of %d operations: %v", done, len(program), failed))
	s.history = s.history[max(0, len(s.history)-mostHistory):]
	without := s.may[0]
	for i := range done {
		without.apply(&program[i])
	}
	s.may, s.cut = []*model{without}, nil
	if done < len(program) {
		s.cut = &program[done]
		with := without.clone()
		with.apply(&program[done])
		with.blur(&program[done])
		s.may = append(s.may, with)
	}
}

// watch has the process tell in its log what it does, and end, if it hangs.
func (l *lane) watch() (stop func()) {
	m := l.mount
	hung := time.AfterFunc(patience, func() { _ = m.Signal(syscall.SIGQUIT) }) // fails if it has died
	return func() { hung.Stop() }
}

// work has a program carried out on each branch and kills the process in the middle of one.
func (l *lane) work(t *testing.T) {
	t.Helper()
	programs := make([][]op, len(l.sides))
	for i, s := range l.sides {
		programs[i] = plan(l.random, s.may[0], 10+l.random.IntN(60))
	}
	k := newKiller(l, programs)
	defer l.watch()()
	results := make([]result, len(l.sides))
	var workers sync.WaitGroup
	for i, s := range l.sides {
		workers.Go(func() {
			r := &results[i]
			r.done, r.failed, r.err = s.hands.run(filepath.Join(l.point, s.kind), programs[i], func(n int) { k.tell(i, n) })
			if r.early = r.failed != nil && !k.killed.Load(); r.early {
				out, err := exec.Command(harness.StaticProgram(t), "status", "--all", l.point).CombinedOutput()
				r.status = fmt.Sprintf("%s%v", out, err)
			}
		})
	}
	workers.Wait()
	k.wait()
	l.mount.Destroy()
	l.kills++
	for i, s := range l.sides {
		r := &results[i]
		s.remember(l, programs[i], r.done, r.failed)
		if r.err != nil || r.early {
			failed := programs[i][min(r.done, len(programs[i])-1)]
			s.wrong = append(s.wrong, failed.Path, failed.To)
			t.Errorf("round %d: %s: %v: %v (%v)\n%s\nafter\n%s", l.round, s.kind, failed,
				r.failed, r.err, r.status, strings.Join(s.history, "\n"))
		}
		if r.failed != nil {
			l.cut++
		}
	}
}

// result is what became of a program.
type result struct {
	done   int    // operations that have returned
	failed error  // of the next one
	early  bool   // that was before the process was killed
	status string // if it was early
	err    error  // of the driver
}

// killer kills the process some time after an operation of one of the programs.
type killer struct {
	victim, at int
	due        chan struct{}
	killed     atomic.Bool
	done       sync.WaitGroup
}

func newKiller(l *lane, programs [][]op) *killer {
	k := &killer{victim: l.random.IntN(len(programs)), due: make(chan struct{})}
	k.at = 1 + l.random.IntN(len(programs[k.victim]))
	pause := time.Duration(l.random.Int64N(int64(time.Millisecond)))
	if l.random.IntN(4) == 0 {
		pause = time.Duration(l.random.Int64N(int64(60 * time.Millisecond)))
	}
	k.done.Go(func() {
		<-k.due
		time.Sleep(pause)
		k.killed.Store(true)
		_ = l.mount.Signal(syscall.SIGKILL) // fails if it has died: that is seen by the programs
	})
	return k
}

// tell hears that n operations of a program have returned.
func (k *killer) tell(program, n int) {
	if program == k.victim && n == k.at {
		close(k.due)
	}
}

// wait returns when the process was killed.
func (k *killer) wait() {
	select {
	case <-k.due:
	default: // the program has failed
		close(k.due)
	}
	k.done.Wait()
}

// drain mounts once more, has everything stored and compares the servers' own trees, and
// what a mount without memory shows, with what was acknowledged.
func (l *lane) drain(t *testing.T) {
	t.Helper()
	l.round++
	l.start(t)
	l.look(t)
	l.stop(t)
	if t.Failed() { // a tree that is wrong is not worth looking at once more
		return
	}
	l.unpack(t)
	for _, s := range l.sides {
		s.check(t, fmt.Sprintf("round %d: the server's own tree", l.round), s.stored(t), true)
	}
	known := l.cache
	l.cache = filepath.Join(t.TempDir(), "cache")
	l.start(t)
	l.look(t)
	l.stop(t)
	if err := os.RemoveAll(l.cache); err != nil {
		t.Error(err)
	}
	l.cache = known
}

// stop ends the mount in one of the ways that wait for everything to be stored.
func (l *lane) stop(t *testing.T) {
	t.Helper()
	if l.random.IntN(2) == 0 {
		if err := l.mount.Unmount(); err != nil {
			t.Errorf("round %d: %v", l.round, err)
		}
		return
	}
	defer l.mount.Destroy()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := errors.Join(l.mount.Signal(syscall.SIGTERM), l.mount.Wait(ctx)); err != nil {
		t.Errorf("round %d: %v", l.round, err)
	}
}
