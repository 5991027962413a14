package secret

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote/irods"
)

// iinit stores a password as the command of that name does.
func iinit(t *testing.T, name, password string, uid int) {
	t.Helper()
	now := time.Now()
	content, err := irods.Scramble(password, uid, now, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(name, content, 0o600), os.Chtimes(name, now, now)); err != nil {
		t.Fatal(err)
	}
}

func zone(name string) *settings.Branch {
	b := branch(settings.Password, settings.FromIRODS, name)
	b.URL = "irods://h:1247/z/c"
	return b
}

func TestStoredByIinit(t *testing.T) {
	var f Fetcher
	name := filepath.Join(t.TempDir(), ".irodsA")
	iinit(t, name, "hunter2", os.Getuid())
	first, err := f.Fetch(t.Context(), zone(name))
	if err != nil || first.Reveal() != "hunter2" {
		t.Fatalf("%q, %v", first.Reveal(), err)
	}
	// Once the server refuses it, the file may have another.
	source := f.Source(zone(name), first)
	iinit(t, name, "renewed", os.Getuid())
	for _, want := range []string{"hunter2", "renewed"} {
		if got, err := source(t.Context()); err != nil || got.Reveal() != want {
			t.Errorf("%q, %v, want %q", got.Reveal(), err, want)
		}
	}
}

func TestRefusedFilesOfIinit(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, change func(name string) error) string {
		name = filepath.Join(dir, name)
		iinit(t, name, "hunter2", os.Getuid())
		if err := change(name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	const again = "run iinit again"
	cases := []struct {
		name string
		code exit.Code
		want string
	}{
		{filepath.Join(dir, "none"), exit.SecretMissing, "cannot be read: no such file or directory; " + again},
		{file("public", func(n string) error { return os.Chmod(n, 0o644) }), exit.SecretUnusable, "can be read or written by others (mode 0644); run: chmod 600"},
		{file("copy", func(n string) error { return os.Chtimes(n, time.Time{}, time.Now().Add(time.Hour)) }), exit.SecretUnusable, "is not for this user, or was copied or changed; " + again},
		{file("garbage", func(n string) error { return os.WriteFile(n, []byte("hunter2-in-clear"), 0o600) }), exit.SecretUnusable, "is not for this user, or was copied or changed; " + again},
		{file("foreign", func(n string) error { iinit(t, n, "hunter2", os.Getuid()^0x41); return nil }), exit.SecretUnusable, "is not for this user"},
		{file("empty", func(n string) error { return os.Truncate(n, 0) }), exit.SecretUnusable, again},
		{file("large", func(n string) error { return os.Truncate(n, longest+1) }), exit.SecretUnusable, "is larger than"},
		{dir, exit.SecretUnusable, "is not a regular file"},
	}
	for _, c := range cases {
		var f Fetcher
		_, err := f.Fetch(t.Context(), zone(c.name))
		if exit.CodeOf(err) != c.code || err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "file of iCommands "+c.name) {
			t.Errorf("%s: code %d, %v; want %d, %s", c.name, exit.CodeOf(err), err, c.code, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	var f Fetcher
	ask := zone("")
	ask.Credential.From = settings.FromPrompt
	if _, err := f.Fetch(t.Context(), ask); exit.CodeOf(err) != exit.SecretMissing || !strings.Contains(err.Error(), "or run iinit") {
		t.Error(err)
	}
}
