package keep_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/memory"
)

// explorePlan is how a run is made. The seed decides all that it leaves open.
type explorePlan struct {
	seed    uint64
	errands int
	narrow  bool    // all is about few names of one directory
	faults  float64 // of requests
	torn    float64 // of listings: what changes while they run shows or does not, by chance
	server  memory.Options
	bare    bool // the server cannot remove directories as a whole
	// lie, if set, may carry out a request in another way than the server does.
	lie func(x *explorer, c *remote.Call, next func() error) error
}

// explorer has several clients of one server do random errands. Each request waits until a
// scheduler lets it through, one at a time, in an order that the seed decides; some fail,
// before or after they had their effect, and some have it much later. The model knows what
// the clients were told, and what the server may show because of it.
type explorer struct {
	t      *testing.T
	plan   explorePlan
	rng    *rand.Rand // of the scheduler's goroutine
	server *memory.Backend
	shown  remote.Backend // the server as clients see it
	nodes  []*exploreNode
	wait   sync.WaitGroup // for errands

	mu       sync.Mutex // guards what follows
	clock    int        // counts all that happens
	model    exploreModel
	waiting  []*exploreRequest
	late     []lateRequest
	log      []string
	wrong    []string // what should not have happened
	begun    int      // errands
	requests int
	// compactions is how many later generations of archives clients have stored, or tried to.
	compactions int
}

// exploreNode is one client, until it dies.
type exploreNode struct {
	x      *explorer
	number int
	k      *keep.Backend
	weight float64 // how likely its requests come next; of the scheduler's goroutine
	busy   int     // errands; guarded by x.mu
	dead   bool    // guarded by x.mu
}

// exploreRequest is a request that waits for the scheduler.
type exploreRequest struct {
	node    *exploreNode
	errand  *errand // nil if it belongs to none
	call    *remote.Call
	half    bool // the second half of a listing
	verdict chan verdict
}

// text names a request.
func (r *exploreRequest) text() string {
	half := ""
	if r.half {
		half = " (second half)"
	}
	return fmt.Sprintf("node %d, errand %d: %s%s %s %s %d", r.node.number, r.errand.id(), r.call.Op, half, r.call.Path, r.call.To, r.call.Off)
}

// verdict is what becomes of a request.
type verdict struct {
	fault exploreFault
	coin  uint64
	torn  bool
}

type exploreFault int

const (
	goesWell exploreFault = iota
	failsBefore
	failsAfter
	comesLate
)

// explore runs a plan and returns what has come of it.
func explore(t *testing.T, plan explorePlan) (x *explorer) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, plan.seed)
	synctest.Test(t, func(t *testing.T) {
		x = &explorer{t: t, plan: plan, rng: rand.New(rand.NewPCG(plan.seed, 1)), server: memory.New(plan.server)}
		x.shown = x.server
		if plan.bare {
			x.shown = bareServer{x.server, x.server, x.server}
		}
		for _, dir := range exploreDirs {
			if _, err := x.server.Mkdir(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 4 {
			x.nodes = append(x.nodes, x.newNode(i))
		}
		x.run()
		x.finish(t.Context())
	})
	return x
}

// bareServer has few abilities.
type bareServer struct {
	remote.Backend
	remote.AttrSetter
	remote.Opener
}

func (x *explorer) newNode(number int) *exploreNode {
	n := &exploreNode{x: x, number: number, weight: 1}
	n.k = keep.Wrap(remote.Intercept(x.shown, n.pass), keep.Options{})
	return n
}

// run schedules until all errands are done.
func (x *explorer) run() {
	for range 200_000 {
		synctest.Wait()
		if !x.step() {
			x.wait.Wait()
			return
		}
	}
	x.violation("the clients come to no end")
	for _, n := range x.nodes {
		x.kill(n)
	}
	for range 100 {
		synctest.Wait()
		time.Sleep(time.Minute)
	}
	x.wait.Wait()
}

// step lets one thing happen, and tells whether there is more to come.
func (x *explorer) step() bool {
	x.mu.Lock()
	x.clock++
	waiting, late, begun := len(x.waiting), len(x.late), x.begun
	x.mu.Unlock()
	if x.rng.IntN(30) == 0 {
		for _, n := range x.nodes {
			n.weight = []float64{0.01, 0.3, 1}[x.rng.IntN(3)]
		}
	}
	idle := x.idle()
	chance := x.rng.Float64()
	switch {
	case begun < x.plan.errands && idle >= 0 && (waiting == 0 || chance < 0.2):
		x.begin(idle)
	case late > 0 && chance < 0.25:
		x.land(x.rng.IntN(late))
	case chance > 0.98:
		time.Sleep([]time.Duration{100 * time.Millisecond, 3 * time.Second, 63 * time.Second, 10 * time.Minute}[x.rng.IntN(4)])
	case waiting > 0:
		x.grant()
	case begun < x.plan.errands || x.working():
		time.Sleep(100 * time.Millisecond) // somebody waits for that
	default:
		return false
	}
	return true
}

// idle returns a slot whose client can take an errand, -1 if there is none. Those of the
// dead get a new client.
func (x *explorer) idle() int {
	slot := x.rng.IntN(len(x.nodes))
	n := x.nodes[slot]
	x.mu.Lock()
	busy, dead := n.busy, n.dead
	x.mu.Unlock()
	switch {
	case busy == 0 && (dead || x.rng.IntN(30) == 0):
		x.nodes[slot] = x.newNode(n.number + len(x.nodes))
	case dead, busy > 1:
		return -1
	}
	return slot
}

func (x *explorer) working() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range x.nodes {
		if n.busy > 0 {
			return true
		}
	}
	return false
}

// begin starts an errand of a client.
func (x *explorer) begin(slot int) {
	n := x.nodes[slot]
	x.mu.Lock()
	x.begun++
	n.busy++
	e := &errand{number: x.begun, node: n, start: x.clock, rng: rand.New(rand.NewPCG(x.plan.seed, uint64(x.begun)+2))}
	x.mu.Unlock()
	x.wait.Go(func() {
		e.do()
		x.mu.Lock()
		defer x.mu.Unlock()
		x.clock++
		n.busy--
		e.ended = true
		e.close(x.clock)
	})
}

// grant lets one of the waiting requests through, or fail.
func (x *explorer) grant() {
	r := x.choose()
	v := verdict{coin: x.rng.Uint64(), torn: x.rng.Float64() < x.plan.torn}
	if x.rng.Float64() < x.plan.faults && (r.errand == nil || !r.errand.spared) {
		v.fault = failsBefore + exploreFault(x.rng.IntN(3))
	}
	dies := v.fault != goesWell && x.rng.IntN(4) == 0
	x.mu.Lock()
	x.requests++
	if r.call.Op == remote.OpPut && isZip(r.call.Path) && !isFirst(r.call.Path) {
		x.compactions++
	}
	if v.fault != goesWell && r.errand != nil {
		r.errand.faults++
	}
	x.note("%s%s%s", r.text(), [...]string{"", " FAILS BEFORE", " FAILS AFTER", " COMES LATE"}[v.fault], map[bool]string{true: ", THEN IT DIES"}[dies])
	x.mu.Unlock()
	if dies { // with this request, which may still have its effect
		x.kill(r.node)
	}
	r.verdict <- v
}

// choose takes one of the waiting requests.
func (x *explorer) choose() *exploreRequest {
	x.mu.Lock()
	defer x.mu.Unlock()
	slices.SortStableFunc(x.waiting, func(a, b *exploreRequest) int { return strings.Compare(a.text(), b.text()) })
	total := 0.0
	for _, r := range x.waiting {
		total += r.node.weight
	}
	at, i := x.rng.Float64()*total, 0
	for ; i < len(x.waiting)-1 && at >= x.waiting[i].node.weight; i++ {
		at -= x.waiting[i].node.weight
	}
	r := x.waiting[i]
	x.waiting = slices.Delete(x.waiting, i, i+1)
	return r
}

// kill lets no more request of a client through.
func (x *explorer) kill(n *exploreNode) {
	x.mu.Lock()
	defer x.mu.Unlock()
	n.dead = true
	left := x.waiting[:0]
	for _, r := range x.waiting {
		if r.node == n {
			r.verdict <- verdict{fault: failsBefore}
			continue
		}
		left = append(left, r)
	}
	x.waiting = left
}

// note adds a line to the log. mu is held.
func (x *explorer) note(format string, args ...any) {
	x.log = append(x.log, fmt.Sprintf("%5d ", x.clock)+fmt.Sprintf(format, args...))
}

// violation notes what should not be.
func (x *explorer) violation(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.violated(format, args...)
}

// violated is violation while mu is held.
func (x *explorer) violated(format string, args ...any) {
	x.wrong = append(x.wrong, fmt.Sprintf(format, args...))
	x.note("VIOLATION: "+format, args...)
}

// exploreSeeds returns which runs are made: a few, many in the long mode, or one.
func exploreSeeds(t *testing.T, few, many int) (first, n int) {
	if text := os.Getenv("MESHMOUNT_EXPLORE_SEED"); text != "" {
		seed, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return seed, 1
	}
	if os.Getenv("MESHMOUNT_LONG") != "" {
		return 0, many
	}
	return 0, few
}

// planOf derives a plan from a seed.
func planOf(seed int) explorePlan {
	p := explorePlan{seed: uint64(seed), errands: 50, bare: seed%3 == 1}
	p.faults = []float64{0, 0.01, 0.04, 0.1}[seed%4]
	p.torn = []float64{0, 0.3}[seed/2%2]
	if seed%2 == 1 {
		p.server.Granularity = time.Second
	}
	p.narrow = seed%7 > 3
	p.server.Propagate, p.server.Checksums = seed%5 == 2, seed%7 == 3
	return p
}

// TestExplore wants that of all that clients were told to be stored nothing is lost, hidden,
// doubled or damaged, and that what was removed stays away, whatever the order of their
// requests, and whichever of these fail, are late, or are the last of their client.
// MESHMOUNT_EXPLORE_SEED=n makes one run and shows its log.
func TestExplore(t *testing.T) {
	first, n := exploreSeeds(t, 42, 20_000)
	requests, compactions := 0, 0
	for seed, bad := first, 0; seed < first+n && bad < 20; seed++ {
		x := explore(t, planOf(seed))
		if len(x.wrong) > 0 {
			bad++
			t.Errorf("seed %d:\n%s", seed, strings.Join(x.wrong, "\n"))
		}
		if n == 1 {
			t.Log(strings.Join(x.log, "\n"))
		}
		requests, compactions = requests+x.requests, compactions+x.compactions
	}
	t.Logf("%d runs, %d requests, %d compactions", n, requests, compactions)
	if n > 1 && compactions < n/20 {
		t.Error("hardly anything was compacted")
	}
}

// ask waits until the scheduler has judged a request.
func (n *exploreNode) ask(ctx context.Context, c *remote.Call, half bool) (verdict, error) {
	r := &exploreRequest{node: n, call: c, half: half, verdict: make(chan verdict, 1)}
	r.errand, _ = ctx.Value(errandKey{}).(*errand)
	n.x.mu.Lock()
	if n.dead {
		n.x.mu.Unlock()
		return verdict{fault: failsBefore}, nil
	}
	n.x.waiting = append(n.x.waiting, r)
	n.x.mu.Unlock()
	select {
	case v := <-r.verdict:
		return v, nil
	case <-ctx.Done():
		n.x.mu.Lock()
		defer n.x.mu.Unlock()
		if i := slices.Index(n.x.waiting, r); i >= 0 {
			n.x.waiting = slices.Delete(n.x.waiting, i, i+1)
		}
		return verdict{}, ctx.Err()
	}
}
