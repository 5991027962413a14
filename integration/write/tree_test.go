package write_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// entry is a file, directory or symbolic link, as a mount or a server's disk shows it.
type entry struct {
	Type   fs.FileMode // type bits only
	Data   []byte
	Mode   uint32 // permissions
	MTime  int64  // seconds
	Target string
}

// String tells an entry to people.
func (e entry) String() string {
	switch e.Type {
	case fs.ModeDir:
		return "directory"
	case fs.ModeSymlink:
		return "link to " + e.Target
	}
	return fmt.Sprintf("file of %d bytes (%.8x...), mode %o, mtime %d", len(e.Data), e.Data[:min(8, len(e.Data))], e.Mode, e.MTime)
}

// tree is what is below a root, by paths without a slash in front.
type tree map[string]entry

// readTree reads what is below root.
func readTree(root string) (tree, error) {
	found := tree{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		e, err := readEntry(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		found[rel] = e
		return err
	})
	return found, err
}

func readEntry(path string) (entry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return entry{}, err
	}
	e := entry{Type: info.Mode().Type(), Mode: uint32(info.Mode().Perm()), MTime: info.ModTime().Unix()}
	switch e.Type {
	case 0:
		return readFile(path)
	case fs.ModeSymlink:
		e.Target, err = os.Readlink(path)
	}
	return e, err
}

// readFile reads a regular file and its attributes through one descriptor: by its name it may
// be another one a moment later.
func readFile(path string) (entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return entry{}, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return entry{}, err
	}
	e := entry{Type: info.Mode().Type(), Mode: uint32(info.Mode().Perm()), MTime: info.ModTime().Unix()}
	e.Data, err = io.ReadAll(file)
	if err == nil && int64(len(e.Data)) != info.Size() {
		err = fmt.Errorf("%s: %d bytes read of %d", path, len(e.Data), info.Size())
	}
	return e, err
}

// stored returns what the server itself has, from its disk and catalog. What stands for
// symbolic links there are files. The test fails if there are signs of unfinished work:
// uploads that nobody ends, replicas that are not good.
func (s *server) stored(t *testing.T) tree {
	t.Helper()
	found, faults := s.present(t)
	for _, fault := range faults {
		t.Errorf("%s: %s", s.kind, fault)
	}
	return found
}

// present is stored of a server that may be at work. The faults are what must not stay.
func (s *server) present(t *testing.T) (found tree, faults []string) {
	t.Helper()
	if s.zone != nil {
		return s.catalog(t)
	}
	found, err := readTree(s.share.Disk("alice"))
	if err != nil {
		t.Fatal(err)
	}
	if through() || s.litter { // an upload that was cut off and never committed leaves its temporary file
		maps.DeleteFunc(found, func(path string, _ entry) bool { return strings.Contains(path, ".meshmount-") })
		if through() {
			return found, nil
		}
	}
	uploads, err := filepath.Glob(filepath.Join(s.dir, "uploads", "alice", "*"))
	if err != nil || len(uploads) > 0 && !s.litter {
		faults = []string{fmt.Sprintf("unfinished uploads: %q %v", uploads, err)}
	}
	return found, faults
}

// has tells whether the server has a file with that content now.
func (s *server) has(t *testing.T, name string, data []byte) bool {
	t.Helper()
	found, _ := s.present(t)
	e, there := found[name]
	return there && bytes.Equal(e.Data, data)
}

// catalogLine is what the tests want to know of a line of a zone's catalog.
type catalogLine struct {
	Coll, Resource *struct {
		ID, ParentID int64
		Name         string
	}
	Object *catalogObject
	Gone   int64
}

type catalogObject struct {
	ID, CollID int64
	Name       string
	Replicas   []struct {
		Num          int
		Resc         int64
		Size, Status int64
	}
}

// catalog reads a zone's catalog and vault. The faults are what must not stay: replicas
// that are not good.
func (s *server) catalog(t *testing.T) (found tree, faults []string) {
	t.Helper()
	parents, names := map[int64]int64{}, map[int64]string{}
	objects := map[int64]*catalogObject{}
	file, err := os.Open(filepath.Join(s.dir, "catalog.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var line catalogLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		switch {
		case line.Coll != nil:
			parents[line.Coll.ID], names[line.Coll.ID] = line.Coll.ParentID, line.Coll.Name
		case line.Resource != nil:
			names[line.Resource.ID] = line.Resource.Name
		case line.Object != nil:
			objects[line.Object.ID] = line.Object
		default:
			delete(parents, line.Gone)
			delete(objects, line.Gone)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return s.assemble(parents, names, objects)
}

// assemble makes a tree of what the catalog has below alice's home.
func (s *server) assemble(parents map[int64]int64, names map[int64]string, objects map[int64]*catalogObject) (found tree, faults []string) {
	found = tree{}
	var pathOf func(id int64) string
	pathOf = func(id int64) string {
		if parents[id] == 0 {
			return ""
		}
		return pathOf(parents[id]) + "/" + names[id]
	}
	home := s.zone.Home("alice") + "/"
	for id := range parents {
		if rel, ok := strings.CutPrefix(pathOf(id), home); ok {
			found[rel] = entry{Type: fs.ModeDir}
		}
	}
	for _, o := range objects {
		path := pathOf(o.CollID) + "/" + o.Name
		rel, ok := strings.CutPrefix(path, home)
		if !ok || len(o.Replicas) != 1 {
			faults = append(faults, fmt.Sprintf("%s with %d replicas", path, len(o.Replicas)))
			continue
		}
		r := o.Replicas[0]
		name := strconv.FormatInt(o.ID, 10) + "." + strconv.Itoa(r.Num)
		data, err := os.ReadFile(filepath.Join(s.dir, "vault", names[r.Resc], name))
		if err != nil || r.Status != 1 || int64(len(data)) != r.Size {
			faults = append(faults, fmt.Sprintf("%s: replica of status %d, %d bytes, has %d (%v)", path, r.Status, r.Size, len(data), err))
		}
		found[rel] = entry{Data: data}
	}
	return found, faults
}

// paths returns the sorted paths of several trees.
func paths[V any](maps_ ...map[string]V) []string {
	all := map[string]bool{}
	for _, m := range maps_ {
		for path := range m {
			all[path] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}
