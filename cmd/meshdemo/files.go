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

// sums returns the SHA-256 in hex of the files below dir by their paths there.
func sums(dir string) (map[string]string, error) {
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found[rel], err = digest(path)
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

// compare checks each file's SHA-256 through the mount against what the servers have,
// in both directions.
func (d *demo) compare(ctx context.Context) error {
	d.title("SHA-256 of every file, through the mount and on the server")
	for _, s := range d.sites {
		mount, err := sums(d.at(s))
		if err != nil {
			return err
		}
		server, err := d.server(ctx, s)
		if err != nil {
			return err
		}
		if len(mount) == 0 || len(mount) != len(server) {
			return fmt.Errorf("%s: %d files through the mount, %d on the server", s.branch(), len(mount), len(server))
		}
		if err := d.alike(s, mount, server); err != nil {
			return err
		}
	}
	return nil
}

// alike compares the files of a branch and shows the first and the last ones.
func (d *demo) alike(s site, mount map[string]string, server map[string]held) error {
	const shown = 3
	for i, path := range slices.Sorted(maps.Keys(mount)) {
		m, h := mount[path], server[path]
		if m != h.hex {
			return fmt.Errorf("%s/%s: %s through the mount, %s on the server", s.branch(), path, m, h.hex)
		}
		if i < shown || i >= len(mount)-shown {
			d.say("%.16s... = %.16s...  %-38s %s", m, h.hex, s.branch()+"/"+path, h.note)
		}
		if i == shown && len(mount) > 2*shown {
			d.say("... and %d more, all the same", len(mount)-2*shown)
		}
	}
	return nil
}

// change overwrites, appends to, renames, replaces and removes files through the
// mount, and looks at the servers each time.
func (d *demo) change(ctx context.Context) error {
	d.title("Overwrite, append, rename, replace, remove")
	edge := "3 3 0.1 1 1\n1 2 3 4 5 6 7 8 9\n"
	if err := os.WriteFile(d.at(d.sciebo, "input/edge.txt"), []byte(edge), 0o644); err != nil {
		return err
	}
	d.say("overwritten: sciebo/input/edge.txt")
	if err := d.expect(ctx, d.sciebo, "input/edge.txt", edge); err != nil {
		return err
	}
	if err := d.appendBoth(ctx); err != nil {
		return err
	}
	if err := d.replace(ctx); err != nil {
		return err
	}
	for _, s := range []site{d.cernbox, d.project} {
		if err := d.renameRemove(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// appendBoth appends to a file of a share and to one of a zone.
func (d *demo) appendBoth(ctx context.Context) error {
	for _, f := range []struct {
		s    site
		path string
	}{{d.sciebo, "source/heat.awk"}, {d.project, summaryFile}} {
		before, err := os.ReadFile(d.at(f.s, f.path))
		if err != nil {
			return err
		}
		if err := appendTo(d.at(f.s, f.path), "# end\n"); err != nil {
			return err
		}
		d.say("appended to: %s/%s", f.s.branch(), f.path)
		if err := d.expect(ctx, f.s, f.path, string(before)+"# end\n"); err != nil {
			return err
		}
	}
	return nil
}

// replace writes a new version beside a file and renames it over the old one.
func (d *demo) replace(ctx context.Context) error {
	const path = "input/ramp.txt"
	temporary := d.at(d.archive, path+".new")
	if err := os.WriteFile(temporary, []byte("a new version\n"), 0o644); err != nil {
		return err
	}
	if err := os.Rename(temporary, d.at(d.archive, path)); err != nil {
		return err
	}
	d.say("replaced by rename: archive/%s", path)
	return errors.Join(d.expect(ctx, d.archive, path, "a new version\n"), d.absent(ctx, d.archive, path+".new"))
}

// renameRemove renames one result of a site and removes another.
func (d *demo) renameRemove(ctx context.Context, s site) error {
	names, err := os.ReadDir(d.at(s, "results"))
	if err != nil {
		return err
	}
	if len(names) < 2 {
		return fmt.Errorf("%d results in %s", len(names), s.branch())
	}
	old, gone := "results/"+names[0].Name(), "results/"+names[1].Name()
	if err := errors.Join(os.Rename(d.at(s, old), d.at(s, "results/renamed.pgm")), os.Remove(d.at(s, gone))); err != nil {
		return err
	}
	d.say("renamed: %s/%s; removed: %s/%s", s.branch(), old, s.branch(), gone)
	server, err := d.server(ctx, s)
	if err != nil {
		return err
	}
	if server["results/renamed.pgm"].hex == "" {
		return fmt.Errorf("%s has no results/renamed.pgm", s.branch())
	}
	return errors.Join(d.absent(ctx, s, old), d.absent(ctx, s, gone))
}

// server returns what a server has, when all that was written has reached it.
func (d *demo) server(ctx context.Context, s site) (map[string]held, error) {
	if _, err := d.meshmount(ctx, "flush", d.point); err != nil {
		return nil, err
	}
	return s.held(ctx)
}

// expect checks the content of a file on its server.
func (d *demo) expect(ctx context.Context, s site, path, want string) error {
	server, err := d.server(ctx, s)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(want))
	if got := server[path].hex; got != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("%s/%s on the server is %q, not the %d bytes expected", s.branch(), path, got, len(want))
	}
	return nil
}

// absent makes sure that a server has no such file.
func (d *demo) absent(ctx context.Context, s site, path string) error {
	server, err := d.server(ctx, s)
	if _, ok := server[path]; err == nil && ok {
		err = fmt.Errorf("%s/%s is still on the server", s.branch(), path)
	}
	return err
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
