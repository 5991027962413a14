package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestPattern changes, cuts and moves contents: the check must notice.
func TestPattern(t *testing.T) {
	p := newPattern()
	const size = 3*pageSize + 100
	data, err := io.ReadAll(&source{p: p, seed: 7, size: size})
	if err == nil || len(data) != 0 {
		t.Fatalf("a small buffer gets %d bytes, %v", len(data), err)
	}
	data = make([]byte, size)
	p.fill(7, 0, data)
	for off := 0; off < size; off += 13 {
		if err := p.check(7, int64(off), data[off:]); err != nil {
			t.Fatalf("from %d: %v", off, err)
		}
	}
	if p.check(8, 0, data) == nil {
		t.Error("another file's content is right")
	}
	if p.check(7, basePages*pageSize, data) == nil {
		t.Error("content at another place is right")
	}
	for off := 0; off < size; off += 7 {
		data[off] ^= 1
		if p.check(7, 0, data) == nil {
			t.Fatalf("a changed byte at %d is right", off)
		}
		data[off] ^= 1
	}
}

// files writes some files of odd sizes.
func files(t *testing.T, p *pattern) (dir string, all []file) {
	t.Helper()
	dir = t.TempDir()
	for n, size := range []int64{0, 1, pageSize, 1 << 20, 3<<20 + 5} {
		f := file{path: "d/" + string(rune('a'+n)), seed: uint64(n), size: size}
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "d"), 0o755), p.write(filepath.Join(dir, f.path), f.seed, f.size)); err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return dir, all
}

func TestReads(t *testing.T) {
	p := newPattern()
	dir, all := files(t, p)
	m := &meter{}
	if err := readTogether(t.Context(), dir, all, 3, p, m, true); err != nil || m.work != 1+pageSize+1<<20+3<<20+5 {
		t.Errorf("%.0f bytes, %v", m.work, err)
	}
	m = &meter{}
	if err := tarAll(t.Context(), dir, "d", all, p, m); err != nil || m.work != 5 {
		t.Errorf("tar: %.0f files, %v", m.work, err)
	}
	m = &meter{}
	if err := listAll(t.Context(), dir, 5, m); err != nil {
		t.Error(err)
	}
	m = &meter{}
	if err := readRandom(t.Context(), dir, all[4], 50, time.Minute, p, m); err != nil || m.work != 50 || len(m.lat) != 50 {
		t.Errorf("random: %.0f reads, %v", m.work, err)
	}
	m = &meter{}
	if err := firstBytes(t.Context(), dir, all[1:], p, m); err != nil || m.work != 4 {
		t.Errorf("first bytes: %.0f files, %v", m.work, err)
	}
}

// TestFaultsShow spoils one byte of a file: each way to read it must fail.
func TestFaultsShow(t *testing.T) {
	p := newPattern()
	dir, all := files(t, p)
	bad := filepath.Join(dir, all[3].path)
	data, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1]++
	if err := os.WriteFile(bad, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if readTogether(t.Context(), dir, all, 2, p, &meter{}, false) == nil {
		t.Error("reading does not fail")
	}
	if tarAll(t.Context(), dir, "d", all, p, &meter{}) == nil {
		t.Error("tar does not fail")
	}
	if readRandom(t.Context(), dir, file{path: all[3].path, seed: 99, size: all[3].size}, 1, time.Minute, p, &meter{}) == nil {
		t.Error("random reads do not fail")
	}
	if err := os.Truncate(bad, 100); err != nil {
		t.Fatal(err)
	}
	if readFile(t.Context(), dir, all[3], p, nil) == nil {
		t.Error("a short file is right")
	}
	if listAll(t.Context(), dir, 6, &meter{}) == nil {
		t.Error("a missing file is not missed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := readTogether(ctx, dir, all, 2, p, &meter{}, false); err == nil && ctx.Err() == nil {
		t.Error("cancelled work is done")
	}
}

func TestCPUTicks(t *testing.T) {
	n, err := cpuTicks([]byte("42 (a ) b) S 1 42 42 0 -1 4194560 1 0 0 0 17 25 3 4 20 0 1 0 9 9 9"))
	if n != 42 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := cpuTicks([]byte("42 (x) S 1")); err == nil {
		t.Error("a short line is right")
	}
	if u, err := usageOf(os.Getpid()); err != nil || u.peak == 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

func TestQuantile(t *testing.T) {
	var lat []time.Duration
	for n := 200; n > 0; n-- {
		lat = append(lat, time.Duration(n)*time.Millisecond)
	}
	if a, b := quantile(lat, 0.5), quantile(lat, 0.99); a != 100 || b != 198 {
		t.Errorf("median %v, p99 %v", a, b)
	}
	if quantile(nil, 0.5) != 0 {
		t.Error("a quantile of nothing")
	}
}

func TestMedian(t *testing.T) {
	failed := &cell{Failed: "why"}
	samples := []*cell{{Value: 3}, failed, {Value: 1}}
	if c := median(samples); c.Value != 3 {
		t.Errorf("%+v", c)
	}
	if c := median([]*cell{failed, {Value: 1}, failed}); c != failed {
		t.Errorf("%+v", c)
	}
	if median(nil) != nil {
		t.Error("a median of nothing")
	}
}

func TestFlags(t *testing.T) {
	c, err := parseFlags([]string{"-quick", "-rows", "large.cold,zone", "-only", "ours", "-flags", "--memory 64M"})
	if err != nil || !c.shows("zone.first") || !c.shows("zonesmall.one") || c.shows("large.hot") || !slices.Equal(c.flags, []string{"--memory", "64M"}) {
		t.Errorf("%+v, %v", c, err)
	}
	var names []string
	for _, g := range wanted(c) {
		names = append(names, g.name)
	}
	if got := strings.Join(names, " "); got != "large zone zonesmall zonetree" {
		t.Errorf("groups: %s", got)
	}
	for _, args := range [][]string{{"-rows", "x"}, {"-only", "x"}, {"-n", "0"}, {"x"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// TestGroups checks that rows and files have names of their own.
func TestGroups(t *testing.T) {
	seen := map[string]bool{}
	for _, z := range []sizes{fullSizes, quickSizes} {
		clear(seen)
		for _, g := range allGroups() {
			for _, r := range g.rows(z) {
				if seen[r.Name] || r.Unit == "" || r.Title == "" || (r.Budget == "") != (len(r.checks) == 0) {
					t.Errorf("row %q: %+v", r.Name, r)
				}
				seen[r.Name] = true
			}
			if len(g.files(config{size: z, long: true})) == 0 {
				t.Errorf("group %s has no files", g.name)
			}
		}
	}
	for _, at := range places {
		seeds := map[uint64]bool{}
		for _, f := range filesOf(allGroups(), config{size: quickSizes}, at) {
			if seeds[f.seed] || f.seed == 0 {
				t.Fatalf("seed %d again", f.seed)
			}
			seeds[f.seed] = true
		}
	}
	if got := parentsOf([]file{{path: "a/b/c"}, {path: "a/d/e"}, {path: "f"}}); !slices.Equal(got, []string{"a", "a/b", "a/d"}) {
		t.Errorf("parents: %v", got)
	}
}

// TestRefusesToFillDisk asks for more than any disk has.
func TestRefusesToFillDisk(t *testing.T) {
	w := &world{dir: t.TempDir()}
	g := group{files: func(config) []file { return []file{{size: 1 << 60}} }}
	if err := w.checkSpace([]group{g}, config{}); err == nil {
		t.Error("no error")
	}
}

func TestTailOf(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(name, append(bytes.Repeat([]byte("x"), 2000), "end"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := tailOf(name); len(got) != 600 || !strings.HasSuffix(got, "xend") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	if got := oneLine(errors.New(strings.Repeat("a\n b ", 200))); strings.Contains(got, "\n") || len(got) > 220 {
		t.Errorf("%q", got)
	}
}
