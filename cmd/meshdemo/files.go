package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// sum is a file below some directory and the SHA-256 of its bytes.
type sum struct{ path, hex string }

// sums returns the files below dir by path.
func sums(dir string) (map[string]sum, error) {
	found := map[string]sum{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		text, err := digest(path)
		found[rel] = sum{rel, text}
		return err
	})
	return found, err
}

// digest returns the SHA-256 of a file's bytes in hex.
func digest(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// compare checks each file's SHA-256 through the mount against the server's disk,
// in both directions.
func (d *demo) compare(context.Context) error {
	d.title("SHA-256 of every file, through the mount and on the server's disk")
	for i, s := range d.sites {
		mount, err := sums(d.dir(i))
		if err != nil {
			return err
		}
		disk, err := sums(d.disk(i))
		if err != nil {
			return err
		}
		if len(mount) == 0 || len(mount) != len(disk) {
			return fmt.Errorf("%s: %d files through the mount, %d on the server's disk", s.branch, len(mount), len(disk))
		}
		for _, path := range slices.Sorted(maps.Keys(mount)) {
			m, f := mount[path], disk[path]
			if m != f {
				return fmt.Errorf("%s/%s: %s through the mount, %s on the server's disk", s.branch, path, m.hex, f.hex)
			}
			d.say("%.16s... = %.16s...  %s/%s", m.hex, f.hex, s.branch, path)
		}
	}
	return nil
}

// change overwrites, appends to, renames and removes files through the mount, and
// looks at the server's disk each time.
func (d *demo) change(context.Context) error {
	d.title("Overwrite, append, rename, remove")
	input, results := filepath.Join(d.dir(0), "input"), filepath.Join(d.dir(1), "results")
	disk := filepath.Join(d.disk(1), "results")
	if err := os.WriteFile(filepath.Join(input, "edge.txt"), []byte("3 3 0.1 1 1\n1 2 3 4 5 6 7 8 9\n"), 0o644); err != nil {
		return err
	}
	d.say("overwritten: input/edge.txt")
	if err := expect(filepath.Join(d.disk(0), "input", "edge.txt"), "3 3 0.1 1 1\n1 2 3 4 5 6 7 8 9\n"); err != nil {
		return err
	}
	before, err := os.ReadFile(filepath.Join(results, "summary.csv"))
	if err != nil {
		return err
	}
	if err := appendTo(filepath.Join(results, "summary.csv"), "# end\n"); err != nil {
		return err
	}
	d.say("appended to: results/summary.csv")
	if err := expect(filepath.Join(disk, "summary.csv"), string(before)+"# end\n"); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(results, "spot-0000.pgm"), filepath.Join(results, "start.pgm")); err != nil {
		return err
	}
	d.say("renamed: results/spot-0000.pgm to results/start.pgm")
	if err := os.Remove(filepath.Join(results, "ramp-0000.pgm")); err != nil {
		return err
	}
	d.say("removed: results/ramp-0000.pgm")
	for _, name := range []string{"spot-0000.pgm", "ramp-0000.pgm"} {
		if _, err := os.Stat(filepath.Join(disk, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is still on the server's disk (%w)", name, err)
		}
	}
	_, err = os.Stat(filepath.Join(disk, "start.pgm"))
	return err
}

// expect checks the content of a file.
func expect(path, want string) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("%s holds %d bytes that are not the %d expected", path, len(got), len(want))
	}
	return nil
}

// appendTo appends text to a file.
func appendTo(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Close())
}
