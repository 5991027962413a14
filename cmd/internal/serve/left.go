package serve

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/doctor"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/fs/control"
)

// parked returns the names of what lies in the park directory: content that no
// server took, each with a note beside it (its name and ".json").
func (r *Runner) parked() []string {
	entries, err := os.ReadDir(r.parkDir())
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".json") {
			names = append(names, e.Name())
		}
	}
	return names
}

// mostNamed is how many changes a message names.
const mostNamed = 3

// left writes the list of what could not be stored, content that was parked since before
// was noted included. If there is something it returns an *exit.Error.
func (r *Runner) left(before []string) error {
	fresh := slices.DeleteFunc(r.parked(), func(name string) bool { return slices.Contains(before, name) })
	journalled := r.leftovers.Count
	for _, name := range fresh {
		r.leftovers.Add(r.describe(name))
	}
	l := &r.leftovers
	l.Mountpoint, l.CacheDir, l.Ended = r.Plan.Point, r.Plan.CacheDir, time.Now().UTC()
	listed := "; list: " + pending.LeftFile(r.Plan.CacheDir)
	if err := l.Write(); err != nil {
		r.Log.Error("the list of what is left cannot be written", "err", err)
		listed = ""
	}
	if l.Count == 0 {
		return nil
	}
	var remedy []string
	if journalled > 0 {
		remedy = append(remedy, "the next mount with "+r.Plan.CacheDir+" uploads what can be stored, see: meshmount status "+r.Plan.Point)
	}
	if len(fresh) > 0 {
		remedy = append(remedy, "it is kept in "+r.parkDir()+", with a note beside each file")
	}
	return exit.New(exit.DataLeft, strings.Join(remedy, "; ")+listed, "%s did not reach their servers: %s", count(l), named(l.Changes))
}

// count tells how much is left.
func count(l *pending.Left) string {
	return fmt.Sprintf("%s (%s)", pending.Number(l.Count), doctor.Bytes(l.Bytes))
}

// named names some changes, those that failed for good first.
func named(list []control.Item) string {
	var some []string
	for _, failed := range []bool{true, false} {
		for i := range list {
			c := &list[i]
			if (c.State == control.ItemParked) != failed {
				continue
			}
			if len(some) == mostNamed {
				return strings.Join(some, ", ") + ", ..."
			}
			text := c.Path
			if c.Cause != "" {
				text += " (" + c.Cause + ")"
			}
			some = append(some, text)
		}
	}
	return strings.Join(some, ", ")
}

// describe tells what a parked file was.
func (r *Runner) describe(name string) control.Item {
	file := filepath.Join(r.parkDir(), name)
	item := control.Item{Op: "put", Path: name, State: control.ItemParked, File: file}
	if info, err := os.Stat(file); err == nil {
		item.Size, item.Since = info.Size(), info.ModTime().UTC()
	}
	var note struct{ Path, Cause string }
	if text, err := os.ReadFile(file + ".json"); err == nil && json.Unmarshal(text, &note) == nil {
		item.Path, item.Cause = note.Path, note.Cause
	}
	return item
}
