package integration_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/harness"
	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// zoneVictim is an object that is overwritten again and again while things die.
type zoneVictim struct {
	name   string
	least  int // bytes
	most   int
	atomic bool // goes in one call: old content or new, whatever dies
	begun  int
	acked  int
	torn   int
}

// zoneVictims are one object that goes in one call and one that goes in pieces.
func zoneVictims() []*zoneVictim {
	return []*zoneVictim{
		{name: "small", least: 16, most: 1 << 18, atomic: true},
		{name: "large", least: 4<<20 + 1, most: 4<<20 + 1<<18},
	}
}

// content is the n-th version: its number and bytes that follow from it.
func (v *zoneVictim) content(n int) []byte {
	random := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(v.least >> 8), 1})
	content := make([]byte, v.least+int(random.Uint64()%uint64(v.most-v.least)))
	_, _ = random.Read(content) // it never fails
	binary.LittleEndian.PutUint64(content, uint64(n))
	return content
}

// overwrite writes the next version through a mount.
func (v *zoneVictim) overwrite(mount string) error { return v.overwriting(mount, func() {}) }

// overwriting is overwrite, and calls begun when the file has been opened.
func (v *zoneVictim) overwriting(mount string, begun func()) error {
	file, err := os.OpenFile(filepath.Join(mount, "z", v.name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	v.begun++
	begun()
	_, err = file.Write(v.content(v.begun))
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	v.acked = v.begun
	return nil
}

// check looks at what the zone has: an old version that is not older than the last one
// acknowledged, a new one, or, where that is promised, something that nobody can take
// for content.
func (v *zoneVictim) check(t *testing.T, direct *irods.Backend) {
	t.Helper()
	content, err := readObject(t, direct, "/"+v.name)
	switch {
	case remote.KindOf(err) == remote.NotExist && v.acked == 0:
	case remote.KindOf(err) == remote.Corrupt && !v.atomic:
		v.torn++
	case err != nil:
		t.Errorf("%s: after %d was acknowledged and %d begun: %v", v.name, v.acked, v.begun, err)
	case len(content) < 16:
		t.Errorf("%s: a stump of %d bytes", v.name, len(content))
	default:
		n := int(binary.LittleEndian.Uint64(content) & 0xffffff)
		switch {
		case !bytes.Equal(content, v.content(n)):
			t.Errorf("%s: a mixture of %d bytes, head of version %d, after %d was acknowledged and %d begun",
				v.name, len(content), n, v.acked, v.begun)
		case n < v.acked || n > v.begun:
			t.Errorf("%s: version %d, but %d was acknowledged and %d begun", v.name, n, v.acked, v.begun)
		default:
			v.acked = n
		}
	}
}

// readObject reads an object as soon as nobody writes it any more.
func readObject(t *testing.T, b *irods.Backend, path string) ([]byte, error) {
	t.Helper()
	for deadline := time.Now().Add(longest); ; time.Sleep(20 * time.Millisecond) {
		r, err := b.Open(t.Context(), remote.Ref{Path: path, Size: -1})
		var content []byte
		if err == nil {
			content, err = io.ReadAll(r)
			err = errors.Join(err, r.Close())
		}
		kind := remote.KindOf(err)
		if err == nil || kind != remote.Locked && kind != remote.Changed || time.Now().After(deadline) {
			return content, err
		}
	}
}

// zoneKill is a zone behind a proxy, with a client of its own that looks on.
type zoneKill struct {
	z       *zone.Zone
	proxy   *remotetest.Proxy
	direct  *irods.Backend
	args    []string
	env     []string
	victims []*zoneVictim
	random  *rand.Rand
}

func newZoneKill(t *testing.T) *zoneKill {
	t.Helper()
	z := startZone(t, zone.Options{})
	proxy := remotetest.NewProxy(t, z.Addr())
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := &zoneKill{z: z, proxy: proxy, direct: dialZone(t, zoneURL(z, z.Addr(), "alice"), zoneSecret),
		args:    []string{"--attr-ttl=0s", "--dir-ttl=0s", "z=" + zoneURL(z, proxy.Addr(), "alice")},
		env:     []string{"MESHMOUNT_PASSWORD_Z=" + zoneSecret},
		victims: zoneVictims(), random: rand.New(rand.NewPCG(seed, 2))}
	t.Cleanup(func() { _ = k.direct.Close() })
	return k
}

// round overwrites all victims in a mount until something happens to them.
func (k *zoneKill) round(t *testing.T, mount string, disaster func() (over func())) {
	t.Helper()
	for _, v := range k.victims {
		if err := v.overwrite(mount); err != nil { // one for sure: what was torn can be written again
			t.Fatalf("%s: version %d: %v", v.name, v.begun, err)
		}
	}
	stop := make(chan struct{})
	var writers, under sync.WaitGroup
	for _, v := range k.victims {
		under.Add(1)
		begun := sync.OnceFunc(under.Done)
		writers.Go(func() {
			for v.overwriting(mount, begun) == nil {
				select {
				case <-stop:
					return
				default:
				}
			}
			begun()
		})
	}
	under.Wait()
	time.Sleep(time.Duration(k.random.IntN(150)) * time.Millisecond)
	over := disaster()
	close(stop)
	writers.Wait()
	over()
	for _, v := range k.victims {
		v.check(t, k.direct)
	}
}

// settle waits until the zone has carried out what the dead program had sent: an agent
// goes on with a request that has arrived whole, and would else end it after the next
// program has written.
func (k *zoneKill) settle(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(longest); k.proxy.Stats().Open > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("agents of a dead program are still there: %+v", k.proxy.Stats())
		}
	}
}

func (k *zoneKill) report(t *testing.T) {
	t.Helper()
	for _, v := range k.victims {
		t.Logf("%s: %d versions, torn %d times", v.name, v.begun, v.torn)
		if v.begun < full(zoneRoundsSome, zoneRoundsLong)*3/2 {
			t.Errorf("%s: hardly anything happened", v.name)
		}
	}
}

// Rounds of each disaster.
const (
	zoneRoundsSome = 50
	zoneRoundsLong = 200
)

// TestZoneKill kills the program at random moments of overwrites. Objects that go in
// one call are whole afterwards; larger ones may be torn, which is seen as such.
func TestZoneKill(t *testing.T) {
	k := newZoneKill(t)
	for range full(zoneRoundsSome, zoneRoundsLong) {
		m := harness.MountingProgram(t, harness.StaticProgram(t), k.env, k.args...)
		k.round(t, m.Dir, func() func() { m.Kill(); return func() { k.settle(t) } })
		if t.Failed() {
			return
		}
	}
	k.report(t)
}

// TestZoneKilledAgents kills all agents of the zone at random moments, and cuts
// connections at random bytes in either direction, while one mount goes on: nothing
// acknowledged is lost, and writing goes on.
func TestZoneKilledAgents(t *testing.T) {
	t.Parallel()
	k := newZoneKill(t)
	m := harness.MountingProgram(t, harness.StaticProgram(t), k.env, k.args...)
	disasters := []func() func(){
		func() func() { k.z.KillAgents(); return func() {} },
		func() func() { k.z.KillAgents(); return func() {} },
		func() func() { k.proxy.CutUp(k.random.Int64N(6 << 20)); return func() { k.proxy.CutUp(-1) } },
		func() func() { k.proxy.CutDown(k.random.Int64N(8 << 10)); return func() { k.proxy.CutDown(-1) } },
	}
	for i := range 2 * full(zoneRoundsSome, zoneRoundsLong) {
		k.round(t, m.Dir, disasters[i%len(disasters)])
		if t.Failed() {
			t.Fatalf("disaster %d", i%len(disasters))
		}
	}
	k.report(t)
	m.MustUnmount(t)
	for _, v := range k.victims {
		v.check(t, k.direct)
	}
}
