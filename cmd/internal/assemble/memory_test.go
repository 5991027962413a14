package assemble

import (
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
)

const mib = 1 << 20

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		want, limit int64
		block       settings.Size
		memory      Memory
	}{
		{64 * mib, 0, settings.MiB, Memory{Whole: 64 * mib, Meta: 16 * mib, GC: 40 * mib, Ahead: 8 * mib, Streams: 4, Pieces: 4 * mib, Request: 1 * mib, SmallFiles: 16}},
		{256 * mib, 0, settings.MiB, Memory{Whole: 256 * mib, Meta: 64 * mib, GC: 224 * mib, Ahead: 56 * mib, Streams: 16, Pieces: 16 * mib, Request: 4 * mib, SmallFiles: 64}},
		{256 * mib, 1 << 40, 8 * settings.MiB, Memory{Whole: 256 * mib, Meta: 64 * mib, GC: 224 * mib, Ahead: 56 * mib, Streams: 16, Pieces: 16 * mib, Request: 4 * mib, SmallFiles: 8}},
		{4 << 30, 0, settings.MiB, Memory{Whole: 4 << 30, Meta: 1 << 30, GC: 3584 * mib, Ahead: 1016 * mib, Streams: 256, Pieces: 256 * mib, Request: 64 * mib, SmallFiles: 1024}},
		{256 * mib, 128 * mib, settings.MiB, Memory{Whole: 64 * mib, Meta: 16 * mib, GC: 40 * mib, Limited: true, Ahead: 8 * mib, Streams: 4, Pieces: 4 * mib, Request: 1 * mib, SmallFiles: 16}},
		{256 * mib, 16 * mib, settings.MiB, Memory{Whole: 32 * mib, Meta: 8 * mib, GC: 16 * mib, Limited: true, Ahead: 8 * mib, Streams: 2, Pieces: 2 * mib, Request: 1 * mib, SmallFiles: 8}},
	} {
		got := Split(c.want, c.limit, c.block)
		if got != c.memory {
			t.Errorf("%d of %d:\ngot  %+v\nwant %+v", c.want, c.limit, got, c.memory)
		}
		// What lives on the heap at the same time leaves the collector something to do.
		if live := 2*got.Ahead + got.Pieces; live > got.GC*7/8 && got.Whole > leastProcess {
			t.Errorf("%d of %d: %d bytes alive, and the collector has %d", c.want, c.limit, live, got.GC)
		}
	}
}

func resolve(t *testing.T, args ...string) *settings.Config {
	t.Helper()
	var given []settings.Given
	for _, arg := range args {
		name, text, _ := strings.Cut(arg, "=")
		o, ok := settings.Lookup(name)
		if !ok {
			t.Fatalf("no option %s", name)
		}
		given = append(given, settings.Given{Option: o, Text: text, Where: "--" + name})
	}
	c, err := settings.Resolve(settings.Input{Flags: given, Branches: []string{"a=davs://me@h/p", "z=irods://me@h/z/c"}, Dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOptionsFitTheMemory(t *testing.T) {
	c := resolve(t, "memory=64MiB")
	if _, err := FitMemory(c, 0); err != nil {
		t.Fatal(err)
	}
	for i, small := range []int{16, 16} {
		if b := c.Branches[i]; b.MaxRequest != settings.MiB || b.ReadAhead != 8*settings.MiB || b.SmallAhead != small || b.Streams != 4 {
			t.Errorf("%+v", b)
		}
	}
	// A job with 128 MiB works with the defaults.
	c = resolve(t)
	if m, err := FitMemory(c, 128*mib); err != nil || !m.Limited || c.Branches[0].ReadAhead != 8*settings.MiB {
		t.Errorf("%+v, %v", m, err)
	}
	c = resolve(t, "memory=64MiB", "streams=a=16")
	if _, err := FitMemory(c, 0); err != nil || c.Branches[0].Streams != 16 {
		t.Errorf("%+v, %v", c.Branches[0], err)
	}
	c = resolve(t)
	if m, err := FitMemory(c, 0); err != nil || c.Branches[0].MaxRequest != 4*settings.MiB || c.Branches[0].ReadAhead != 32*settings.MiB || m.Limited {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestOptionsThatDoNotFitTheMemory(t *testing.T) {
	for _, c := range []struct {
		args  []string
		limit int64
		want  string
	}{
		{[]string{"memory=64MiB", "block-size=8MiB", "cache-size=1GiB"}, 0, "block-size 8MiB is too large: memory is 64MiB; give --memory=288MiB or more, or --block-size=1MiB"},
		{[]string{"memory=64MiB", "max-request=a=4MiB"}, 0, "branch a (davs://h/p): max-request 4MiB is too large: memory is 64MiB; give --memory=160MiB or more, or --max-request=1MiB"},
		{[]string{"read-ahead=128MiB"}, 0, "branch a (davs://h/p): read-ahead 128MiB is too large: memory is 256MiB; give --memory=544MiB or more, or --read-ahead=56MiB"},
		{[]string{"read-ahead=32MiB"}, 128 * mib, "branch a (davs://h/p): read-ahead 32MiB is too large: the control group leaves 64MiB of memory; give --read-ahead=8MiB or less, or ask for more memory for the job"},
	} {
		_, err := FitMemory(resolve(t, c.args...), c.limit)
		if exit.CodeOf(err) != exit.Usage || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v\nwant %s", c.args, err, c.want)
		}
	}
	if _, err := FitMemory(resolve(t, "memory=64MiB", "block-size=8MiB", "cache=off"), 0); err != nil {
		t.Errorf("without a cache: %v", err)
	}
}
