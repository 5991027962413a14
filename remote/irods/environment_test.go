package irods

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// userHome makes a home directory with an iRODS environment and returns its variables.
func userHome(t *testing.T, text string) (home string, environ []string) {
	t.Helper()
	home = t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".irods"), 0o700); err != nil {
		t.Fatal(err)
	}
	if text != "" {
		if err := os.WriteFile(filepath.Join(home, ".irods", "irods_environment.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return home, []string{"HOME=" + home, "PATH=/bin"}
}

func read(t *testing.T, environ ...string) *Environment {
	t.Helper()
	e, err := ReadEnvironment(environ)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const complete = `{
  "irods_host": "Data.Example.org", "irods_port": "1300", "irods_user_name": "alice", "irods_zone_name": "tempZone",
  "irods_home": "/tempZone/home/alice/", "irods_cwd": "/tempZone/trash",
  "irods_authentication_scheme": "PAM", "irods_client_server_negotiation": "request_server_negotiation",
  "irods_client_server_policy": "CS_NEG_REQUIRE", "irods_ssl_verify_server": "cert",
  "irods_ssl_ca_certificate_file": "/etc/irods/ca.pem", "irods_ssl_ca_certificate_path": "/etc/irods/ca.d",
  "irods_encryption_algorithm": "AES-256-CBC", "irods_encryption_key_size": 64, "irods_encryption_salt_size": "16",
  "irods_encryption_num_hash_rounds": 32, "irods_default_resource": "fast", "irods_default_hash_scheme": "SHA256",
  "irods_authentication_file": "/run/irodsA", "irods_log_level": 5, "schema_name": {"unknown": [1, null]}
}`

func TestEnvironmentIsReadWhole(t *testing.T) {
	_, environ := userHome(t, "\ufeff"+complete)
	got := read(t, environ...)
	want := Environment{
		Host: "data.example.org", Port: 1300, User: "alice", Zone: "tempZone", Collection: "/tempZone/home/alice",
		Scheme: wire.SchemePAM, Policy: wire.PolicyRequire, Verify: wire.VerifyCert,
		Encryption: wire.Encryption{Algorithm: "AES-256-CBC", KeySize: 64, SaltSize: 16, Rounds: 32},
		CAFile:     "/etc/irods/ca.pem", CADir: "/etc/irods/ca.d", Resource: "fast", HashScheme: "SHA256", AuthFile: "/run/irodsA",
	}
	if !equal(*got, want) {
		t.Errorf("%+v\nwant %+v", *got, want)
	}
}

// equal compares all but the origins.
func equal(a, b Environment) bool {
	a.origins, b.origins = nil, nil
	return reflect.DeepEqual(a, b)
}

func TestEnvironmentDefaults(t *testing.T) {
	home, environ := userHome(t, `{"irods_host": "h", "irods_user_name": "alice", "irods_zone_name": "z"}`)
	auth := filepath.Join(home, ".irods", ".irodsA")
	want := Environment{Host: "h", Port: 1247, User: "alice", Zone: "z", Collection: "/z/home/alice", AuthFile: auth}
	if got := read(t, environ...); !equal(*got, want) {
		t.Errorf("%+v", *got)
	}
	_, environ = userHome(t, `{"irods_cwd": "//z//work/"}`)
	if got := read(t, environ...); got.Collection != "/z/work" {
		t.Errorf("collection %q", got.Collection)
	}
	home, environ = userHome(t, "")
	if got := read(t, environ...); !equal(*got, Environment{Port: 1247, AuthFile: filepath.Join(home, ".irods", ".irodsA")}) {
		t.Errorf("no file: %+v", *got)
	}
	if got := read(t); !equal(*got, Environment{Port: 1247}) {
		t.Errorf("nothing at all: %+v", *got)
	}
}

func TestVariablesOverride(t *testing.T) {
	home, environ := userHome(t, complete)
	file := filepath.Join(home, ".irods", "irods_environment.json")
	got := read(t, append(environ, "IRODS_HOST=other", "IRODS_PORT=1247", "IRODS_USER_NAME=bob", "irods_zone_name=z2",
		"IRODS_HOME=/z2/home/bob", "IRODS_SSL_VERIFY_SERVER=none", "irodsSSLVerifyServer=hostname", "irodsSSLCACertificateFile=/legacy",
		"IRODS_AUTHENTICATION_SCHEME=native", "IRODS_DEFAULT_RESOURCE=", "IRODS_UNKNOWN=1")...)
	if got.Host != "other" || got.Port != 1247 || got.User != "bob" || got.Zone != "z2" || got.Collection != "/z2/home/bob" ||
		got.Verify != wire.VerifyNone || got.CAFile != "/legacy" || got.Scheme != wire.SchemeNative || got.Resource != "fast" {
		t.Errorf("%+v", *got)
	}
	for key, want := range map[string]string{
		KeyHost: "IRODS_HOST", KeyZone: "irods_zone_name", KeyCAFile: "irodsSSLCACertificateFile", KeyResource: file, "irods_log_level": "",
	} {
		if origin := got.Origin(key); origin != want {
			t.Errorf("%s is from %q, want %q", key, origin, want)
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "env.json")
	if err := os.WriteFile(elsewhere, []byte(`{"irods_host": "third"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := read(t, append(environ, "IRODS_ENVIRONMENT_FILE="+elsewhere)...); got.Host != "third" || got.User != "" {
		t.Errorf("%+v", *got)
	}
}

func TestSchemes(t *testing.T) {
	for text, want := range map[string]wire.Scheme{
		"": wire.SchemeNative, "native": wire.SchemeNative, "Native": wire.SchemeNative,
		"pam": wire.SchemePAM, "PAM": wire.SchemePAM, "pam_password": wire.SchemePAM, "PAM_Password": wire.SchemePAM,
	} {
		if got, err := ParseScheme(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestRefusedEnvironments(t *testing.T) {
	for text, want := range map[string]string{
		`{"irods_host": "h",}`:                       "is not JSON",
		`[]`:                                         "is not JSON",
		`{"irods_port": "x"}`:                        `irods_port (`,
		`{"irods_port": 0}`:                          "is no port",
		`{"irods_port": 12.5}`:                       "is no port",
		`{"irods_host": ["h"]}`:                      "irods_host (",
		`{"irods_user_name": true}`:                  "neither a text nor a number",
		`{"irods_authentication_scheme": "gsi"}`:     `"gsi" is not supported; native and pam_password are`,
		`{"irods_client_server_policy": "require"}`:  "CS_NEG_REQUIRE",
		`{"irods_client_server_policy": "none"}`:     "CS_NEG_REQUIRE",
		`{"irods_ssl_verify_server": "maybe"}`:       "none of hostname, cert, none",
		`{"irods_home": "home/alice"}`:               "irods_home (",
		`{"irods_cwd": "/z/../y"}`:                   "holds . or ..",
		`{"irods_encryption_key_size": "many"}`:      "irods_encryption_key_size (",
		`{"x": "` + long("y", maxEnvironment) + `"}`: "larger than",
	} {
		_, environ := userHome(t, text)
		if e, err := ReadEnvironment(environ); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %+v, %v; want %q", text, e, err, want)
		}
	}
	_, environ := userHome(t, `{"irods_host": "h", "irods_port": "x", "irods_ssl_verify_server": "y"}`)
	e, err := ReadEnvironment(environ)
	if err == nil || !strings.Contains(err.Error(), KeyPort) || !strings.Contains(err.Error(), KeyVerify) || e == nil || e.Host != "h" {
		t.Errorf("not all faults at once: %+v, %v", e, err)
	}
	if _, err := ReadEnvironment(append(environ, "IRODS_ENVIRONMENT_FILE=/nonexistent/env.json")); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is named and missing: %v", err)
	}
	if _, err := ReadEnvironment([]string{"IRODS_ENVIRONMENT_FILE=" + t.TempDir()}); err == nil {
		t.Error("a directory is read")
	}
}
