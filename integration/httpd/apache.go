package httpd

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"text/template"
)

// modules is where Debian keeps Apache's modules.
const modules = "/usr/lib/apache2/modules"

// realm of the login.
const realm = "dav"

// apacheConf is the whole configuration: nothing of the system's own is read.
var apacheConf = template.Must(template.New("conf").Parse(`ServerRoot {{.Home}}
ServerName localhost
Listen {{.Addr}}
PidFile {{.Home}}/pid
DefaultRuntimeDir {{.Home}}/run
ErrorLog {{.Home}}/error.log
LogLevel warn
{{range .Modules}}LoadModule {{.}}_module {{$.ModuleDir}}/mod_{{.}}.so
{{end}}{{if .Account}}User {{.Account}}
Group {{.Group}}
{{end}}StartServers 1
ThreadsPerChild 25
MaxRequestWorkers 50
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 15
TypesConfig {{.Home}}/types
DocumentRoot {{.Dir}}
DavLockDB {{.Home}}/lock/db
LimitXMLRequestBody 0
{{if .Cert}}SSLEngine on
SSLCertificateFile {{.Cert}}
SSLCertificateKeyFile {{.Key}}
Protocols {{if .HTTP2}}h2 {{end}}http/1.1
{{end}}<Directory "{{.Dir}}">
  Dav On
  AllowOverride None
{{if .Infinity}}  DavDepthInfinity On
{{end}}{{if .Auth}}  AuthType {{.Auth}}
  AuthName {{.Realm}}
  {{if eq .Auth "Digest"}}AuthDigestProvider file
  {{end}}AuthUserFile {{.Home}}/users
  Require valid-user
{{else}}  Require all granted
{{end}}</Directory>
`))

// apacheSetup fills the configuration.
type apacheSetup struct {
	Home, Dir, Addr, ModuleDir string
	Modules                    []string
	Account, Group             string // whom a server started by root becomes
	Auth, Realm                string // "", "Basic" or "Digest"
	Infinity                   bool
	Cert, Key                  string // files, "" for plain HTTP
	HTTP2                      bool
}

// Start starts Apache httpd with mod_dav over an empty directory. Digest,
// DepthInfinity and TLS are as Options say; everything else is Apache's default.
func Start(opts Options) (*Server, error) {
	bin, err := exec.LookPath("apache2")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/apache2"); err != nil {
			return nil, errMissing("apache2")
		}
	}
	return start(func(s *Server, addr string) (*exec.Cmd, error) {
		conf, err := s.configure(opts, addr)
		if err != nil {
			return nil, err
		}
		return exec.Command(bin, "-d", s.home, "-f", conf, "-DFOREGROUND"), nil
	})
}

// configure writes Apache's files and returns the main one.
func (s *Server) configure(opts Options, addr string) (string, error) {
	setup := apacheSetup{
		Home: s.home, Dir: s.Dir, Addr: addr, ModuleDir: modules, Realm: realm, Infinity: opts.DepthInfinity,
		Modules: []string{"mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "auth_digest", "mime", "dav", "dav_fs"},
	}
	if opts.User != "" {
		setup.Auth = "Basic"
		if opts.Digest {
			setup.Auth = "Digest"
		}
	}
	var err error
	if opts.TLS {
		setup.Modules = append(setup.Modules, "ssl", "http2")
		setup.HTTP2 = !opts.NoHTTP2
		if setup.Cert, setup.Key, err = makeCertificate(s.home); err != nil {
			return "", err
		}
		s.CAFile = setup.Cert
	}
	lock := filepath.Join(s.home, "lock")
	err = errors.Join(os.Mkdir(lock, 0o755), os.Mkdir(filepath.Join(s.home, "run"), 0o755),
		os.WriteFile(filepath.Join(s.home, "users"), []byte(credentials(opts)), 0o644),
		os.WriteFile(filepath.Join(s.home, "types"), []byte("text/plain txt\n"), 0o644))
	if err == nil && os.Geteuid() == 0 {
		err = setup.giveAway(lock)
	}
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := apacheConf.Execute(&text, setup); err != nil {
		return "", err
	}
	conf := filepath.Join(s.home, "httpd.conf")
	return conf, os.WriteFile(conf, text.Bytes(), 0o644)
}

// giveAway makes the account that Apache runs under the owner of what it writes to.
func (a *apacheSetup) giveAway(lock string) error {
	a.Account, a.Group = "www-data", "www-data"
	u, err := user.Lookup(a.Account)
	if err != nil {
		return err
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	return errors.Join(errUID, errGID, os.Chown(a.Dir, uid, gid), os.Chown(lock, uid, gid))
}

// credentials is the password file: SHA-1 for basic, as htdigest makes it for digest.
func credentials(opts Options) string {
	if opts.Digest {
		sum := md5.Sum([]byte(opts.User + ":" + realm + ":" + opts.Password))
		return fmt.Sprintf("%s:%s:%s\n", opts.User, realm, hex.EncodeToString(sum[:]))
	}
	sum := sha1.Sum([]byte(opts.Password))
	return fmt.Sprintf("%s:{SHA}%s\n", opts.User, base64.StdEncoding.EncodeToString(sum[:]))
}
