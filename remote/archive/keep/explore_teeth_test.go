package keep_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote"
)

// exploreLies are servers that do not do what they say. The rules break on each of them.
var exploreLies = map[string]func(x *explorer, c *remote.Call, next func() error) error{
	"a tombstone is told to be stored, and is not": func(_ *explorer, c *remote.Call, next func() error) error {
		if c.Op == remote.OpPut && isTomb(c.Path) {
			return nil
		}
		return next()
	},
	"a tombstone becomes that of the next member": func(_ *explorer, c *remote.Call, next func() error) error {
		if c.Op == remote.OpPut && isTomb(c.Path) {
			c.Path = strings.Replace(c.Path, ".0.gone", ".1.gone", 1)
		}
		return next()
	},
	"versions are not looked at when a file is removed": func(_ *explorer, c *remote.Call, next func() error) error {
		if c.Op == remote.OpRemove {
			c.Remove.Version = ""
		}
		return next()
	},
	"versions are not looked at when a file is replaced": func(_ *explorer, c *remote.Call, next func() error) error {
		if c.Op == remote.OpPut && c.Put.Cond.Version != "" {
			c.Put.Cond = remote.Cond{}
		}
		return next()
	},
	"new files replace others": func(_ *explorer, c *remote.Call, next func() error) error {
		if c.Op == remote.OpPut && !hidden(c.Path) {
			c.Put.Cond.NotExist = false
		}
		return next()
	},
	"a new generation takes all tombstones away": func(x *explorer, c *remote.Call, next func() error) error {
		err := next()
		if dir, _ := remote.Split(c.Path); err == nil && c.Op == remote.OpPut && isZip(c.Path) && !isFirst(c.Path) {
			x.removeAll(dir, isTomb)
		}
		return err
	},
	"an archive goes after a while": func(x *explorer, c *remote.Call, next func() error) error {
		if dir, _ := remote.Split(c.Path); c.Op == remote.OpPut && isTomb(c.Path) {
			x.removeAll(dir, func(path string) bool { return isZip(path) })
		}
		return next()
	},
}

// isTomb tells whether a path is one of a tombstone.
func isTomb(path string) bool { return hidden(path) && strings.HasSuffix(path, ".gone") }

// removeAll removes files behind the clients' backs.
func (x *explorer) removeAll(dir string, which func(path string) bool) {
	ctx := x.t.Context()
	var all []string
	_ = x.server.List(ctx, dir, func(e remote.Entry) error { all = append(all, e.Path); return nil }) // it may be gone
	for _, path := range all {
		if which(path) {
			_ = x.server.Remove(ctx, path, remote.RemoveOptions{Type: remote.File}) // or go meanwhile
		}
	}
}

// TestExploreTeeth wants TestExplore to find out every server that breaks what the rules
// stand on.
func TestExploreTeeth(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(exploreLies)) {
		for seed := 0; ; seed++ {
			plan := planOf(seed)
			plan.torn, plan.narrow, plan.errands = 0.3, seed%2 == 0, 60
			plan.lie = exploreLies[name]
			if x := explore(t, plan); len(x.wrong) > 0 {
				t.Logf("%s: seed %d: %.100s", name, seed, x.wrong[0])
				break
			}
			if seed == 200 {
				t.Errorf("nothing wrong was found where %s", name)
				break
			}
		}
	}
}
