package writeback

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
)

// recSample has every field set.
func recSample() *record {
	at := func(sec int64, nsec int64) time.Time { return time.Unix(sec, nsec).UTC() }
	return &record{
		Kind: recOp, ID: 7, Gen: 3, Branch: "dav:https://a.example/share", Op: opRename,
		Path: "/run 1/out.nc", To: "/run 1/ünd\nline", Target: "../there",
		Stage: "s-0000000000000007", Size: 5 << 30, Have: []Extent{{0, 4096}, {1 << 20, 5 << 30}},
		Limit: 4 << 30, From: remote.Ref{Path: "/run 1/was.nc", Version: `"etag-0"`, Size: 6 << 30},
		Base: remote.Entry{Path: "/run 1/out.nc", Type: remote.File, Size: 12, MTime: at(1700000000, 123456789), Version: `"etag-1"`,
			Provisional: true, ID: "00000012oc", Mode: 0o640, ModeKnown: true, Access: remote.AccessKnown | remote.AccessWrite,
			Target: "x", Checksum: remote.Checksum{Algorithm: "sha1", Hex: "da39a3ee"}},
		NotExist: true,
		ToBase:   remote.Entry{Path: "/b", Type: remote.Symlink, Version: "v2", Target: "t"},
		MTime:    at(-5, 999999999), HasMTime: true, SetMTime: true, Loose: true, Mode: 0o4755, HasMode: true,
		Type: remote.Dir, Sum: 0xdeadbeef, HasSum: true, Parts: []Extent{{0, 4096}, {8192, 9000}}, Synced: true, Doubt: true, Resume: "token",
		Ghosts: []recGhost{{Size: 3, Sum: 9, HasSum: true}, {Size: 7}, {Size: 9, Sum: 1, HasSum: true, Parts: []Extent{{1, 2}, {5, 9}}, Since: at(1700000000, 7)}}, Sent: true,
		Cause: "permission denied", ErrKind: remote.Permission, Time: at(1800000000, 1),
	}
}

// TestRecordFields writes and reads a record with every field, and each field alone.
func TestRecordFields(t *testing.T) {
	full := reflect.ValueOf(recSample()).Elem()
	recRoundTrip(t, recSample())
	for i := range full.NumField() {
		name := full.Type().Field(i).Name
		if full.Field(i).IsZero() {
			t.Errorf("the sample has no %s", name)
		}
		one := &record{Kind: recOp, Op: opPut}
		reflect.ValueOf(one).Elem().Field(i).Set(full.Field(i))
		recRoundTrip(t, one)
	}
	for _, part := range []any{recSample().Base, recSample().From, recSample().Base.Checksum} {
		v := reflect.ValueOf(part)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("the sample's %T has no %s", part, v.Type().Field(i).Name)
			}
		}
	}
}

func recRoundTrip(t *testing.T, r *record) []byte {
	t.Helper()
	p := appendRecord([]byte("before"), r)
	if !bytes.HasPrefix(p, []byte("before")) {
		t.Fatalf("what was there is gone: %q", p)
	}
	p = p[len("before"):]
	back, err := decodeRecord(p)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	if !reflect.DeepEqual(back, r) {
		t.Errorf("read %+v, want %+v", back, r)
	}
	if again := appendRecord(nil, back); !bytes.Equal(again, p) {
		t.Errorf("written again: %x, want %x", again, p)
	}
	return p
}

// TestRecordExtremes has numbers and lists at their limits.
func TestRecordExtremes(t *testing.T) {
	for _, r := range []*record{
		{Kind: recDone, ID: math.MaxUint64, Gen: math.MaxUint64},
		{Kind: recOp, Op: opPut, Size: math.MaxInt64, Sum: math.MaxUint32, Mode: math.MaxUint32},
		{Kind: recOp, Op: opPut, Size: -1},
		{Kind: recOp, Op: opPut, Have: []Extent{{math.MinInt64, math.MaxInt64}, {5, 1}, {-3, -3}}},
		{Kind: recOp, Op: opPut, Path: string(bytes.Repeat([]byte{'/', 0xff}, 70000))},
		{Kind: recOp, Op: opPut, MTime: time.Unix(-1<<40, 0).UTC()},
		{Kind: recConflict},
	} {
		recRoundTrip(t, r)
	}
	r := &record{Kind: recOp, Op: opSetAttr, MTime: time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600))}
	back, err := decodeRecord(appendRecord(nil, r))
	if err != nil || !back.MTime.Equal(r.MTime) {
		t.Errorf("the time %v comes back as %v (%v)", r.MTime, back.MTime, err)
	}
}

// TestRecordNewer reads a record of a version that knows more fields.
func TestRecordNewer(t *testing.T) {
	field := func(p []byte, tag uint64, v string) []byte {
		p = binary.AppendUvarint(p, tag)
		p = binary.AppendUvarint(p, uint64(len(v)))
		return append(p, v...)
	}
	p := recRoundTrip(t, recSample())
	p = field(p, uint64(len(recFields)), "")
	p = field(p, 5000, "something new")
	back, err := decodeRecord(p)
	if err != nil || !reflect.DeepEqual(back, recSample()) {
		t.Errorf("read %+v, %v", back, err)
	}
}

// TestRecordMalformed takes bytes that are no record.
func TestRecordMalformed(t *testing.T) {
	whole := appendRecord(nil, recSample())
	for n := range whole {
		r, err := decodeRecord(whole[:n])
		if err == nil && len(appendRecord(nil, r)) != n {
			t.Errorf("the first %d bytes give %+v", n, r)
		}
	}
	for name, text := range map[string]string{
		"empty":             "",
		"no kind":           "\x02\x01\x07",
		"unknown kind":      "\x01\x01\x06",
		"change without op": "\x01\x01\x01",
		"op without change": "\x01\x01\x02\x05\x01\x01",
		"unknown op":        "\x01\x01\x01\x05\x01\x08",
		"tag 0":             "\x00\x00\x01\x01\x02",
		"twice":             "\x01\x01\x02\x01\x01\x02",
		"descending":        "\x01\x01\x02\x03\x01\x01\x02\x01\x01",
		"too long":          "\x01\x01\x02\x06\x05abc",
		"huge length":       "\x01\x01\x02\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"endless varint":    "\x01\x01\x02\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"number too large":  "\x01\x01\x02\x12\x06\xff\xff\xff\xff\xff\x01",
		"number and more":   "\x01\x01\x02\x02\x02\x01\x01",
		"empty number":      "\x01\x01\x02\x02\x00",
		"flag of 2":         "\x01\x01\x02\x0d\x01\x02",
		"half an extent":    "\x01\x01\x02\x0b\x01\x02",
		"nanoseconds":       "\x01\x01\x02\x0f\x06\x02\x80\x94\xeb\xdc\x03",
		"bad entry":         "\x01\x01\x02\x0c\x02\x01\x05",
	} {
		if r, err := decodeRecord([]byte(text)); err == nil {
			t.Errorf("%s: read as %+v", name, r)
		}
	}
}

// FuzzRecord takes any bytes: no panic, and what is read is written and read again the
// same.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, recSample()))
	f.Add(appendRecord(nil, &record{Kind: recDone, ID: 1}))
	f.Add(appendRecord(nil, &record{Kind: recOp, Op: opPut, Path: "/a", Have: []Extent{{1, 2}, {4, 9}}}))
	f.Add([]byte("\x01\x01\x02\x7f\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if r, err := decodeRecord(p); err == nil {
			if cap(r.Have) > 2*len(p) {
				t.Errorf("%d bytes take %d extents", len(p), cap(r.Have))
			}
			recRoundTrip(t, r)
		}
	})
}

// TestRecordBytes takes what a damaged disk may give.
func TestRecordBytes(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	whole := appendRecord(nil, recSample())
	read := 0
	for range 20000 {
		p := slices.Clone(whole)
		for range 1 + dice.IntN(3) {
			p[dice.IntN(len(p))] = byte(dice.Uint32())
		}
		if r, err := decodeRecord(p); err == nil {
			read++
			recRoundTrip(t, r)
		}
	}
	if read == 0 {
		t.Error("a changed letter makes every record unreadable")
	}
}

// recPut is a typical change.
func recPut(n int) *record {
	path := fmt.Sprintf("/project/run-%04d/output/file-%07d.dat", n/1000, n)
	return &record{Kind: recOp, ID: uint64(n), Gen: 1, Branch: "dav:https://efss.example.org/remote.php/dav/files/someone", Op: opPut,
		Path: path, Stage: fmt.Sprintf("s-%016x", n), Size: 16384, Have: []Extent{{0, 16384}}, NotExist: true,
		MTime: time.Unix(1800000000, int64(n)).UTC(), HasMTime: true, Mode: 0o644, HasMode: true, Sum: uint32(n) * 2654435761, HasSum: true}
}

func BenchmarkRecordDecode(b *testing.B) {
	p := appendRecord(nil, recPut(12345))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeRecord(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecordEncode(b *testing.B) {
	r := recPut(12345)
	var p []byte
	b.ReportAllocs()
	for b.Loop() {
		p = appendRecord(p[:0], r)
	}
	if len(p) == 0 {
		b.Fatal("nothing written")
	}
}
