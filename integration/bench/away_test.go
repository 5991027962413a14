package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPutAway wants large files to be gone, and the rest to be out of the way but there.
func TestPutAway(t *testing.T) {
	run := filepath.Join(t.TempDir(), runPrefix+"1")
	dir := filepath.Join(run, "site", "write", "ours1")
	if err := os.MkdirAll(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"d/small": 10, "d/large": smallAway + 1} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // there is nothing the second time
		if err := putAway(dir); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	kept, err := filepath.Glob(filepath.Join(run, awayName+"*", "d", "*"))
	if err != nil || len(kept) != 1 || filepath.Base(kept[0]) != "small" {
		t.Errorf("%v, %v", kept, err)
	}
}
