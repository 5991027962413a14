package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// million is a directory with a million entries in 10,000 listings, saved once.
func million(b *testing.B) string {
	dir := filepath.Join(b.TempDir(), "c")
	s := openStore(b, dir, Options{Size: 10 << 30})
	tr := s.Tree("b")
	for i := range 10_000 {
		for s.meta.waits(maxQueued / 2) {
		}
		save(tr, listing(fmt.Sprintf("/some/project/data/d%03d/run%d", i/100, i%100), 100, i))
	}
	closeStore(b, s)
	return dir
}

// rss is the resident memory of this process in KiB.
func rss(b *testing.B) (kib int) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatal(err)
	}
	return kib
}

func BenchmarkMetaOpen(b *testing.B) {
	dir := filepath.Join(million(b), metaDirName)
	before := rss(b)
	for b.Loop() {
		l, err := openMeta(dir, 256<<20, func(int64) bool { return true }, (&lines{}).logger())
		if err != nil || l.stats().Kept != 10_000 {
			b.Fatal(err, l.stats())
		}
		b.ReportMetric(float64(rss(b)-before), "KiB-more")
		b.ReportMetric(float64(l.stats().Bytes)/1e6, "MB-disk")
		b.StopTimer()
		l.close()
		b.StartTimer()
	}
}

func BenchmarkMetaLoad(b *testing.B) {
	s := openStore(b, million(b), Options{Size: 10 << 30})
	defer closeStore(b, s)
	tr := s.Tree("b")
	for i := 0; b.Loop(); i++ {
		if l, ok := tr.Load(fmt.Sprintf("/some/project/data/d%03d/run%d", i/100%100, i%100)); !ok || len(l.Entries) != 100 {
			b.Fatal(l, ok)
		}
	}
}

func BenchmarkMetaSave(b *testing.B) {
	s := openStore(b, filepath.Join(b.TempDir(), "c"), Options{Size: 10 << 30})
	defer closeStore(b, s)
	tr, l := s.Tree("b"), listing("/d", 100, 1)
	for b.Loop() {
		tr.Prepare(l)
	}
	_ = tr
}
