package settings

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshmount/meshmount/cmd/internal/exit"
)

// config writes a configuration file and returns its name.
func config(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mesh.toml")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// flags turns "name=value" into given flags.
func flags(t *testing.T, list ...string) []Given {
	t.Helper()
	var given []Given
	for _, f := range list {
		name, text, _ := strings.Cut(f, "=")
		o, ok := Lookup(name)
		if !ok {
			t.Fatalf("no option %s", name)
		}
		given = append(given, Given{Option: o, Text: text, Where: "--" + name})
	}
	return given
}

func resolve(t *testing.T, in Input) *Config {
	t.Helper()
	c, err := Resolve(in)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const twoBranches = `attr-ttl = "7s"
umask = "077"
max-connections = 3

[branch.home]
url = "davs://alice@cloud.example.org/remote.php/dav/files/alice/"
attr-ttl = 9
password-file = "home.pw"

[branch."lexis/project1"]
url = "dav://127.0.0.1:8080/p1"
read-only = true
`

func TestPrecedence(t *testing.T) {
	path := config(t, 0o644, twoBranches)
	cases := []struct {
		name          string
		flags         []string
		env           []string
		home, project time.Duration
		where         string // origin of home's value
	}{
		{"file", nil, nil, 9 * time.Second, 7 * time.Second, "config " + path + ":7"},
		{"environment", nil, []string{"MESHMOUNT_ATTR_TTL=1m"}, time.Minute, time.Minute, "environment MESHMOUNT_ATTR_TTL"},
		{"flag", []string{"attr-ttl=2s"}, []string{"MESHMOUNT_ATTR_TTL=1m"}, 2 * time.Second, 2 * time.Second, "command line --attr-ttl"},
		{"last flag", []string{"attr-ttl=2s", "attr-ttl=0"}, nil, 0, 0, "command line --attr-ttl"},
		{"flag for one", []string{"attr-ttl=home=4s", "attr-ttl=2s"}, nil, 4 * time.Second, 2 * time.Second, "command line --attr-ttl"},
		{"flag for the other", []string{"attr-ttl=lexis/project1=4s"}, nil, 9 * time.Second, 4 * time.Second, "config " + path + ":7"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := resolve(t, Input{Flags: flags(t, append(c.flags, "config="+path)...), Environ: c.env, Dir: "/"})
			if got.Branches[0].AttrTTL != c.home || got.Branches[1].AttrTTL != c.project {
				t.Errorf("home %v, project %v", got.Branches[0].AttrTTL, got.Branches[1].AttrTTL)
			}
			if where := got.OriginOf("home", "attr-ttl").String(); where != c.where {
				t.Errorf("origin %q, want %q", where, c.where)
			}
		})
	}
}

func TestFileIsReadWhole(t *testing.T) {
	path := config(t, 0o644, twoBranches)
	c := resolve(t, Input{Environ: []string{"MESHMOUNT_CONFIG=" + path, "MESHMOUNT_WRONG=1"}, Branches: []string{"x=https://x.example.org/dav"}, Dir: "/"})
	home, project, x := c.Branches[0], c.Branches[1], c.Branches[2]
	if home.User != "alice" || home.URL != "davs://cloud.example.org/remote.php/dav/files/alice" {
		t.Errorf("user %q, URL %q", home.User, home.URL)
	}
	if want := (Credential{Kind: Password, From: FromFile, Arg: filepath.Join(filepath.Dir(path), "home.pw")}); home.Credential != want {
		t.Errorf("credential %+v, want %+v", home.Credential, want)
	}
	if !project.ReadOnly || home.ReadOnly || project.MaxConnections != 3 || project.Name != "lexis/project1" {
		t.Errorf("%+v", project)
	}
	if x.Credential != (Credential{}) || x.User != "" || c.OriginOf("x", "url").String() != "command line argument" {
		t.Errorf("%+v from %v", x, c.OriginOf("x", "url"))
	}
	if c.Umask != 0o077 || c.Origins["umask"].String() != "config "+path+":2" {
		t.Errorf("umask %o from %v", c.Umask, c.Origins["umask"])
	}
	if len(c.Unused) != 1 || c.Unused[0] != "MESHMOUNT_WRONG" {
		t.Errorf("unused %q", c.Unused)
	}
}

func TestRefusedFiles(t *testing.T) {
	const u = "url = 'davs://h/p'\n"
	cases := []struct {
		name, text string
		mode       os.FileMode
		code       exit.Code
		want       string
	}{
		{"syntax", "umask = \n", 0o644, exit.Config, ":1: "},
		{"unknown key", "\numask = '022'\nattr_tll = 3\n", 0o644, exit.Config, `:3: unknown key "attr_tll"; did you mean attr-ttl?`},
		{"underscore", "attr_ttl = 3\n", 0o644, exit.Config, `:1: unknown key "attr_ttl"; did you mean attr-ttl?`},
		{"flag only", "foreground = true\n", 0o644, exit.Config, `unknown key "foreground"`},
		{"unknown key in branch", "[branch.a]\n" + u + "\nspeed = 3\n", 0o644, exit.Config, `:4: unknown key "speed"`},
		{"whole in branch", "[branch.a]\n" + u + "umask = '022'\n", 0o644, exit.Config, ":3: umask is not an option of a single branch"},
		{"number as text", "max-connections = '3'\n", 0o644, exit.Config, ":1: max-connections: write a whole number"},
		{"octal as number", "umask = 22\n", 0o644, exit.Config, ":1: umask: write the value in quotes"},
		{"bad duration", "\nattr-ttl = 'soon'\n[branch.a]\n" + u, 0o644, exit.Config, `:2: attr-ttl: "soon" is not a duration`},
		{"negative", "attr-ttl = -1\n", 0o644, exit.Config, `:1: attr-ttl: "-1" is not a duration`},
		{"float", "attr-ttl = 1.5\n", 0o644, exit.Config, ":1: attr-ttl: write a duration"},
		{"choice", "log-level = 'loud'\n", 0o644, exit.Config, `:1: log-level: "loud" is none of debug, info, warn, error`},
		{"no url", "[branch.a]\nread-only = true\n", 0o644, exit.Config, `:1: branch "a" has no url`},
		{"url a number", "[branch.a]\nurl = 3\n", 0o644, exit.Config, ":2: url is not a text"},
		{"dots", "[branch.'a/../b']\n" + u, 0o644, exit.Config, `:1: branch "a/../b": ".." is not allowed`},
		{"nested table", "[branch.a]\n" + u + "[branch.a.b]\n" + u, 0o644, exit.Config, `unknown table "b" in a branch; write [branch."a/b"]`},
		{"branch no table", "branch = 3\n", 0o644, exit.Config, ":1: branch is not a table"},
		{"twice", "[branch.a]\n" + u + "[branch.a]\n" + u, 0o644, exit.Config, ":3: table a already exists"},
		{"public password", "[branch.a]\n" + u + "password = 'x'\n", 0o640, exit.SecretUnusable, "holds a password (line 3) and can be read or written by others (mode 0640); run: chmod 600"},
		{"public command", "token-command = 'x'\n[branch.a]\n" + u, 0o664, exit.Config, "holds a command (line 1) and can be changed by others"},
		{"two credentials", "[branch.a]\nurl = 'davs://me@h/p'\npassword-file = 'x'\ntoken-file = 'y'\n", 0o600, exit.Config, "both password-file"},
		{"ambiguous credential", "password-file='x'\n[branch.a]\n" + u + "[branch.b]\n" + u, 0o600, exit.Config, "there are several branches and password-file is for one; move it into a table"},
		{"password in the URL", "[branch.a]\nurl = 'davs://me:hunter2@h/p'\n", 0o600, exit.BadURL, "the URL holds a password; take it out"},
		{"plain", "[branch.a]\nurl = 'dav://h/p'\n", 0o600, exit.BadURL, "plain HTTP to another host is refused; use davs://"},
		{"two users", "[branch.a]\nurl = 'davs://me@h/p'\nuser = 'you'\n", 0o600, exit.BadURL, "user me in the URL, but you by config"},
		{"password of nobody", "[branch.a]\n" + u + "password-file = 'x'\n", 0o600, exit.SecretMissing, "has a password but no user; write davs://USER@HOST"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := config(t, c.mode, c.text)
			_, err := Resolve(Input{Flags: flags(t, "config="+path), Dir: "/"})
			checkError(t, err, c.code, c.want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("the error shows the password")
			}
		})
	}
}

func checkError(t *testing.T, err error, code exit.Code, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	if !strings.Contains(err.Error(), want) || exit.CodeOf(err) != code {
		t.Errorf("code %d: %v\nwant %d: %s", exit.CodeOf(err), err, code, want)
	}
}

func TestUnreadableFile(t *testing.T) {
	_, err := Resolve(Input{Flags: flags(t, "config=missing.toml"), Dir: t.TempDir()})
	checkError(t, err, exit.Config, "missing.toml: no such file or directory; name a readable TOML file")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("cause lost: %v", err)
	}
	_, err = Resolve(Input{Flags: flags(t, "config=."), Dir: t.TempDir()})
	checkError(t, err, exit.Config, "not a regular file")
	big := config(t, 0o600, strings.Repeat("#", maxFile+1))
	_, err = Resolve(Input{Flags: flags(t, "config="+big), Dir: "/"})
	checkError(t, err, exit.Config, "larger than")
}

func TestRefusedBranches(t *testing.T) {
	cases := []struct{ arg, want string }{
		{"davs://h/p", "has no name; write NAME=URL"},
		{"davs://me:hunter2@h/p?a=b", "has no name; write NAME=URL"},
		{"nothing", "has no name"},
		{"a=", "has no URL"},
		{"/a=davs://h/p", "an element of the name is empty"},
		{"a//b=davs://h/p", "an element of the name is empty"},
		{"a/=davs://h/p", "an element of the name is empty"},
		{"..=davs://h/p", `".." is not allowed`},
		{"a/./b=davs://h/p", `"." is not allowed`},
		{"a\nb=davs://h/p", "control characters"},
		{strings.Repeat("x", 256) + "=davs://h/p", "longer than 255"},
		{strings.Repeat("x/", 600) + "y=davs://h/p", "longer than 1024"},
		{"a=ftp://h/p", `the scheme "ftp" is not supported; use davs://`},
		{"a=h/p", "the URL has no scheme; begin with davs://"},
		{"a=davs:///p", "the URL names no host"},
		{"a=davs://h:x/p", "cannot read the URL"},
		{"a=davs://h/%zz", "not followed by two hex digits"},
		{"a=davs://me:hunter2@h/%zz", "cannot read the URL"},
		{"a=davs://me:hunter2@h/p", "the URL holds a password; take it out"},
		{"a=davs://me:hunter2/@h/p", "cannot read the URL"},
		{"a=davs://h/p?q", "query or fragment"},
		{"a=davs://h/p#f", "query or fragment"},
		{"a=davs://h/a/../b", "holds . or .."},
		{"a=davs://h/a b", "spaces"},
		{"a=davs://u%3Ahunter2@h/", "the user name in the URL holds a colon"},
		{"a=davs://u\xff@h/", "broken UTF-8"},
		{"a=http://192.0.2.1/", "plain HTTP"},
	}
	for _, c := range cases {
		_, err := Resolve(Input{Branches: []string{c.arg}, Dir: "/"})
		checkError(t, err, exit.BadURL, c.want)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: the error shows the password: %v", c.arg, err)
		}
	}
	_, err := Resolve(Input{Branches: []string{"a=davs://h/p", "a=davs://h/q"}, Dir: "/"})
	checkError(t, err, exit.BadURL, `branch "a" is given twice`)
}

func TestNestedBranchesAreFine(t *testing.T) {
	c := resolve(t, Input{Branches: []string{"=davs://h/p", "a=davs://h/q", "a/b=dav://[::1]:80/r", "c=http://localhost/"}, Dir: "/"})
	if len(c.Branches) != 4 || c.Branches[0].Name != "" || c.Branches[2].Name != "a/b" {
		t.Errorf("%+v", c.Branches)
	}
	c = resolve(t, Input{Branches: []string{"a=http://192.0.2.1/"}, Flags: flags(t, "allow-plain-http=true"), Dir: "/"})
	if !c.Branches[0].AllowPlainHTTP {
		t.Error("plain HTTP not allowed")
	}
}

func TestBadFlagsAndVariables(t *testing.T) {
	one := []string{"a=davs://me@h/p"}
	two := append(one, "file=davs://me@h/q")
	twins := []string{"a-b=davs://me@h/p", "a.b=davs://me@h/q"}
	cases := []struct {
		name     string
		branches []string
		flags    []string
		env      []string
		code     exit.Code
		want     string
	}{
		{"flag", one, []string{"umask=9"}, nil, exit.Usage, `command line --umask: umask: "9" is not an octal`},
		{"variable", one, nil, []string{"MESHMOUNT_UMASK=9"}, exit.Config, `environment MESHMOUNT_UMASK: umask: "9"`},
		{"overridden variable", one, []string{"umask=0"}, []string{"MESHMOUNT_UMASK=9"}, exit.Config, `"9"`},
		{"zero connections", one, []string{"max-connections=0"}, nil, exit.Usage, "at least 1"},
		{"unknown user", one, []string{"uid=nobody-has-this-name"}, nil, exit.Usage, "neither a number nor a name"},
		{"nameless credential", two, []string{"password-file=x"}, nil, exit.Usage, "write --password-file NAME=FILE"},
		{"empty credential", one, []string{"password-file="}, nil, exit.Usage, "the value is empty"},
		{"two credentials", one, []string{"password-file=x", "password-command=y"}, nil, exit.Usage, "give only one"},
		{"variable is option or secret", two, nil, []string{"MESHMOUNT_PASSWORD_FILE=hunter2"}, exit.Config, "could be the option password-file or the password of branch file"},
		{"variable fits two", twins, nil, []string{"MESHMOUNT_TOKEN_A_B=hunter2"}, exit.Config, "fits both branch"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Resolve(Input{Branches: c.branches, Flags: flags(t, c.flags...), Environ: c.env, Dir: "/"})
			checkError(t, err, c.code, c.want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestCredentialPrecedence(t *testing.T) {
	path := config(t, 0o600, "[branch.a]\nurl='davs://me@h/p'\npassword='hunter2'\n[branch.b]\nurl='davs://h/p'\ntoken-command='x'\n[branch.'']\nurl='davs://me@h/p'\n")
	in := Input{Flags: flags(t, "config="+path), Dir: "/work"}
	check := func(branch int, kind CredentialKind, from CredentialFrom, arg string) {
		t.Helper()
		got := resolve(t, in).Branches[branch].Credential
		if got.Kind != kind || got.From != from || got.Arg != arg {
			t.Errorf("%+v, want %s from %s %q", got, kind, from, arg)
		}
	}
	check(0, Password, FromConfig, "")
	check(1, Token, FromCommand, "x")
	check(2, Password, FromPrompt, "")
	if literal := resolve(t, in).Branches[0].Credential.Literal(); literal.Reveal() != "hunter2" {
		t.Error("literal password lost")
	}
	in.Environ = []string{"MESHMOUNT_PASSWORD_A=1", "MESHMOUNT_PASSWORD=2", "MESHMOUNT_TOKEN_B=3"}
	check(0, Password, FromEnv, "MESHMOUNT_PASSWORD_A")
	check(1, Token, FromEnv, "MESHMOUNT_TOKEN_B")
	check(2, Password, FromEnv, "MESHMOUNT_PASSWORD")
	in.Flags = append(in.Flags, flags(t, "token-file=a=tok", "password-env==ROOTPW")...)
	check(0, Token, FromFile, "/work/tok")
	check(2, Password, FromEnv, "ROOTPW")
	want := "MESHMOUNT_PASSWORD MESHMOUNT_PASSWORD_A MESHMOUNT_TOKEN_B ROOTPW"
	if got := strings.Join(resolve(t, in).SecretVars, " "); got != want {
		t.Errorf("secret variables %q, want %q", got, want)
	}
}
