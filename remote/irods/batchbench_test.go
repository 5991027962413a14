package irods

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshmount/meshmount/integration/zone"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// BenchmarkSmallsFar stores 1,000 new files of 16 KiB over a round trip of 50 ms with a
// window of 4 MiB for each connection: one by one by 16 callers, in one batch, and in two
// batches at a time. The embedded zone takes little time for each; see the package
// documentation of integration/zone.
func BenchmarkSmallsFar(b *testing.B) {
	const n = 1000
	z := startZone(b, zone.Options{})
	far := newLongWay(b, z.Addr(), 50*time.Millisecond, 4<<20)
	client := dial(b, options(z, far.listener.Addr().String()))
	near := dial(b, options(z, z.Addr()))
	round := 0
	files := func() (items []remote.BatchItem) {
		round++
		dir := fmt.Sprintf("/d%d", round)
		mkdir(b, near, dir)
		for i := range n {
			items = append(items, remote.BatchItem{Path: fmt.Sprintf("%s/f%04d", dir, i), Source: remotetest.Bytes(content(16<<10, byte(i)))})
		}
		return items
	}
	b.Run("single", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			work := make(chan remote.BatchItem, n)
			for _, it := range files() {
				work <- it
			}
			close(work)
			b.StartTimer()
			var tasks sync.WaitGroup
			for range 16 {
				tasks.Go(func() {
					for it := range work {
						if _, err := client.Put(b.Context(), it.Path, it.Source, fresh); err != nil {
							b.Error(err)
						}
					}
				})
			}
			tasks.Wait()
		}
	})
	for _, at := range []int{1, 2} {
		b.Run(fmt.Sprintf("batch/%d", at), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				items := files()
				b.StartTimer()
				var tasks sync.WaitGroup
				for i := range at {
					tasks.Go(func() {
						results, err := client.PutBatch(b.Context(), items[i*n/at:(i+1)*n/at])
						for _, r := range results {
							err = errors.Join(err, r.Err)
						}
						if err != nil {
							b.Error(err)
						}
					})
				}
				tasks.Wait()
			}
		})
	}
}
