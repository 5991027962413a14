package irods

import (
	"context"
	"sync"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// vigil says how to wait for the server while it computes the checksum of an object, which
// it does before it answers the closing: for an object of 100 GiB that takes minutes in
// which nothing moves here.
type vigil struct {
	pulse time.Duration // between two questions whether the server is alive
	rate  int64         // bytes/s that the server's storage reads at least
}

// patientVigil is slow enough for a busy disk. A server that hangs longer than that is
// given up like any other.
var patientVigil = vigil{pulse: 5 * time.Second, rate: 20 << 20}

// watch counts as progress that the server is alive, as long as it may take to read size
// bytes. The returned function ends that, and waits for the end.
func (v vigil) watch(ctx context.Context, address string, size int64) (end func()) {
	most := time.Duration(float64(size) / float64(v.rate) * float64(time.Second))
	if most < v.pulse {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	var task sync.WaitGroup
	task.Go(func() {
		ticker := time.NewTicker(v.pulse)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if alive(ctx, address, v.pulse) {
					remote.Progress(ctx)
				}
			}
		}
	})
	return func() { cancel(); task.Wait() }
}

func alive(ctx context.Context, address string, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return wire.Heartbeat(ctx, address) == nil
}
