package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what a process has used.
type usage struct {
	cpu  time.Duration // user and system
	peak int64         // resident bytes at most, since resetPeak
}

// clockTick is the unit of times in /proc: USER_HZ is 100 on all that Go runs on.
const clockTick = 10 * time.Millisecond

// usageOf reads a process's usage.
func usageOf(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	ticks, err := cpuTicks(stat)
	if err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	u := usage{cpu: time.Duration(ticks) * clockTick}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			u.peak = kib << 10
			return u, err
		}
	}
	return u, fmt.Errorf("process %d has no VmHWM", pid)
}

// cpuTicks finds utime and stime, the 14th and 15th field of /proc/PID/stat. The name
// in the second one may hold anything.
func cpuTicks(stat []byte) (int64, error) {
	after := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(after) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat has %d fields after the name", len(after))
	}
	user, err := strconv.ParseInt(after[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(after[12], 10, 64)
	return user + system, err
}

// resetPeak lets the peak of resident memory begin anew.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0o200)
}

// dropCaches empties the kernel's caches of pages, names and inodes.
func dropCaches() error {
	unix.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o200)
}

// freeSpace returns the bytes that an ordinary user may still write below dir.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}
