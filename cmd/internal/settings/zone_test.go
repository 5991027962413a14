package settings

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/remote/irods/wire"
)

// icommands makes a home directory as iCommands leave it and returns it with its
// variables.
func icommands(t *testing.T, environment string) (home string, environ []string) {
	t.Helper()
	home = t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".irods"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"irods_environment.json": environment, ".irodsA": "."} {
		if err := os.WriteFile(filepath.Join(home, ".irods", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return home, []string{"HOME=" + home}
}

const ofAlice = `{"irods_host": "data.example.org", "irods_port": 1300, "irods_user_name": "alice", "irods_zone_name": "tempZone",
"irods_home": "/tempZone/home/lab", "irods_authentication_scheme": "pam_password", "irods_client_server_policy": "CS_NEG_REQUIRE",
"irods_ssl_verify_server": "cert", "irods_ssl_ca_certificate_file": "ca.pem", "irods_ssl_ca_certificate_path": "/etc/ca.d",
"irods_encryption_algorithm": "AES-256-CBC", "irods_encryption_key_size": "64", "irods_encryption_salt_size": 16,
"irods_encryption_num_hash_rounds": 32, "irods_default_resource": "fast"}`

var standardEncryption = wire.Encryption{Algorithm: "AES-256-CBC", KeySize: 32, SaltSize: 8, Rounds: 16}

// zonePart returns what zones have of their own and a little more.
func zonePart(b Branch) Branch {
	return Branch{
		URL: b.URL, User: b.User, Zone: b.Zone, Auth: b.Auth, TLS: b.TLS, Verify: b.Verify, CAFile: b.CAFile, CADir: b.CADir,
		Encryption: b.Encryption, Resource: b.Resource, Trash: b.Trash, Checksums: b.Checksums, MaxConnections: b.MaxConnections, Credential: b.Credential,
	}
}

func TestZoneByURLAlone(t *testing.T) {
	c := resolve(t, Input{Branches: []string{"z=irods://alice@Data.Example.org/tempZone/home/alice/", "s=davs://h/p"}, Dir: "/"})
	want := Branch{
		URL: "irods://data.example.org:1247/tempZone/home/alice", User: "alice", Zone: "tempZone", Auth: "native", TLS: "request",
		Verify: "hostname", Encryption: standardEncryption, MaxConnections: 8, Credential: Credential{Kind: Password, From: FromPrompt},
	}
	if got := zonePart(c.Branches[0]); got != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	share := zonePart(c.Branches[1])
	if share != (Branch{URL: "davs://h/p", MaxConnections: 64}) {
		t.Errorf("the share got %+v", share)
	}
}

func TestZoneOptions(t *testing.T) {
	const dir = "/base"
	in := Input{Dir: dir, Branches: []string{"z=irods://alice%23home@h:1248/other/c", "y=irods://h/z/a%20%23%3Db", "s=davs://h/p"},
		Flags: flags(t, "max-connections=7", "max-connections=y=2", "irods-trash=z=true", "irods-checksums=z=true", "irods-resource=z=r", "irods-tls=require", "irods-tls=y=refuse",
			"irods-auth=z=pam", "irods-verify=none", "irods-ca-dir=z=ca", "irods-encryption=A:1:2:3", "user=y=bob#far", "irods-auth-file=y=pw", "password-env=z=V")}
	c := resolve(t, in)
	z := Branch{
		URL: "irods://h:1248/other/c", User: "alice", Zone: "home", Auth: "pam", TLS: "require", Verify: "none", CADir: dir + "/ca",
		Encryption: wire.Encryption{Algorithm: "A", KeySize: 1, SaltSize: 2, Rounds: 3}, Resource: "r", Trash: true, Checksums: true, MaxConnections: 7,
		Credential: Credential{Kind: Password, From: FromEnv, Arg: "V"},
	}
	y := Branch{
		URL: "irods://h:1247/z/a%20%23=b", User: "bob", Zone: "far", Auth: "native", TLS: "refuse", Verify: "none",
		Encryption: z.Encryption, MaxConnections: 2, Credential: Credential{Kind: Password, From: FromIRODS, Arg: dir + "/pw"},
	}
	if got := zonePart(c.Branches[0]); got != z {
		t.Errorf("%+v\nwant %+v", got, z)
	}
	if got := zonePart(c.Branches[1]); got != y {
		t.Errorf("%+v\nwant %+v", got, y)
	}
	if s := c.Branches[2]; s.MaxConnections != 7 || s.TLS != "" || s.Dialect != AutoDialect {
		t.Errorf("the share got %+v", s)
	}
}

func TestZoneFromEnvironment(t *testing.T) {
	home, environ := icommands(t, ofAlice)
	stored := Credential{Kind: Password, From: FromIRODS, Arg: home + "/.irods/.irodsA"}
	asked := Credential{Kind: Password, From: FromPrompt}
	full := Branch{
		URL: "irods://data.example.org:1300/tempZone/home/lab", User: "alice", Zone: "tempZone", Auth: "pam", TLS: "require", Verify: "cert",
		CAFile: "/base/ca.pem", CADir: "/etc/ca.d", Encryption: wire.Encryption{Algorithm: "AES-256-CBC", KeySize: 64, SaltSize: 16, Rounds: 32},
		Resource: "fast", MaxConnections: 8, Credential: stored,
	}
	change := func(f func(*Branch)) Branch {
		b := full
		f(&b)
		return b
	}
	elsewhere := func(b *Branch) {
		b.Auth, b.TLS, b.Verify, b.CAFile, b.CADir, b.Resource, b.Encryption, b.Credential = "native", "request", "hostname", "", "", "", standardEncryption, asked
	}
	cases := []struct {
		name, url string
		flags     []string
		env       []string
		want      Branch
	}{
		{"as it is", "irods:", nil, nil, full},
		{"collection", "irods:///tempZone/projects/x", nil, nil, change(func(b *Branch) { b.URL = "irods://data.example.org:1300/tempZone/projects/x" })},
		{"the same server", "irods://DATA.example.org:1300", nil, nil, full},
		{"the same user", "irods://alice@data.example.org:1300", nil, nil, full},
		{"federated", "irods://alice@data.example.org:1300/otherZone/c", nil, nil, change(func(b *Branch) { b.URL = "irods://data.example.org:1300/otherZone/c" })},
		{"variables", "irods:", nil, []string{"IRODS_HOST=h2", "IRODS_HOME=/z2/x", "IRODS_DEFAULT_RESOURCE=slow"},
			change(func(b *Branch) { b.URL, b.Resource = "irods://h2:1300/z2/x", "slow" })},
		{"options win", "irods:", []string{"irods-tls=refuse", "irods-resource=", "irods-auth=native", "password-file=p", "max-connections=2", "ca-file="}, nil,
			change(func(b *Branch) {
				b.TLS, b.Resource, b.Auth, b.MaxConnections, b.CAFile = "refuse", "", "native", 2, ""
				b.Credential = Credential{Kind: Password, From: FromFile, Arg: "/base/p"}
			})},
		{"another user", "irods://bob@data.example.org:1300/tempZone/c", nil, nil,
			change(func(b *Branch) {
				b.URL, b.User, b.Credential = "irods://data.example.org:1300/tempZone/c", "bob", asked
			})},
		{"another user by option", "irods:///tempZone/c", []string{"user=bob"}, nil,
			change(func(b *Branch) {
				b.URL, b.User, b.Credential = "irods://data.example.org:1300/tempZone/c", "bob", asked
			})},
		{"a namesake", "irods://alice%23otherZone@data.example.org:1300/tempZone/c", nil, nil,
			change(func(b *Branch) {
				b.URL, b.Zone, b.Credential = "irods://data.example.org:1300/tempZone/c", "otherZone", asked
			})},
		{"a namesake by option", "irods:///tempZone/c", []string{"irods-zone=otherZone", "user=x"}, nil,
			change(func(b *Branch) {
				b.URL, b.Zone, b.User, b.Credential = "irods://data.example.org:1300/tempZone/c", "otherZone", "x", asked
			})},
		{"another port", "irods://alice@data.example.org/tempZone/c", nil, nil,
			change(func(b *Branch) { elsewhere(b); b.URL = "irods://data.example.org:1247/tempZone/c" })},
		{"another host", "irods://alice@h/tempZone/c", nil, nil, change(func(b *Branch) { elsewhere(b); b.URL = "irods://h:1247/tempZone/c" })},
		{"anonymous", "irods://anonymous@h/tempZone/c", nil, nil, change(func(b *Branch) {
			elsewhere(b)
			b.URL, b.User, b.Credential = "irods://h:1247/tempZone/c", "anonymous", Credential{}
		})},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := Input{Branches: []string{"=" + c.url}, Environ: append(environ, c.env...), Flags: flags(t, c.flags...), Dir: "/base"}
			if got := zonePart(resolve(t, in).Branches[0]); got != c.want {
				t.Errorf("%+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestZoneOrigins(t *testing.T) {
	home, environ := icommands(t, ofAlice)
	file := home + "/.irods/irods_environment.json"
	c := resolve(t, Input{Branches: []string{"a=irods:"}, Environ: append(environ, "IRODS_DEFAULT_RESOURCE=slow", "MESHMOUNT_IRODS_VERIFY=hostname"), Dir: "/"})
	for option, want := range map[string]string{
		"user": "iRODS environment " + file, "irods-resource": "iRODS environment IRODS_DEFAULT_RESOURCE", "irods-trash": "default",
		"irods-verify": "environment MESHMOUNT_IRODS_VERIFY", "credential": "iRODS environment " + home + "/.irods/.irodsA",
	} {
		if got := c.OriginOf("a", option).String(); got != want {
			t.Errorf("%s is from %q, want %q", option, got, want)
		}
	}
	if len(c.Unused) > 0 {
		t.Errorf("unused %q", c.Unused)
	}
}

// TestPasswordOfAnotherKindWins lets everything else win over what iinit has stored.
func TestPasswordOfAnotherKindWins(t *testing.T) {
	_, environ := icommands(t, ofAlice)
	got := resolve(t, Input{Branches: []string{"a=irods:"}, Environ: append(environ, "MESHMOUNT_PASSWORD_A=x"), Dir: "/"}).Branches[0].Credential
	if got.From != FromEnv || got.Arg != "MESHMOUNT_PASSWORD_A" {
		t.Errorf("%+v", got)
	}
	path := config(t, 0o600, "[branch.a]\nurl='irods:'\npassword-command='x'\nirods-trash=true\n")
	b := resolve(t, Input{Flags: flags(t, "config="+path), Environ: environ, Dir: "/"}).Branches[0]
	if b.Credential.From != FromCommand || !b.Trash {
		t.Errorf("%+v", b)
	}
}

func TestRefusedZones(t *testing.T) {
	_, environ := icommands(t, ofAlice)
	_, broken := icommands(t, "{")
	_, kerberos := icommands(t, `{"irods_host": "h", "irods_user_name": "alice", "irods_authentication_scheme": "krb", "irods_port": "x"}`)
	cases := []struct {
		name, url string
		flags     []string
		env       []string
		code      exit.Code
		want      string
	}{
		{"no environment", "irods:", nil, nil, exit.BadURL, "the URL names no host, and there is no iRODS environment; write irods://USER@HOST"},
		{"no user", "irods://h/z/c", nil, environ, exit.BadURL, "a zone needs a user; write irods://USER@HOST"},
		{"no collection", "irods://alice@h", nil, environ, exit.BadURL, "the URL names no collection"},
		{"only a slash", "irods://alice@h/", nil, nil, exit.BadURL, "the URL names no collection"},
		{"password", "irods://alice:hunter2@h/z", nil, nil, exit.BadURL, "the URL holds a password; take it out"},
		{"hash", "irods://alice#z@h/z", nil, nil, exit.BadURL, "query or fragment"},
		{"space", "irods://alice@h/z/a b", nil, nil, exit.BadURL, "spaces, control characters"},
		{"newline", "irods://alice@h/z/a\nb", nil, nil, exit.BadURL, "spaces, control characters"},
		{"scheme", "irod://alice@h/z", nil, nil, exit.BadURL, `the scheme "irod" is not supported; use davs:// for a share, irods:// for a zone`},
		{"two users", "irods://alice@h/z", []string{"user=bob"}, nil, exit.BadURL, "give the user only once"},
		{"two zones", "irods://alice%23x@h/z", []string{"irods-zone=y"}, nil, exit.BadURL, "give the user's zone only once"},
		{"bad user", "irods://h/z", []string{"user=a#b#c"}, nil, exit.BadURL, "no user has"},
		{"broken environment", "irods://alice@h/z", nil, broken, exit.Config, "irods_environment.json is not JSON"},
		{"unusable environment", "irods:///z/c", nil, kerberos, exit.Config, `irods_authentication_scheme (`},
		{"all faults at once", "irods:///z/c", nil, kerberos, exit.Config, `irods_port (`},
		{"unusable, and meant", "irods://alice@h/z", nil, kerberos, exit.Config, `"krb" is not supported; native and pam_password are`},
		{"no token", "irods://alice@h/z", []string{"token-file=x"}, nil, exit.Usage, "token-file is for a share, and branch a (irods://h:1247/z) is a zone"},
		{"no token by variable", "irods://alice@h/z", nil, []string{"MESHMOUNT_TOKEN_A=x"}, exit.Config, "token-env is for a share"},
		{"no dialect", "irods://alice@h/z", []string{"dialect=a=nextcloud"}, nil, exit.Usage, "dialect is for a share"},
		{"no trash", "davs://h/p", []string{"irods-trash=a=true"}, nil, exit.Usage, "irods-trash is for a zone, and branch a (davs://h/p) is a share"},
		{"no iinit", "davs://me@h/p", []string{"irods-auth-file=x"}, nil, exit.Usage, "irods-auth-file is for a zone"},
		{"policy", "irods://alice@h/z", []string{"irods-tls=maybe"}, nil, exit.Usage, `"maybe" is none of request, require, refuse`},
		{"encryption", "irods://alice@h/z", []string{"irods-encryption=A:1:2"}, nil, exit.Usage, "is not of the form AES-256-CBC:32:8:16"},
		{"key size", "irods://alice@h/z", []string{"irods-encryption=A:0:2:3"}, nil, exit.Usage, "is not of the form"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := Resolve(Input{Branches: []string{"a=" + c.url}, Flags: flags(t, c.flags...), Environ: c.env, Dir: "/"})
			checkError(t, err, c.code, c.want)
			if strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
		})
	}
	// What is wrong about one server does not matter to another.
	resolve(t, Input{Branches: []string{"a=irods://alice@other/z"}, Environ: kerberos, Dir: "/"})
	resolve(t, Input{Branches: []string{"a=davs://other/z"}, Environ: broken, Dir: "/"})
}

// TestWrittenZoneReadsBack reads what was written with and without the environment.
func TestWrittenZoneReadsBack(t *testing.T) {
	home, environ := icommands(t, ofAlice)
	first := resolve(t, Input{Branches: []string{"z=irods:", "y=irods://bob%23far@h/z/c"}, Environ: environ, Flags: flags(t, "irods-trash=z=true"), Dir: "/"})
	var out bytes.Buffer
	if err := first.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`url = "irods://data.example.org:1300/tempZone/home/lab"`, `irods-auth-file = "` + home + `/.irods/.irodsA"`, `irods-zone = "far"`, "irods-trash = true"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "dialect") || strings.Contains(out.String(), "allow-plain-http") {
		t.Errorf("options of shares are in\n%s", out.String())
	}
	for _, env := range [][]string{environ, nil} {
		second := resolve(t, Input{Flags: flags(t, "config="+config(t, 0o600, out.String())), Environ: env, Dir: "/"})
		if !reflect.DeepEqual(first.Branches, second.Branches) {
			t.Errorf("read back:\n%+v\nwrote:\n%+v", second.Branches, first.Branches)
		}
	}
}
