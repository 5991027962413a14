package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// awayName begins the names of what was put away.
const awayName = ".away-"

// smallAway is up to which size a file that was put away stays until the end.
const smallAway = 1 << 20

// putCount makes the names differ.
var putCount atomic.Int64

// putAway does away with a directory of which nothing is to be measured any more: its large
// files go at once, and the rest at the end of the run, under another name. Who removes
// thousands of files slows down who makes some in the minutes after (ext4 does not give an
// inode out again for a while, and passes over all of these each time that it makes a file):
// each row would depend on those before it. What is not there is no error.
func putAway(dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > smallAway {
			err = os.Remove(path)
		}
		return err
	})
	if err == nil {
		err = os.Rename(dir, filepath.Join(awayFrom(dir), fmt.Sprint(awayName, putCount.Add(1))))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// awayFrom returns where dir is put: in the directory of the whole run, so that no server or
// client sees it.
func awayFrom(dir string) string {
	for at := filepath.Dir(dir); at != filepath.Dir(at); at = filepath.Dir(at) {
		if match, _ := filepath.Match(runPrefix+"*", filepath.Base(at)); match {
			return at
		}
	}
	return filepath.Dir(dir)
}
