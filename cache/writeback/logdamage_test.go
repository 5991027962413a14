package writeback

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
)

// logMake makes a journal of n groups of one change each, with the IDs from 0 on, in
// segments of 8 KiB. It is closed with or without a mark.
func logMake(t *testing.T, n int, mark bool) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "j")
	j, _ := logOpen(t, dir, logSmall)
	for i := range n {
		logAppend(t, j, true, recPut(i))
	}
	if mark {
		logClose(t, j)
	} else {
		logAbandon(t, j)
	}
	return dir
}

var logSmall = logOptions{SegmentSize: 8 << 10, Reserve: 1 << 10}

// logDamage changes a file of a journal.
func logDamage(t *testing.T, dir, name string, change func(p []byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	p, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(p), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// logFrames returns where the frames of a segment are.
func logFrames(t *testing.T, p []byte, n uint32) (frames []Extent) {
	t.Helper()
	s := &logSegment{n: n, size: int64(len(p)), file: &simFile{disk: newSimDisk(), view: p}}
	for c := newLogScan(s); c.next(); {
		frames = append(frames, Extent{c.off - logFrame - int64(len(c.body)), c.off})
	}
	return frames
}

func logCount(n int) (ids []uint64) {
	for i := range n {
		ids = append(ids, uint64(i))
	}
	return ids
}

// TestLogTorn cuts the last frame off, or leaves part of it: the others are there, and
// the journal goes on behind them.
func TestLogTorn(t *testing.T) {
	dice := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		dir := logMake(t, 5, false)
		logDamage(t, dir, "journal-00000001", func(p []byte) []byte {
			frames := logFrames(t, p, 1)
			last := frames[len(frames)-1]
			at := last.Off + dice.Int64N(last.End-last.Off)
			if dice.IntN(2) == 0 {
				return p[:at]
			}
			clear(p[at:])
			if last.End-at < 8 { // the zeros may be what was there
				p[at] = 0xff
			}
			return p
		})
		j, all := logOpen(t, dir, logSmall)
		if got := logIDs(all); !slices.Equal(got, logCount(4)) {
			t.Fatalf("found %v", got)
		}
		logAppend(t, j, true, recPut(77))
		if text := j.damage(); text != "" {
			t.Errorf("damage: %s", text)
		}
		logClose(t, j)
		_, all = logOpen(t, dir, logSmall)
		if got := logIDs(all); !slices.Equal(got, append(logCount(4), 77)) {
			t.Fatalf("then found %v", got)
		}
	}
}

// TestLogRot changes bytes of a frame: only this group is lost, which is told, and the
// segment is kept when the journal is compacted.
func TestLogRot(t *testing.T) {
	dice := rand.New(rand.NewPCG(5, 6))
	const n = 120
	origin := logMake(t, n, true)
	for round := range 60 {
		dir := filepath.Join(t.TempDir(), "j")
		if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
			t.Fatal(err)
		}
		names := logFiles(t, dir)
		name := names[dice.IntN(len(names))]
		number, _, _ := logNumber(name)
		var damaged []byte
		logDamage(t, dir, name, func(p []byte) []byte {
			frames := logFrames(t, p, number)
			if name == names[len(names)-1] {
				frames = frames[:len(frames)-1] // the mark
			}
			x := frames[dice.IntN(len(frames))]
			p[x.Off+dice.Int64N(x.End-x.Off)] ^= byte(1 + dice.IntN(255))
			damaged = slices.Clone(p)
			return p
		})
		opts := logSmall
		opts.BootID = fmt.Sprint("boot-", round%2)
		j, all := logOpen(t, dir, opts)
		if got := logIDs(all); len(got) != n-1 || !slices.IsSorted(got) {
			t.Fatalf("round %d: found %d of %d", round, len(got), n)
		}
		if text := j.damage(); !strings.Contains(text, name) || !strings.Contains(text, "lost: 1") {
			t.Errorf("round %d: damage of %s: %q", round, name, text)
		}
		logAppend(t, j, true, recPut(500))
		if err := j.compact(logLive(map[uint64]*record{500: recPut(500)})); err != nil {
			t.Fatal(err)
		}
		logClose(t, j)
		kept, err := os.ReadFile(filepath.Join(dir, name+logDamaged))
		if err != nil || !bytes.Equal(kept, damaged) {
			t.Errorf("round %d: %s was not kept as it was (%v)", round, name, err)
		}
		j, all = logOpen(t, dir, logSmall)
		if got := logIDs(all); !slices.Equal(got, []uint64{500}) {
			t.Errorf("then found %v", got)
		}
		if text := j.damage(); text != "set aside: "+name+logDamaged {
			t.Errorf("then damage: %q", text)
		}
		logClose(t, j)
	}
}

// TestLogHeadless destroys the heads of all segments: nothing else is lost.
func TestLogHeadless(t *testing.T) {
	dir := logMake(t, 100, true)
	for _, name := range logFiles(t, dir) {
		logDamage(t, dir, name, func(p []byte) []byte {
			clear(p[:logHead])
			return p
		})
	}
	j, all := logOpen(t, dir, logSmall)
	if got := logIDs(all); !slices.Equal(got, logCount(100)) {
		t.Errorf("found %v", got)
	}
	if text := j.damage(); !strings.Contains(text, "journal-00000001") {
		t.Errorf("damage: %q", text)
	}
	logAppend(t, j, true, recPut(100))
	logClose(t, j)
	_, all = logOpen(t, dir, logSmall)
	if got := logIDs(all); !slices.Equal(got, logCount(101)) {
		t.Errorf("then found %v", got)
	}
}

// TestLogMissing takes a whole segment away.
func TestLogMissing(t *testing.T) {
	for _, name := range []string{"journal-00000001", "journal-00000002"} {
		dir := logMake(t, 150, true)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		j, all := logOpen(t, dir, logSmall)
		if len(all) == 0 || len(all) == 150 || !strings.Contains(j.damage(), "lost") {
			t.Errorf("without %s: found %d, damage %q", name, len(all), j.damage())
		}
	}
}

// TestLogEndRot damages the last group of a journal that was closed: that is no end that
// was not written whole.
func TestLogEndRot(t *testing.T) {
	dir := logMake(t, 5, true)
	logDamage(t, dir, "journal-00000001", func(p []byte) []byte {
		frames := logFrames(t, p, 1)
		p[frames[4].End-1] ^= 1
		return p
	})
	j, all := logOpen(t, dir, logSmall)
	if got := logIDs(all); !slices.Equal(got, logCount(4)) || !strings.Contains(j.damage(), "lost: 1") {
		t.Errorf("found %v, damage %q", got, j.damage())
	}
}

// TestLogForeign puts frames where they were not written.
func TestLogForeign(t *testing.T) {
	dir := logMake(t, 20, true)
	logDamage(t, dir, "journal-00000001", func(p []byte) []byte {
		frames := logFrames(t, p, 1)
		if len(frames) < 10 {
			t.Fatalf("only %d frames", len(frames))
		}
		x, y := frames[2], frames[5]
		copy(p[y.Off:y.End], p[x.Off:x.End])
		return p
	})
	j, all := logOpen(t, dir, logSmall)
	if got := logIDs(all); len(got) != 19 || slices.Contains(got, 5) || !slices.IsSorted(got) {
		t.Errorf("found %v", got)
	}
	if j.damage() == "" {
		t.Error("no damage")
	}
}

// TestLogNotUnderstood has a frame whose sums are right, but which holds no records.
func TestLogNotUnderstood(t *testing.T) {
	dir := logMake(t, 4, true)
	logDamage(t, dir, "journal-00000001", func(p []byte) []byte {
		x := logFrames(t, p, 1)[1]
		frame, head := p[x.Off:x.End], logFrameHead{}
		if !head.decode(frame, 1, x.Off) {
			t.Fatal("no frame")
		}
		frame[logFrame] = 1
		head.seal(frame, 1, x.Off)
		return p
	})
	j, all := logOpen(t, dir, logSmall)
	if got := logIDs(all); !slices.Equal(got, []uint64{0, 2, 3}) || !strings.Contains(j.damage(), "lost: 1") {
		t.Errorf("found %v, damage %q", got, j.damage())
	}
}

// TestLogUnreadable has a page that the disk cannot read.
func TestLogUnreadable(t *testing.T) {
	disk := newSimDisk()
	opts := logOptions{fs: disk}
	j, _ := logOpen(t, "", opts)
	for n := range 1000 {
		logAppend(t, j, true, recPut(n))
	}
	logClose(t, j)
	disk.names["journal-00000001"].bad = Extent{100 << 10, 100<<10 + 512}
	j, all := logOpen(t, "", opts)
	if len(all) < 950 || len(all) == 1000 || !strings.Contains(j.damage(), "journal-00000001") {
		t.Errorf("found %d, damage %q", len(all), j.damage())
	}
}

// TestLogNewer does not touch the journal of a newer version.
func TestLogNewer(t *testing.T) {
	dir := logMake(t, 3, true)
	logDamage(t, dir, "journal-00000001", func(p []byte) []byte {
		binary.LittleEndian.PutUint32(p[8:], logVersion+1)
		binary.LittleEndian.PutUint32(p[logHead-4:], crc32.Checksum(p[:logHead-4], logCastagnoli))
		return p
	})
	before := logFiles(t, dir)
	_, err := openLog(dir, logSmall)
	if !errors.Is(err, errLogVersion) || !errors.Is(err, remote.Unsupported) {
		t.Errorf("open: %v", err)
	}
	if after := logFiles(t, dir); !slices.Equal(before, after) {
		t.Errorf("files: %v", after)
	}
}

// TestLogVoid leaves segments that a snapshot has replaced, as a process that ends then
// does. They are removed, or set aside if something is wrong.
func TestLogVoid(t *testing.T) {
	for _, what := range []string{"all is well", "old damaged", "new damaged"} {
		dir := logMake(t, 100, true)
		old := t.TempDir()
		if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		voids := logFiles(t, old)
		j, _ := logOpen(t, dir, logSmall)
		live := map[uint64]*record{5: recPut(5), 6: recSample()}
		if err := j.compact(logLive(live)); err != nil {
			t.Fatal(err)
		}
		snap := j.segments[0].name
		logClose(t, j)
		for _, name := range voids {
			if err := os.Rename(filepath.Join(old, name), filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		name, want := "", []string{snap}
		switch what {
		case "old damaged":
			name, want = voids[0], []string{voids[0] + logDamaged, snap}
		case "new damaged":
			name, want = snap, nil
			for _, v := range voids {
				want = append(want, v+logDamaged)
			}
			want = append(want, snap)
		}
		if name != "" {
			logDamage(t, dir, name, func(p []byte) []byte {
				p[bytes.LastIndex(p, []byte(".dat"))] ^= 1
				if n := bytes.Index(p, []byte(".dat")); name == voids[0] {
					p[n] ^= 1
				}
				return p
			})
		}
		j, all := logOpen(t, dir, logSmall)
		if what != "new damaged" && (len(all) != 2 || !reflect.DeepEqual(all[1], recSample())) {
			t.Errorf("%s: found %v", what, logIDs(all))
		}
		if names := logFiles(t, dir); !slices.Equal(names, want) {
			t.Errorf("%s: files %v, want %v", what, names, want)
		}
		if (j.damage() == "") != (what == "all is well") {
			t.Errorf("%s: damage %q", what, j.damage())
		}
		logClose(t, j)
	}
}

// FuzzLog opens a segment of any bytes: it does not panic, and what is appended is there
// afterwards, behind what was found.
func FuzzLog(f *testing.F) {
	for _, name := range []string{"journal-00000003", "snapshot-00000002"} {
		p, err := os.ReadFile(filepath.Join(logGolden, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name, p)
		f.Add(name, p[:len(p)/2])
		f.Add(name, slices.Concat(p[:len(p)/3], p))
	}
	f.Add("journal-00000001", []byte{})
	f.Fuzz(func(t *testing.T, name string, p []byte) {
		disk := newSimDisk()
		disk.names[name] = &simFile{disk: disk, name: name, view: p}
		j, err := openLog("", logOptions{fs: disk, SegmentSize: 4096, Reserve: 1, BootID: "golden"})
		if err != nil {
			return // a newer version
		}
		found := logReplayAll(t, j)
		logAppend(t, j, true, recSample())
		logClose(t, j)
		_, again := logOpen(t, "", logOptions{fs: disk, SegmentSize: 4096, Reserve: 1})
		if !reflect.DeepEqual(again, append(found, recSample())) {
			t.Errorf("found %d records, then %d", len(found), len(again))
		}
	})
}
