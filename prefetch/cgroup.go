package prefetch

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Where Linux tells a process its control groups.
const (
	SelfCgroup = "/proc/self/cgroup"
	CgroupRoot = "/sys/fs/cgroup"
)

// unlimited is the least value that version 1 shows when there is no limit: the
// largest int64 rounded down to a page, of 64 KiB at most.
const unlimited = math.MaxInt64 &^ (64<<10 - 1)

// CgroupLimit returns the memory limit in bytes that the control groups set for the
// process, the smallest on the way from its own group to the root, or 0 if there is
// none. self is a file like SelfCgroup, root a tree like CgroupRoot. It knows
// version 2 (memory.max) and version 1 (memory.limit_in_bytes). Groups that are not
// visible (in a container the path may be that of the host) are skipped; a missing
// self means no groups.
func CgroupLimit(self, root string) (int64, error) {
	text, err := os.ReadFile(self)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	least := int64(0)
	for line := range strings.Lines(string(text)) {
		top, group, file := hierarchy(strings.TrimSpace(line))
		if file == "" {
			continue
		}
		limit, err := leastOf(filepath.Join(root, top), group, file)
		if err != nil {
			return 0, err
		}
		least = smaller(least, limit)
	}
	return least, nil
}

// hierarchy parses one line "id:controllers:path" of /proc/self/cgroup (cgroups(7)).
func hierarchy(line string) (top, group, file string) {
	parts := strings.SplitN(line, ":", 3)
	if len(parts) != 3 {
		return "", "", ""
	}
	switch {
	case parts[0] == "0" && parts[1] == "":
		return "", parts[2], "memory.max"
	case parts[1] == "memory" || strings.Contains(","+parts[1]+",", ",memory,"):
		return "memory", parts[2], "memory.limit_in_bytes"
	}
	return "", "", ""
}

// leastOf returns the smallest limit of the group and those above it, 0 if none.
func leastOf(top, group, file string) (int64, error) {
	least := int64(0)
	for g := path.Clean("/" + group); ; g = path.Dir(g) {
		limit, err := limitIn(filepath.Join(top, g, file))
		if err != nil {
			return 0, err
		}
		least = smaller(least, limit)
		if g == "/" {
			return least, nil
		}
	}
}

// limitIn reads one limit, 0 if there is none or no such file.
func limitIn(name string) (int64, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	value := strings.TrimSpace(string(text))
	if value == "max" {
		return 0, nil
	}
	limit, err := strconv.ParseInt(value, 10, 64)
	if errors.Is(err, strconv.ErrRange) || limit >= unlimited {
		return 0, nil
	}
	if err != nil || limit < 0 {
		return 0, fmt.Errorf("%s: %q is not a memory limit", name, value)
	}
	return limit, nil
}

// smaller is min for limits of which 0 means none.
func smaller(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Fit returns how much of want bytes a process may use for read-ahead under a
// control group's limit (0 for none): not more than a quarter of it, because the
// rest of the process, the job beside it and the page cache live there, too.
func Fit(want, limit int64) int64 {
	if limit <= 0 {
		return want
	}
	return max(min(want, limit/4), MinBudget)
}
