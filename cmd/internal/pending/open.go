package pending

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/fs/control"
)

// Dir is where the journal of changes lies in a cache directory.
func Dir(cacheDir string) string { return filepath.Join(cacheDir, "pending") }

// namesFile tells, beside the journal, where each tree was in the mount.
func namesFile(cacheDir string) string { return filepath.Join(Dir(cacheDir), "places.json") }

// LoadNames returns the places in the mount, with a slash in front, of the trees that
// mounts with this cache directory had.
func LoadNames(cacheDir string) map[string]string {
	names := map[string]string{}
	text, err := os.ReadFile(namesFile(cacheDir))
	if err != nil || json.Unmarshal(text, &names) != nil || names == nil {
		return map[string]string{} // paths are told without them
	}
	return names
}

// SaveNames adds the places of trees to those that are known.
func SaveNames(cacheDir string, names map[string]string) error {
	before := LoadNames(cacheDir)
	all := maps.Clone(before)
	maps.Copy(all, names)
	if maps.Equal(all, before) {
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	tmp := namesFile(cacheDir) + ".new"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o600); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return os.Rename(tmp, namesFile(cacheDir))
}

// Ended is the journal of a cache directory that no mount uses. Close it.
type Ended struct {
	Journal
	store *writeback.Store
}

// open opens the journal of a cache directory. The error is os.ErrNotExist if there is none,
// and a *writeback.LockedError if a mount has it.
func open(cacheDir string) (*writeback.Store, error) {
	if _, err := os.Stat(Dir(cacheDir)); err != nil {
		return nil, err
	}
	return writeback.Open(Dir(cacheDir), writeback.Options{})
}

// OpenEnded opens the journal that a mount at point has left in a cache directory. The
// error is os.ErrNotExist if there is none, and a *writeback.LockedError if a mount has it.
func OpenEnded(cacheDir, point string) (*Ended, error) {
	store, err := open(cacheDir)
	if err != nil {
		return nil, err
	}
	e := &Ended{store: store}
	frame := control.Status{Mountpoint: point, CacheDir: cacheDir, State: control.StateEnded}
	e.Store, e.Frame = store, func() control.Status { return frame }
	if err := e.wrap(LoadNames(cacheDir)); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return e, nil
}

// wrap has all trees with changes known by their places in the mount.
func (e *Ended) wrap(names map[string]string) error {
	for _, b := range e.store.Status().Branches {
		name := names[b.Tree]
		if name == "" {
			name = "/" + strings.NewReplacer("/", "_", "\x00", "_").Replace(b.Tree)
		}
		if _, err := e.store.Wrap(absent{}, writeback.Policy{Name: name, Tree: b.Tree}); err != nil {
			return err
		}
	}
	return nil
}

// Status implements control.Changes. No branch is mounted.
func (e *Ended) Status(ctx context.Context, items int) (control.Status, error) {
	s, err := e.Journal.Status(ctx, items)
	for i := range s.Branches {
		s.Branches[i].Mounted = false
	}
	return s, err
}

// Close gives the journal back.
func (e *Ended) Close() error { return e.store.Close() }

// Count returns how many changes a mount has left in a cache directory that no mount uses.
func Count(cacheDir string) (n int, err error) {
	store, err := open(cacheDir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, b := range store.Status().Branches {
		n += b.Pending + b.Parked
	}
	return n, store.Close()
}
