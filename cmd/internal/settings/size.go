package settings

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Size is a number of bytes. It is written "64MiB" or "1GiB"; a bare number is bytes.
type Size int64

// Units of Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// sizeUnits are what may follow a number, in lower case, longest first. The letter alone
// is the binary unit, as in the options of mount(8) and of other file systems.
var sizeUnits = []struct {
	suffix string
	factor Size
}{
	{"kib", KiB}, {"mib", MiB}, {"gib", GiB}, {"tib", TiB},
	{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"k", KiB}, {"m", MiB}, {"g", GiB}, {"t", TiB}, {"b", 1},
}

// ParseSize reads "64MiB", "10G", "500MB" or a bare number of bytes.
func ParseSize(text string) (Size, error) {
	number, factor := strings.ToLower(strings.TrimSpace(text)), Size(1)
	for _, u := range sizeUnits {
		if before, ok := strings.CutSuffix(number, u.suffix); ok {
			number, factor = strings.TrimSpace(before), u.factor
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if high, low := bits.Mul64(n, uint64(factor)); err == nil && high == 0 && low <= math.MaxInt64 {
		return Size(low), nil
	}
	return 0, fmt.Errorf("%q is not a size such as 512KiB, 64MiB or 10GiB", text)
}

// String writes the size in the largest unit of which it is a whole number.
func (s Size) String() string {
	for _, u := range []struct {
		name   string
		factor Size
	}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}} {
		if s != 0 && s%u.factor == 0 {
			return strconv.FormatInt(int64(s/u.factor), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// parseSize reads a size within the option's bounds.
func (o *Option) parseSize(text string) (Size, error) {
	n, err := ParseSize(text)
	switch {
	case err != nil:
		return 0, err
	case n == 0 && o.ZeroToo:
		return 0, nil
	case n < o.Least:
		return 0, fmt.Errorf("%s is less than %s", n, o.Least)
	case o.Most > 0 && n > o.Most:
		return 0, fmt.Errorf("%s is more than %s", n, o.Most)
	case o.PowerOfTwo && n&(n-1) != 0:
		return 0, fmt.Errorf("%s is not a power of two such as %s or %s", n, o.Least, 2*o.Least)
	}
	return n, nil
}
