package writeback

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

var logWriteGolden = flag.Bool("write-golden-journal", false, "write testdata/journal-v1 anew")

const logGolden = "testdata/journal-v1"

// logGoldenGroups are what the golden journal holds. Versions that come must still read
// it so; they may add fields, but not change what is here.
func logGoldenGroups() [][]*record {
	entry := remote.Entry{Path: "/run 1/out.nc", Type: remote.File, Size: 12, MTime: time.Unix(1700000000, 123456789).UTC(),
		Version: `"etag-1"`, Provisional: true, ID: "00000012oc", Mode: 0o640, ModeKnown: true,
		Access: remote.AccessKnown | remote.AccessRead | remote.AccessWrite, Target: "x", Checksum: remote.Checksum{Algorithm: "sha1", Hex: "da39a3ee"}}
	return [][]*record{
		{ // in the snapshot
			{Kind: recOp, ID: 1, Gen: 2, Branch: "dav:https://efss.example/a", Op: opPut, Path: "/run 1/out.nc", Stage: "s1",
				Size: 5 << 30, Have: []Extent{{0, 4096}, {1 << 20, 5 << 30}}, Limit: 4 << 30,
				From: remote.Ref{Path: "/run 1/out.nc", Version: `"etag-1"`, Size: 6 << 30}, Base: entry,
				MTime: time.Unix(-5, 999999999).UTC(), HasMTime: true, SetMTime: true, Loose: true, Mode: 0o4755, HasMode: true,
				Sum: 0xdeadbeef, HasSum: true, Parts: []Extent{{0, 4096}, {1 << 20, 5 << 30}}, Synced: true, Doubt: true, Resume: "https://efss.example/uploads/7",
				Ghosts: []recGhost{{Size: 12}, {Size: 1 << 40, Sum: 0xffffffff, HasSum: true, MTime: time.Unix(1700000000, 5).UTC()}, {Size: 9, Sum: 7, HasSum: true, Parts: []Extent{{2, 4}}, Since: time.Unix(1700000000, 9).UTC()}}, Sent: true, Time: time.Unix(1800000000, 0).UTC()},
			{Kind: recParked, ID: 1, Cause: "put /run 1/out.nc: permission denied", ErrKind: remote.Permission, Time: time.Unix(1800000001, 1).UTC()},
		},
		{{Kind: recOp, ID: 2, Branch: "irods:zone", Op: opMkdir, Path: "/ünd\n\xff", NotExist: true}},
		{
			{Kind: recOp, ID: 3, Op: opRemove, Path: "/old", Type: remote.Dir},
			{Kind: recOp, ID: 4, Op: opRename, Path: "/a", To: "/b", Base: remote.Entry{Path: "/a", Type: remote.File, Version: "v1"},
				ToBase: remote.Entry{Path: "/b", Type: remote.Symlink, Target: "t"}},
		},
		{{Kind: recOp, ID: 5, Op: opSymlink, Path: "/link", Target: "../there"}, {Kind: recOp, ID: 6, Op: opSetAttr, Path: "/f", Mode: 0, HasMode: true}},
		{{Kind: recOp, ID: 7, Op: opClean, Path: "/torn"}},
		{{Kind: recSynced, ID: 1, Gen: 2}, {Kind: recDone, ID: 2}},
		{{Kind: recConflict, Branch: "irods:zone", Path: "/c", To: "/c.conflict-node1-20270101", Time: time.Unix(1800000002, 0).UTC()}},
	}
}

// TestLogGolden reads the journal that the first version has written.
func TestLogGolden(t *testing.T) {
	if *logWriteGolden {
		logMakeGolden(t)
	}
	dir := filepath.Join(t.TempDir(), "j")
	if err := os.CopyFS(dir, os.DirFS(logGolden)); err != nil {
		t.Fatal(err)
	}
	j, all := logOpen(t, dir, logOptions{BootID: "golden"})
	var want []*record
	for _, group := range logGoldenGroups() {
		want = append(want, group...)
	}
	if len(all) != len(want) {
		t.Fatalf("%d records, want %d", len(all), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(all[i], want[i]) {
			t.Errorf("record %d is\n%+v, want\n%+v", i, all[i], want[i])
		}
		if again := appendRecord(nil, all[i]); !bytes.Equal(again, appendRecord(nil, want[i])) {
			t.Errorf("record %d is written as %q", i, again)
		}
	}
	if text := j.damage(); text != "" {
		t.Errorf("damage: %s", text)
	}
	logGoldenComplete(t, want)
}

// logGoldenComplete checks that each kind and each field is in the golden journal.
func logGoldenComplete(t *testing.T, all []*record) {
	t.Helper()
	fields, kinds, ops := map[string]bool{}, map[recKind]bool{}, map[opKind]bool{}
	for _, r := range all {
		kinds[r.Kind], ops[r.Op] = true, true
		v := reflect.ValueOf(r).Elem()
		for i := range v.NumField() {
			fields[v.Type().Field(i).Name] = fields[v.Type().Field(i).Name] || !v.Field(i).IsZero()
		}
	}
	for name, there := range fields {
		if !there {
			t.Errorf("no record has %s", name)
		}
	}
	if len(kinds) != int(recKinds)-1 || len(ops) != int(opKinds) {
		t.Errorf("kinds of records: %v, of changes: %v", kinds, ops)
	}
}

func logMakeGolden(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(logGolden); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(logGolden, 0o755); err != nil {
		t.Fatal(err)
	}
	j, _ := logOpen(t, logGolden, logOptions{SegmentSize: 4096, Reserve: 1, BootID: "golden"})
	groups := logGoldenGroups()
	logAppend(t, j, false, recPut(1), recPut(2)) // before the snapshot
	err := j.compact(func(yield func(*record) bool) {
		for _, r := range groups[0] {
			if !yield(r) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range groups[1:] {
		logAppend(t, j, true, group...)
	}
	logClose(t, j)
	for _, name := range []string{logSpare, logNew} {
		if err := os.Remove(filepath.Join(logGolden, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range j.segments {
		if err := os.Truncate(filepath.Join(logGolden, s.name), s.end); err != nil {
			t.Fatal(err)
		}
	}
}
