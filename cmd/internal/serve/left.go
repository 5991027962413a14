package serve

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/cmd/internal/exit"
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

// mostNamed is how many parked files a message names.
const mostNamed = 3

// left returns an *exit.Error if content was parked since before was noted.
func (r *Runner) left(before []string) error {
	fresh := slices.DeleteFunc(r.parked(), func(name string) bool { return slices.Contains(before, name) })
	if len(fresh) == 0 {
		return nil
	}
	var list []string
	for _, name := range fresh[:min(len(fresh), mostNamed)] {
		list = append(list, r.describe(name))
	}
	if len(fresh) > mostNamed {
		list = append(list, "...")
	}
	return exit.New(exit.DataLeft, "it is kept in "+r.parkDir()+", with a note beside each file",
		"content did not reach its server: %s", strings.Join(list, ", "))
}

// describe tells what a parked file was.
func (r *Runner) describe(name string) string {
	var note struct{ Path, Cause string }
	text, err := os.ReadFile(filepath.Join(r.parkDir(), name+".json"))
	if err != nil || json.Unmarshal(text, &note) != nil {
		return name
	}
	return fmt.Sprintf("%s (%s)", note.Path, note.Cause)
}
