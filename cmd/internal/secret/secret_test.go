package secret

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
)

func branch(kind settings.CredentialKind, from settings.CredentialFrom, arg string) *settings.Branch {
	return &settings.Branch{Name: "home", URL: "davs://h/p", User: "me",
		Credential: settings.Credential{Kind: kind, From: from, Arg: arg}}
}

func write(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	if err := errors.Join(os.WriteFile(name, []byte(text), 0o600), os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFetch(t *testing.T) {
	f := Fetcher{Environ: []string{"PATH=/bin:/usr/bin", "A=from env", "B=hidden"}, Hide: []string{"B"}, Timeout: 10 * time.Second}
	cases := []struct {
		name, want string
		b          *settings.Branch
	}{
		{"file", "p w", branch(settings.Password, settings.FromFile, write(t, 0o600, "p w\n"))},
		{"file of Windows", "pw", branch(settings.Password, settings.FromFile, write(t, 0o400, "pw\r\n"))},
		{"file without end", "pw", branch(settings.Token, settings.FromFile, write(t, 0o600, "pw"))},
		{"variable", "from env", branch(settings.Password, settings.FromEnv, "A")},
		{"command", "from env-", branch(settings.Token, settings.FromCommand, `echo "$A-$B"; echo noise >&2`)},
		{"none", "", branch(settings.Anonymous, settings.FromNowhere, "")},
	}
	for _, c := range cases {
		if got, err := f.Fetch(t.Context(), c.b); err != nil || got.Reveal() != c.want {
			t.Errorf("%s: %q, %v", c.name, got.Reveal(), err)
		}
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	private := filepath.Join(dir, "private")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	f := Fetcher{Environ: []string{"PATH=/bin:/usr/bin", "EMPTY=", "TWO=hunter2\nx"}, Timeout: 300 * time.Millisecond}
	file := func(name string) *settings.Branch { return branch(settings.Password, settings.FromFile, name) }
	command := func(text string) *settings.Branch { return branch(settings.Token, settings.FromCommand, text) }
	public := write(t, 0o640, "hunter2")
	cases := []struct {
		name string
		b    *settings.Branch
		code exit.Code
		want string
	}{
		{"no file", file(filepath.Join(dir, "none")), exit.SecretMissing, "the password file " + dir + "/none cannot be read: no such file or directory"},
		{"public file", file(public), exit.SecretUnusable, "can be read or written by others (mode 0640); run: chmod 600 " + public},
		{"empty file", file(write(t, 0o600, "\n")), exit.SecretUnusable, "is empty"},
		{"two lines", file(write(t, 0o600, "hunter2\nhunter2\n")), exit.SecretUnusable, "more than one line"},
		{"large file", file(write(t, 0o600, strings.Repeat("x", longest+1))), exit.SecretUnusable, "larger than"},
		{"directory", file(private), exit.SecretUnusable, "is not a regular file"},
		{"no variable", branch(settings.Password, settings.FromEnv, "NONE"), exit.SecretMissing, "the password variable NONE is not set"},
		{"empty variable", branch(settings.Password, settings.FromEnv, "EMPTY"), exit.SecretUnusable, "is empty"},
		{"two-line variable", branch(settings.Password, settings.FromEnv, "TWO"), exit.SecretUnusable, "more than one line"},
		{"failing command", command("echo the reason >&2; echo hunter2; exit 3"), exit.SecretUnusable, "the token command failed: exit status 3: the reason"},
		{"silent command", command("true"), exit.SecretUnusable, "is empty"},
		{"slow command", command("echo asking >&2; exec sleep 60"), exit.SecretUnusable, "did not end within 300ms: asking; raise --secret-timeout"},
		{"talkative command", command("head -c 70000 /dev/zero | tr '\\0' x"), exit.SecretUnusable, "printed more than"},
		{"nobody to ask", branch(settings.Password, settings.FromPrompt, ""), exit.SecretMissing, "no password for user me; use --password-file, --password-command or MESHMOUNT_PASSWORD_HOME"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Fetch(t.Context(), c.b)
			if err == nil || exit.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("code %d, %v; want %d, %s", exit.CodeOf(err), err, c.code, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestForeignFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	name := write(t, 0o600, "x")
	if err := os.Chown(name, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	var f Fetcher
	_, err := f.Fetch(t.Context(), branch(settings.Password, settings.FromFile, name))
	if exit.CodeOf(err) != exit.SecretUnusable || !strings.Contains(err.Error(), "belongs to another user (uid 4242); use a file of your own") {
		t.Error(err)
	}
}

func TestPrompting(t *testing.T) {
	ask := branch(settings.Password, settings.FromPrompt, "")
	var asked string
	f := Fetcher{Prompt: func(_ context.Context, q string) (remote.Secret, error) {
		asked = q
		return remote.NewSecret("typed"), nil
	}}
	if got, err := f.Fetch(t.Context(), ask); err != nil || got.Reveal() != "typed" || asked != "Password of me for branch home (davs://h/p): " {
		t.Errorf("%q, %v, asked %q", got.Reveal(), err, asked)
	}
	f.Prompt = func(context.Context, string) (remote.Secret, error) { return remote.Secret{}, nil }
	if _, err := f.Fetch(t.Context(), ask); exit.CodeOf(err) != exit.SecretMissing {
		t.Errorf("empty answer: %v", err)
	}
	f.Prompt = func(context.Context, string) (remote.Secret, error) { return remote.Secret{}, errInterrupted }
	if _, err := f.Fetch(t.Context(), ask); exit.CodeOf(err) != exit.Interrupted {
		t.Errorf("interrupted: %v", err)
	}
}

func TestSourceRenewsWhatCanBeRenewed(t *testing.T) {
	name := write(t, 0o600, "second")
	f := Fetcher{Environ: []string{"A=second"}}
	ask := func(b *settings.Branch) string {
		t.Helper()
		source := f.Source(b, remote.NewSecret("first"))
		var answers []string
		for range 2 {
			s, err := source(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, s.Reveal())
		}
		return strings.Join(answers, " ")
	}
	if got := ask(branch(settings.Token, settings.FromFile, name)); got != "first second" {
		t.Errorf("file: %s", got)
	}
	if got := ask(branch(settings.Token, settings.FromCommand, "echo third")); got != "first third" {
		t.Errorf("command: %s", got)
	}
	for _, from := range []settings.CredentialFrom{settings.FromEnv, settings.FromPrompt, settings.FromConfig, settings.FromNowhere} {
		if got := ask(branch(settings.Password, from, "A")); got != "first first" {
			t.Errorf("%s: %s", from, got)
		}
	}
	source := f.Source(branch(settings.Token, settings.FromFile, name+".gone"), remote.NewSecret("first"))
	_, _ = source(t.Context())
	if _, err := source(t.Context()); !errors.Is(err, remote.Auth) {
		t.Errorf("lost file: %v", err)
	}
}
