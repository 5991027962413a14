package integration_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/integration/httpd"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/irods"
	"github.com/meshmount/meshmount/remote/webdav"
)

// site is a server with two shares, for branches a and b.
type site struct {
	args []string // the branches, for meshmount mount
	env  []string // their secrets
	disk func(branch string) string
	// last tells the last requests of an embedded server, for reports.
	last func() string
}

// startEFSS starts an embedded server with two users.
func startEFSS(t *testing.T, dialect efss.Dialect) site {
	t.Helper()
	users := []efss.User{
		{Name: "alice", Password: "wonderland", AppPassword: "app-alice"},
		{Name: "bob", Password: "builder", AppPassword: "app-bob"},
	}
	server, err := efss.Start(efss.Options{Dir: t.TempDir(), Dialect: dialect, Users: users}, efss.StartOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	user := map[string]string{"a": "alice", "b": "bob"}
	return site{
		args: []string{"a=" + branchURL(server.DAVURL("alice"), "alice"), "b=" + branchURL(server.DAVURL("bob"), "bob")},
		env:  []string{"MESHMOUNT_PASSWORD_A=app-alice", "MESHMOUNT_PASSWORD_B=app-bob"},
		disk: func(branch string) string { return server.Disk(user[branch]) },
		last: func() string {
			var b strings.Builder
			all := server.Requests()
			for _, r := range all[max(0, len(all)-15):] {
				_, _ = fmt.Fprintf(&b, "%s %s %s -> %d", r.At.Format("05.000"), r.Method, r.Path, r.Status)
				for _, name := range []string{"Content-Length", "Destination", "If", "If-Match", "If-None-Match", "Overwrite", "Upload-Offset"} {
					if value := r.Header.Get(name); value != "" {
						_, _ = fmt.Fprintf(&b, " %s=%s", name, value)
					}
				}
				b.WriteString("\n")
			}
			return b.String()
		},
	}
}

// branchURL turns http://host/path into dav://user@host/path.
func branchURL(url, user string) string {
	if rest, ok := strings.CutPrefix(url, "https://"); ok {
		return "davs://" + user + "@" + rest
	}
	return "dav://" + user + "@" + strings.TrimPrefix(url, "http://")
}

// fact is what a tree's listing and content say of one entry.
type fact struct {
	kind  fs.FileMode
	mode  fs.FileMode
	mtime int64 // seconds
	size  int64
	sum   [sha256.Size]byte
	link  string
}

func (f fact) String() string {
	if f.link != "" {
		return "link to " + f.link
	}
	return fmt.Sprintf("%v %v size %d mtime %d sha256 %x", f.kind, f.mode, f.size, f.mtime, f.sum[:4])
}

// scan reads a whole tree.
func scan(t *testing.T, root string) map[string]fact {
	t.Helper()
	facts := map[string]fact{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		f, err := examine(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		facts[rel] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

func examine(path string) (fact, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return fact{}, err
	}
	f := fact{kind: info.Mode().Type(), mode: info.Mode().Perm(), mtime: info.ModTime().Unix()}
	switch {
	case f.kind == fs.ModeSymlink:
		f = fact{kind: f.kind}
		f.link, err = os.Readlink(path)
	case f.kind.IsRegular():
		f.size = info.Size()
		f.sum, err = digest(path)
	}
	return f, err
}

func digest(path string) (sum [sha256.Size]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer func() { _ = file.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// startApache starts Apache's mod_dav with two directories.
func startApache(t *testing.T) site { return startReal(t, httpd.Start) }

// startRclone starts rclone serve webdav with two directories.
func startRclone(t *testing.T) site { return startReal(t, httpd.StartRclone) }

func startReal(t *testing.T, start func(httpd.Options) (*httpd.Server, error)) site {
	t.Helper()
	server := httpd.Run(t, start, httpd.Options{User: "alice", Password: "wonderland"})
	var s site
	for _, branch := range []string{"a", "b"} {
		r, err := http.NewRequest("MKCOL", server.URL+branch+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("alice", "wonderland")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusCreated {
			t.Fatalf("MKCOL: %s", answer.Status)
		}
		s.args = append(s.args, branch+"="+branchURL(server.URL+branch+"/", "alice"))
		s.env = append(s.env, "MESHMOUNT_PASSWORD_"+strings.ToUpper(branch)+"=wonderland")
	}
	s.disk = func(branch string) string { return filepath.Join(server.Dir, branch) }
	s.last = func() string { return "" }
	return s
}

// caps returns what the adapter promises for a branch of the site.
func (s site) caps(t *testing.T, branch string) remote.Caps {
	t.Helper()
	i := slices.IndexFunc(s.args, func(arg string) bool { return strings.HasPrefix(arg, branch+"=") })
	_, secret, _ := strings.Cut(s.env[i], "=")
	if url := strings.TrimPrefix(s.args[i], branch+"="); strings.HasPrefix(url, irods.URLScheme) {
		b := dialZone(t, url, secret)
		defer func() { _ = b.Close() }()
		return b.Caps()
	}
	root, user, err := webdav.ParseURL(strings.TrimPrefix(s.args[i], branch+"="))
	if err != nil {
		t.Fatal(err)
	}
	backend, err := webdav.Dial(t.Context(), webdav.Options{URL: root, User: user,
		Password: func(context.Context) (remote.Secret, error) { return remote.NewSecret(secret), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = backend.Close() }()
	return backend.Caps()
}
