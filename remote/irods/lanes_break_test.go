package irods

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// breakRounds is how often something breaks in the middle of a transfer.
func breakRounds() int {
	if os.Getenv("MESHMOUNT_LONG") != "" {
		return 300
	}
	return 30
}

// breaker breaks something at the n-th call of a transfer.
type breaker struct {
	z     *zone.Zone
	proxy *remotetest.Proxy
	rnd   *rand.Rand
	stop  context.CancelFunc
}

// transferCalls are those that a large transfer is made of.
var transferCalls = []int{wire.APIDataObjOpen, wire.APIDataObjWrite, wire.APIDataObjLseek, wire.APIDataObjRead,
	wire.APIGetFileDescInfo, wire.APIReplicaClose, wire.APIDataObjClose}

// arm chooses what breaks and when, and returns its name.
func (k *breaker) arm(calls, size int) string {
	at := int64(1 + k.rnd.IntN(calls))
	var seen atomic.Int64
	faults := map[string]func() *zone.Fault{
		"the agent dies":          func() *zone.Fault { return &zone.Fault{Kill: true} },
		"the answer is lost":      func() *zone.Fault { return &zone.Fault{LoseReply: true} },
		"the server refuses":      func() *zone.Fault { return &zone.Fault{Code: wire.CodeUnixWrite - 28} },
		"the server sends junk":   func() *zone.Fault { return &zone.Fault{Raw: []byte("\x00\x00\x00\x04junk")} },
		"all agents die":          func() *zone.Fault { k.z.KillAgents(); return nil },
		"the context ends":        func() *zone.Fault { k.stop(); return nil },
		"the network is reset":    func() *zone.Fault { k.proxy.Reset(); return nil },
		"a connection is cut up":  nil,
		"a connection comes back": nil,
	}
	names := make([]string, 0, len(faults))
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	name := names[k.rnd.IntN(len(names))]
	switch name {
	case "a connection is cut up":
		k.proxy.CutUp(k.rnd.Int64N(int64(size)))
	case "a connection comes back":
		k.proxy.CutDown(k.rnd.Int64N(int64(size)))
	}
	fault := faults[name]
	k.z.SetFaults(func(c zone.Call) *zone.Fault {
		if fault == nil || c.User != "alice" || !slices.Contains(transferCalls, c.API) || seen.Add(1) != at {
			return nil
		}
		return fault()
	})
	return fmt.Sprintf("%s at call %d", name, at)
}

// disarm ends what has not broken yet.
func (k *breaker) disarm() {
	k.z.SetFaults(nil)
	k.proxy.CutUp(-1)
	k.proxy.CutDown(-1)
}

// TestWriteBreaks breaks things at random moments of writes with several lanes. There is
// the old content, the new, or something that everybody sees to be torn and that can be
// written again.
func TestWriteBreaks(t *testing.T) {
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	b, other := dialSmall(t, options(z, proxy.Addr())), dialSmall(t, options(z, z.Addr()))
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	outcomes := map[string]int{}
	for i := range breakRounds() {
		w := &brokenWrite{T: t, b: b, other: other, path: fmt.Sprintf("/f%d", i), outcomes: outcomes}
		if i%2 == 1 {
			w.old = content(testPiece+rnd.IntN(3*testPiece), byte(2*i))
			w.opts.Cond.Version = mustPut(t, other, w.path, w.old, remote.PutOptions{}).Version
		} else {
			w.opts.Cond.NotExist = true
		}
		w.data = content(testPiece+1+rnd.IntN(5*testPiece), byte(2*i+1))
		useLanes(b, 3)
		ctx, stop := context.WithCancel(t.Context())
		k := &breaker{z: z, proxy: proxy, rnd: rnd, stop: stop}
		w.what = fmt.Sprintf("round %d, %d over %d, %s", i, len(w.data), len(w.old), k.arm(20, len(w.data)))
		_, err := b.Put(ctx, w.path, remotetest.Bytes(w.data), w.opts)
		stop()
		k.disarm()
		w.check(err)
	}
	t.Logf("outcomes: %v", outcomes)
	if err := remove(t.Context(), other); err != nil {
		t.Errorf("something is still locked: %v", err)
	}
}

// brokenWrite is one round of TestWriteBreaks.
type brokenWrite struct {
	*testing.T
	b, other  *Backend
	path      string
	old, data []byte // old is nil: there was nothing
	opts      remote.PutOptions
	what      string
	outcomes  map[string]int
}

// check looks at what a put has left.
func (w *brokenWrite) check(putErr error) {
	w.Helper()
	found := w.look()
	w.outcomes[found]++
	w.Logf("%s: %v: %s", w.what, putErr, found)
	switch {
	case found == "mixture":
		w.Errorf("%s (%v): a reader gets what nobody has written", w.what, putErr)
	case putErr == nil && found != "new":
		w.Errorf("%s: the put has succeeded and left the %s", w.what, found)
	case putErr == nil || found == "new":
		return
	}
	err := insist(func() error {
		_, err := w.b.Put(w.Context(), w.path, remotetest.Bytes(w.data), w.opts)
		return err
	})
	if err != nil {
		w.Errorf("%s (%v): %s is left, and cannot be written again: %v", w.what, putErr, found, err)
		return
	}
	wantObject(w, w.other, w.path, w.data)
}

// transient tells whether an error passes when the server has noticed the end of all
// connections, and the pool the end of all agents.
func transient(err error) bool {
	return errors.Is(err, remote.Locked) || errors.Is(err, remote.Changed) || errors.Is(err, remote.Unavailable)
}

// insist repeats f as long as its error is transient.
func insist(f func() error) (err error) {
	for begin := time.Now(); time.Since(begin) < testPatience; time.Sleep(10 * time.Millisecond) {
		if err = f(); !transient(err) {
			break
		}
	}
	return err
}

// look tells what others see. The server has noticed the end of all connections when it
// has unlocked the object, which may take a moment.
func (w *brokenWrite) look() string {
	w.Helper()
	var got []byte
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		e, err := w.other.Stat(w.Context(), w.path)
		if err == nil {
			got, err = streamAll(w.Context(), w.other, e)
		}
		if err == nil {
			break
		}
		switch {
		case transient(err) && time.Since(begin) < testPatience:
			continue
		case errors.Is(err, remote.NotExist) && w.old == nil:
			return "nothing"
		case errors.Is(err, remote.Corrupt):
			return "torn"
		}
		w.Fatalf("%s: read: %v", w.what, err)
	}
	switch {
	case bytes.Equal(got, w.data):
		return "new"
	case w.old != nil && bytes.Equal(got, w.old):
		return "old"
	}
	return "mixture"
}

// remove deletes all files of a branch.
func remove(ctx context.Context, b *Backend) error {
	var faults []error
	err := b.List(ctx, "/", func(e remote.Entry) error {
		faults = append(faults, b.Remove(ctx, e.Path, remote.RemoveOptions{Type: remote.File}))
		return nil
	})
	return errors.Join(append(faults, err)...)
}
