package settings

import (
	"math"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

func TestSizes(t *testing.T) {
	for in, want := range map[string]string{
		"64MiB": "64MiB", "64mib": "64MiB", "64 MiB": "64MiB", "1024K": "1MiB", "1G": "1GiB", "2T": "2TiB", "1536m": "1536MiB",
		"500MB": "500000000", "1kb": "1000", "4096": "4KiB", "4096B": "4KiB", "0": "0", "7": "7",
	} {
		n, err := ParseSize(in)
		if err != nil || n.String() != want {
			t.Errorf("%q: %s, %v; want %s", in, n, err, want)
		}
		if again, err := ParseSize(n.String()); err != nil || again != n {
			t.Errorf("%s does not read back: %s, %v", n, again, err)
		}
	}
	for _, in := range []string{"", "MiB", "-1", "1.5GiB", "1e9", "64MiBB", "9223372036854775808", "8388608TiB", "0x10"} {
		if n, err := ParseSize(in); err == nil {
			t.Errorf("%q was read as %s", in, n)
		}
	}
	if n, err := ParseSize("9223372036854775807"); err != nil || n != math.MaxInt64 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestBoundsOfSizes(t *testing.T) {
	for arg, want := range map[string]string{
		"block-size=64KiB": "64KiB is less than 128KiB", "block-size=16MiB": "16MiB is more than 8MiB",
		"block-size=3MiB": "3MiB is not a power of two", "max-request=1K": "1KiB is less than 128KiB",
		"memory=32MiB": "32MiB is less than 64MiB", "read-ahead=4K": "4KiB is less than 128KiB",
		"cache-size=1MiB": "1MiB is less than 32MiB", "cache-size=much": "is not a size such as", "cache=maybe": "is none of on, off",
		"streams=0": "at least 1", "small-ahead=-1": "at least 0",
	} {
		_, err := Resolve(Input{Flags: flags(t, arg), Branches: []string{"=davs://h/p"}, Dir: "/"})
		checkError(t, err, exit.Usage, want)
	}
	c := resolve(t, Input{Flags: flags(t, "read-ahead=0", "cache-reserve=0", "small-ahead=0"), Branches: []string{"=davs://h/p"}, Dir: "/"})
	if b := c.Branches[0]; b.ReadAhead != 0 || c.CacheReserve != 0 || b.SmallAhead != 0 {
		t.Errorf("%+v", c)
	}
}

func TestDefaultsGiveWay(t *testing.T) {
	c := resolve(t, Input{Flags: flags(t, "max-connections=z=2", "max-connections=one=1", "block-size=8MiB"),
		Branches: []string{"a=davs://h/p", "z=irods://me@h/z/c", "one=davs://h/q", "y=irods://me@h/z/d"}, Dir: "/"})
	for i, want := range []int{16, 4, 1, 8} {
		if b := c.Branches[i]; b.Streams != want || b.MaxRequest != 8*MiB {
			t.Errorf("%s: %d streams, want %d; requests of %s", b.Name, b.Streams, want, b.MaxRequest)
		}
	}
	if got := c.Branches[3].SmallAhead; got != 16 {
		t.Errorf("a zone has %d small files ahead", got)
	}
	if !c.Given("", "block-size") || c.Given("", "cache-size") || !c.Given("z", "max-connections") || c.Given("a", "max-connections") {
		t.Error("what was given is not known")
	}
}

func TestContradictions(t *testing.T) {
	cases := []struct {
		args []string
		file string
		code exit.Code
		want string
	}{
		{[]string{"streams=6", "max-connections=10"}, "", exit.Usage, "6 streams need twice as many connections, and max-connections is 10; give --max-connections=12 or more, or fewer streams"},
		{[]string{"max-request=256KiB"}, "", exit.Usage, "max-request 256KiB is less than a block of the cache, 1MiB; give --block-size=256KiB or larger requests"},
		{[]string{"cache-size=64MiB", "block-size=8MiB"}, "", exit.Usage, "cache-size 64MiB is too small for blocks of 8MiB; give --cache-size=160MiB or more, or smaller blocks"},
		{nil, "streams = 40\n", exit.Config, "40 streams need twice as many connections, and max-connections is 64; give --max-connections=80"},
	}
	for _, c := range cases {
		args := c.args
		if c.file != "" {
			args = append(args, "config="+config(t, 0o600, c.file))
		}
		_, err := Resolve(Input{Flags: flags(t, args...), Branches: []string{"a=davs://h/p"}, Dir: "/"})
		checkError(t, err, c.code, c.want)
	}
	// Without the cache, blocks do not matter.
	c := resolve(t, Input{Flags: flags(t, "max-request=256KiB", "cache=off", "cache-size=32MiB"), Branches: []string{"a=davs://h/p"}, Dir: "/"})
	if c.Branches[0].MaxRequest != 256*KiB {
		t.Errorf("%+v", c.Branches[0])
	}
}

func TestSizesInAFile(t *testing.T) {
	file := config(t, 0o600, "memory = \"512MiB\"\ncache-size = 1073741824\n[branch.a]\nurl='davs://h/p'\nread-ahead='64M'\n")
	c := resolve(t, Input{Flags: flags(t, "config="+file), Environ: []string{"MESHMOUNT_CACHE_RESERVE=2g"}, Dir: "/"})
	if c.Memory != 512*MiB || c.CacheSize != GiB || c.CacheReserve != 2*GiB || c.Branches[0].ReadAhead != 64*MiB {
		t.Errorf("%+v", c)
	}
	var out strings.Builder
	if err := c.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`memory = "512MiB"  # config `, `cache-size = "1GiB"`, `cache-reserve = "2GiB"  # environment`, `read-ahead = "64MiB"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
