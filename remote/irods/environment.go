package irods

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/meshmount/meshmount/remote/irods/wire"
)

// Keys of irods_environment.json that are used. Each is a variable, too, in capitals.
const (
	KeyHost       = "irods_host"
	KeyPort       = "irods_port"
	KeyUser       = "irods_user_name"
	KeyZone       = "irods_zone_name"
	KeyHome       = "irods_home"
	KeyCWD        = "irods_cwd"
	KeyScheme     = "irods_authentication_scheme"
	KeyAuthFile   = "irods_authentication_file"
	KeyPolicy     = "irods_client_server_policy"
	KeyVerify     = "irods_ssl_verify_server"
	KeyCAFile     = "irods_ssl_ca_certificate_file"
	KeyCADir      = "irods_ssl_ca_certificate_path"
	KeyResource   = "irods_default_resource"
	KeyAlgorithm  = "irods_encryption_algorithm"
	KeyKeySize    = "irods_encryption_key_size"
	KeySaltSize   = "irods_encryption_salt_size"
	KeyRounds     = "irods_encryption_num_hash_rounds"
	KeyHashScheme = "irods_default_hash_scheme"
)

// legacy are older names of variables that iCommands still honour.
var legacy = map[string]string{
	KeyVerify: "irodsSSLVerifyServer",
	KeyCAFile: "irodsSSLCACertificateFile",
	KeyCADir:  "irodsSSLCACertificatePath",
}

// environmentFile names another file than ~/.irods/irods_environment.json.
const environmentFile = "IRODS_ENVIRONMENT_FILE"

// Environment is what a user of iCommands has set up. Fields that are not set are
// empty, but for those that have a default.
type Environment struct {
	Host string
	Port int // DefaultPort by default
	User string
	Zone string // the user's
	// Collection is irods_home, or irods_cwd if there is none, or the user's home.
	Collection string
	Scheme     wire.Scheme
	Policy     wire.Policy
	// Verify is VerifyHostname by default, as the documentation has it. (iCommands 5.0
	// look at the name only if told to.)
	Verify     wire.Verify
	Encryption wire.Encryption
	CAFile     string
	CADir      string // of certificates, each in a file
	Resource   string
	// AuthFile holds the password as iinit has stored it; it may be missing.
	AuthFile string
	// HashScheme is how iCommands compute checksums. It is for people only.
	HashScheme string

	// origins tells where the value of a key came from.
	origins map[string]string
}

// Origin returns the file or variable that a key's value came from, "" if it is a
// default.
func (e *Environment) Origin(key string) string { return e.origins[key] }

// ReadEnvironment reads irods_environment.json (IRODS_ENVIRONMENT_FILE, or by default
// .irods/irods_environment.json below HOME) and the variables that override it. environ
// is of the form of os.Environ. Numbers may stand in the file as texts; unknown keys
// mean nothing. irods_client_server_negotiation means nothing either: as iCommands
// since 5.0 do, we always negotiate.
//
// A default file that does not exist is not an error: Host and User are empty unless
// variables set them. If values are unusable, all of them are reported at once, and the
// Environment is returned without them; it is nil if the file itself is unusable.
func ReadEnvironment(environ []string) (*Environment, error) {
	vars := variables(environ)
	r := environmentReader{values: map[string]string{}, origins: map[string]string{}}
	if err := r.readFile(vars); err != nil {
		return nil, err
	}
	for _, key := range keys() {
		if name, text := variable(vars, key); text != "" {
			r.values[key], r.origins[key] = text, name
		}
	}
	e := r.environment(vars["HOME"])
	return e, errors.Join(r.faults...)
}

func keys() []string {
	return []string{
		KeyHost, KeyPort, KeyUser, KeyZone, KeyHome, KeyCWD, KeyScheme, KeyAuthFile, KeyPolicy, KeyVerify, KeyCAFile,
		KeyCADir, KeyResource, KeyAlgorithm, KeyKeySize, KeySaltSize, KeyRounds, KeyHashScheme,
	}
}

func variables(environ []string) map[string]string {
	vars := map[string]string{}
	for _, entry := range environ {
		if name, text, ok := strings.Cut(entry, "="); ok {
			vars[name] = text
		}
	}
	return vars
}

// variable finds the variable for a key, in capitals or in the key's own letters.
func variable(vars map[string]string, key string) (name, text string) {
	for _, name := range []string{strings.ToUpper(key), key, legacy[key]} {
		if text := vars[name]; text != "" {
			return name, text
		}
	}
	return "", ""
}

// environmentReader collects values as texts and what is wrong with them.
type environmentReader struct {
	values  map[string]string
	origins map[string]string
	faults  []error
}

func (r *environmentReader) fault(key string, err error) {
	if err != nil {
		r.faults = append(r.faults, fmt.Errorf("%s (%s): %w", key, r.origins[key], err))
	}
}

// maxEnvironment is the greatest size of the file in bytes.
const maxEnvironment = 1 << 20

func (r *environmentReader) readFile(vars map[string]string) error {
	name, named := vars[environmentFile], true
	if name == "" {
		if vars["HOME"] == "" {
			return nil
		}
		name, named = filepath.Join(vars["HOME"], ".irods", "irods_environment.json"), false
	}
	text, err := readBounded(name, maxEnvironment)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return nil
	case err != nil:
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &all); err != nil {
		return fmt.Errorf("%s is not JSON: %w", name, err)
	}
	for _, key := range keys() {
		if raw, ok := all[key]; ok {
			r.origins[key] = name
			r.values[key], err = plainText(raw)
			r.fault(key, err)
		}
	}
	return nil
}

func readBounded(name string, most int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", name, most)
	}
	return text, err
}

// plainText returns a text or number as a text.
func plainText(raw json.RawMessage) (string, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err == nil {
		return text, nil
	}
	var number json.Number
	if err := json.Unmarshal(raw, &number); err == nil {
		return number.String(), nil
	}
	return "", errors.New("is neither a text nor a number")
}

// environment makes the typed form.
func (r *environmentReader) environment(home string) *Environment {
	v := r.values
	e := &Environment{
		Host: strings.ToLower(v[KeyHost]), Port: DefaultPort, User: v[KeyUser], Zone: v[KeyZone],
		CAFile: v[KeyCAFile], CADir: v[KeyCADir], Resource: v[KeyResource],
		AuthFile: v[KeyAuthFile], HashScheme: v[KeyHashScheme], origins: r.origins,
		Encryption: wire.Encryption{
			Algorithm: v[KeyAlgorithm], KeySize: r.number(KeyKeySize), SaltSize: r.number(KeySaltSize), Rounds: r.number(KeyRounds),
		},
	}
	var err error
	if v[KeyPort] != "" {
		port, err := parsePort(v[KeyPort])
		r.fault(KeyPort, err)
		e.Port = defaultTo(port, DefaultPort)
	}
	e.Scheme, err = ParseScheme(v[KeyScheme])
	r.fault(KeyScheme, err)
	e.Policy, err = parsePolicy(v[KeyPolicy])
	r.fault(KeyPolicy, err)
	e.Verify, err = ParseVerify(v[KeyVerify])
	r.fault(KeyVerify, err)
	r.collection(e)
	if e.AuthFile == "" && home != "" {
		e.AuthFile = filepath.Join(home, ".irods", ".irodsA")
	}
	return e
}

// number reads a whole number; 0 means that there is none.
func (r *environmentReader) number(key string) int {
	text := r.values[key]
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		r.fault(key, fmt.Errorf("%.20q is not a number", text))
	}
	return int(n)
}

// collection chooses where the user is at home.
func (r *environmentReader) collection(e *Environment) {
	for _, key := range []string{KeyHome, KeyCWD} {
		if text := strings.TrimRight(r.values[key], "/"); text != "" {
			e.Collection = path.Clean(text)
			r.fault(key, checkRoot(text))
			return
		}
	}
	if e.Zone != "" && e.User != "" {
		e.Collection = "/" + e.Zone + "/home/" + e.User
	}
}

// ParseScheme reads the name of a way to log in, in any case: native (also for the
// empty text), pam_password, or pam, its older name.
func ParseScheme(text string) (wire.Scheme, error) {
	switch strings.ToLower(text) {
	case "", "native":
		return wire.SchemeNative, nil
	case "pam", "pam_password":
		return wire.SchemePAM, nil
	}
	return 0, fmt.Errorf("the way to log in %.40q is not supported; native and pam_password are", text)
}

// ParseVerify reads how far the server's certificate is checked: hostname (also for
// the empty text), cert or none.
func ParseVerify(text string) (wire.Verify, error) {
	switch strings.ToLower(text) {
	case "", "hostname":
		return wire.VerifyHostname, nil
	case "cert":
		return wire.VerifyCert, nil
	case "none":
		return wire.VerifyNone, nil
	}
	return 0, fmt.Errorf("%.40q is none of hostname, cert, none", text)
}

// parsePolicy reads irods_client_server_policy.
func parsePolicy(text string) (wire.Policy, error) {
	policy, err := wire.ParsePolicy(text)
	if err != nil || policy == wire.PolicyNone {
		return 0, fmt.Errorf("%.40q is none of CS_NEG_DONT_CARE, CS_NEG_REQUIRE, CS_NEG_REFUSE", text)
	}
	return policy, nil
}
