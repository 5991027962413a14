package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/meshmount/meshmount/integration/efss"
)

// site is a server that has one branch of the tree.
type site interface {
	// branch is the place in the tree.
	branch() string
	// url is what meshmount is given for it.
	url() string
	// about says what it is, for people.
	about() string
	// start runs the server on the data that an earlier one has left.
	start() error
	// stop ends it. A site that does not run is no error.
	stop() error
	// held returns the files as the server has them, by their paths in the branch.
	held(ctx context.Context) (map[string]held, error)
}

// held is a file on a server.
type held struct {
	hex  string // SHA-256 of the bytes
	note string // what else the server says of it
}

// share is a share of an EFSS site.
type share struct {
	name, user, password string
	dir                  string // the server's data
	server               *efss.Running
}

func (s *share) branch() string { return s.name }

func (s *share) url() string {
	return "dav://" + s.user + "@" + strings.TrimPrefix(s.server.DAVURL(s.user), "http://")
}

func (s *share) about() string { return "EFSS, as Nextcloud; data in " + s.server.Disk(s.user) }

func (s *share) start() (err error) {
	s.server, err = efss.Start(efss.Options{
		Dir:   s.dir,
		Users: []efss.User{{Name: s.user, Password: "login-of-" + s.user, AppPassword: s.password}},
	}, efss.StartOptions{})
	if err != nil {
		s.server = nil
		return fmt.Errorf("start of the site for %s: %w", s.name, err)
	}
	return nil
}

func (s *share) stop() error {
	if s.server == nil {
		return nil
	}
	err := s.server.Close()
	s.server = nil
	return err
}

// held reads the server's disk.
func (s *share) held(context.Context) (map[string]held, error) {
	all, err := sums(s.server.Disk(s.user))
	found := make(map[string]held, len(all))
	for path, hex := range all {
		found[path] = held{hex: hex}
	}
	return found, err
}

// newSites returns the four sites of the demo, with their data below dir.
func (d *demo) newSites(dir string) {
	d.sciebo = &share{name: "sciebo", user: "alice", password: "alice-app-password", dir: filepath.Join(dir, "sciebo")}
	d.cernbox = &share{name: "cernbox", user: "bob", password: "bob-app-password", dir: filepath.Join(dir, "cernbox")}
	d.project = &collection{name: "lexis/project1", zone: "lexisZone", user: "carol", password: "carol-password",
		dir: filepath.Join(dir, "lexisZone"), encrypted: true}
	d.archive = &collection{name: "archive", zone: "archiveZone", user: "dave", password: "dave-password",
		dir: filepath.Join(dir, "archiveZone")}
	d.sites = []site{d.sciebo, d.cernbox, d.project, d.archive}
}
