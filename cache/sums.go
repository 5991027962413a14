package cache

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// sum is what a file of the index looked like after the last flush.
type sum struct {
	size int64
	crc  uint32
}

// sums are the sums of the files of the index that Badger does not change: its tables,
// and of MANIFEST, to which it appends, the part that was there.
type sums map[string]sum

var errSum = errors.New("a file is not as it was written")

// summed tells whether a file is of that kind.
func summed(name string) bool {
	return strings.HasSuffix(name, ".sst") || name == "MANIFEST" || name == "KEYREGISTRY"
}

// readSums returns nothing if there is no file.
func readSums(path string) (sums, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	all := sums{}
	lines, last, ok := strings.Cut(string(text), "end ")
	var crc uint32
	if n, _ := fmt.Sscanf(last, "%08x\n", &crc); !ok || n != 1 || crc != crc32.Checksum([]byte(lines), castagnoli) {
		return nil, fmt.Errorf("%s: %w", sumsName, errSum)
	}
	for line := range strings.Lines(lines) {
		var name string
		var s sum
		if _, err := fmt.Sscanf(line, "%08x %d %s\n", &s.crc, &s.size, &name); err != nil {
			return nil, fmt.Errorf("%s: %w", sumsName, err)
		}
		all[name] = s
	}
	return all, nil
}

func (all sums) write(path string) error {
	var b strings.Builder
	for name, s := range all {
		fmt.Fprintf(&b, "%08x %d %s\n", s.crc, s.size, name)
	}
	lines := b.String()
	return replace(path, fmt.Appendf([]byte(lines), "end %08x\n", crc32.Checksum([]byte(lines), castagnoli)))
}

// verify reads every file that is still there. One that is not listed was made just
// before a crash and is taken as it is.
func (all sums) verify(dir string) error {
	for name, want := range all {
		got, err := sumOf(filepath.Join(dir, name), want.size)
		switch {
		case errors.Is(err, os.ErrNotExist) && strings.HasSuffix(name, ".sst"):
		case err != nil:
			return err
		case got != want:
			return fmt.Errorf("%s: %w", name, errSum)
		}
	}
	return nil
}

// renew returns the sums of what is in dir now. Tables never change, so that only new
// ones are read.
func (all sums) renew(dir string) (sums, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	now := sums{}
	for _, e := range entries {
		name := e.Name()
		if old, ok := all[name]; ok && strings.HasSuffix(name, ".sst") {
			now[name] = old
			continue
		}
		if !summed(name) {
			continue
		}
		if now[name], err = sumOf(filepath.Join(dir, name), 1<<62); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// sumOf reads the first size bytes of a file, or all if it has fewer.
func sumOf(path string, size int64) (sum, error) {
	file, err := os.Open(path)
	if err != nil {
		return sum{}, err
	}
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, io.LimitReader(file, size))
	return sum{n, h.Sum32()}, errors.Join(err, file.Close())
}
