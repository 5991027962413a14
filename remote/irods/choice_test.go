package irods

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// tap is an address that passes everything on and keeps what clients send.
type tap struct {
	l    net.Listener
	mu   sync.Mutex
	sent bytes.Buffer
}

func newTap(t *testing.T, address string) *tap {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{l: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				return
			}
			all.Go(func() { _, _ = io.Copy(io.MultiWriter(server, p), client); _ = server.Close() })
			all.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return p
}

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.Write(b)
}

// during returns what was sent while f ran.
func (p *tap) during(f func()) string {
	p.mu.Lock()
	p.sent.Reset()
	p.mu.Unlock()
	f()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent.String()
}

// TestGoodReplicaIsAskedFor reads objects with a stale replica: the server is told which
// one to open, because it takes the stale one when the storage of the good one is down.
func TestGoodReplicaIsAskedFor(t *testing.T) {
	z := startZone(t, zone.Options{})
	tap := newTap(t, z.Addr())
	b := dial(t, options(z, tap.l.Addr().String()))
	t.Cleanup(func() { _ = b.Close() }) // before the tap ends
	alice := connect(t, z, "alice")
	for what, sum := range map[string]bool{"with a checksum": true, "without": false} {
		path := "/" + what
		alice.put(b.full(path), "old")
		alice.replicate(b.full(path), "resc2")
		cond := []wire.Pair{{Key: wire.KwRescName, Value: "resc2"}}
		if sum {
			cond = append(cond, wire.Pair{Key: wire.KwRegChecksum})
		}
		desc := alice.open(b.full(path), wire.OpenWriteOnly|wire.OpenTruncate, cond...)
		alice.write(desc, "new content")
		alice.close(desc)
		e := stat(t, b, path)
		asked := []byte("<keyWord>replNum</keyWord>")
		for how, far := range map[string]time.Duration{"three calls": time.Microsecond, "one call": time.Second} {
			b.pace.mu.Lock()
			b.pace.best, b.pace.at = far, time.Now()
			b.pace.mu.Unlock()
			for _, known := range []bool{true, false} {
				if !known {
					b.choices = choices{} // as after a new mount
				}
				for _, part := range []int64{0, 4} {
					got := make([]byte, e.Size-part)
					sent := tap.during(func() {
						if _, err := b.ReadAt(t.Context(), remote.Ref{Path: path, Version: e.Version, Size: e.Size}, got, part); err != nil {
							t.Errorf("%s by %s: %v", what, how, err)
						}
					})
					if string(got) != "new content"[part:] {
						t.Errorf("%s by %s: %q", what, how, got)
					}
					opened := bytes.Contains([]byte(sent), []byte("<openFlags>"))
					if opened && known && !bytes.Contains([]byte(sent), asked) {
						t.Errorf("%s by %s from %d: the replica was left to the server", what, how, part)
					}
				}
			}
		}
	}
	put(t, b, "/plain", "content", fresh)
	if sent := tap.during(func() { contentOf(t, b, "/plain") }); bytes.Contains([]byte(sent), []byte("replNum")) {
		t.Error("a replica was asked for where all are good")
	}
}

// TestChoices bounds what is remembered, and forgets what is not true any more.
func TestChoices(t *testing.T) {
	var c choices
	o := &object{id: 1, replicas: []replica{{number: 0, status: wire.ReplicaStale}, {number: 1, status: wire.ReplicaGood}}}
	c.note(o)
	if got := c.number(o.version()); got != 1 {
		t.Errorf("the good one is %d", got)
	}
	o.replicas[0].status = wire.ReplicaGood
	c.note(o)
	if got := c.number(o.version()); got != anyReplica {
		t.Errorf("of two good ones %d is asked for", got)
	}
	for id := range int64(mostChoices + 10) {
		c.note(&object{id: id, replicas: []replica{{number: 0, status: wire.ReplicaStale}, {number: 1, status: wire.ReplicaGood}}})
	}
	if len(c.list) > mostChoices {
		t.Errorf("%d are remembered", len(c.list))
	}
	c = choices{}
	c.note(&object{id: 1, replicas: []replica{{status: wire.ReplicaStale}}})
	c.note(&object{id: 2, replicas: []replica{{status: wire.ReplicaStale}, {number: 1, status: wire.ReplicaIntermediate}}})
	if len(c.list) != 0 {
		t.Errorf("a replica of what is torn or written: %v", c.list)
	}
}
