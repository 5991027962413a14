package writeback

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const logBenchLive = 100_000

// logBenchJournal makes a journal of many live changes, each in a group of its own.
func logBenchJournal(b *testing.B, dir string) *journal {
	b.Helper()
	j, _ := logOpen(b, dir, logOptions{})
	for n := range logBenchLive {
		logAppend(b, j, false, recPut(n))
	}
	return j
}

// BenchmarkLogReplay opens a journal with 100,000 changes.
func BenchmarkLogReplay(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "j")
	logClose(b, logBenchJournal(b, dir))
	b.ResetTimer()
	for b.Loop() {
		j, err := openLog(dir, logOptions{BootID: "boot-1"})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := j.replay(func(*record, bool) error { n++; return nil }); err != nil || n != logBenchLive {
			b.Fatal(n, err)
		}
		logClose(b, j)
	}
}

// BenchmarkLogCompact compacts a journal with 100,000 changes, all of them live.
func BenchmarkLogCompact(b *testing.B) {
	j := logBenchJournal(b, filepath.Join(b.TempDir(), "j"))
	all := make([]*record, logBenchLive)
	for n := range all {
		all[n] = recPut(n)
	}
	for b.Loop() {
		err := j.compact(func(yield func(*record) bool) {
			for _, r := range all {
				if !yield(r) {
					return
				}
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	st, err := os.Stat(filepath.Join(string(j.fs.(logDir)), j.segments[0].name))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(st.Size())/logBenchLive, "bytes/change")
}

// BenchmarkLogAppend appends changes, synced or not, by one or many at once.
func BenchmarkLogAppend(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, writers := range []int{1, 16} {
			b.Run(fmt.Sprintf("sync=%v/writers=%d", sync, writers), func(b *testing.B) {
				j, _ := logOpen(b, filepath.Join(b.TempDir(), "j"), logOptions{})
				b.SetParallelism((writers + 1) / 2) // of each core
				b.RunParallel(func(pb *testing.PB) {
					for n := 0; pb.Next(); n++ {
						if err := j.append([]*record{recPut(n)}, sync); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}
