package httpd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

const lighttpdConf = `server.modules = ("mod_auth", "mod_authn_file", "mod_webdav")
server.document-root = "%[1]s"
server.bind = "%[2]s"
server.port = %[3]s
server.upload-dirs = ("%[4]s")
webdav.activate = "enable"
`

const lighttpdGuard = `auth.backend = "plain"
auth.backend.plain.userfile = "%s"
auth.require = ("" => ("method" => "basic", "realm" => "files", "require" => "valid-user"))
`

// StartLighttpd starts lighttpd over an empty directory, without a database for properties.
// By a MOVE to the name of a directory it moves into that, whatever Overwrite says.
func StartLighttpd(opts Options) (*Server, error) {
	bin, err := exec.LookPath("lighttpd")
	if err != nil {
		return nil, errMissing("lighttpd")
	}
	if opts.Digest || opts.DepthInfinity || opts.TLS {
		return nil, errors.New("httpd: lighttpd has no such option")
	}
	return start(func(s *Server, addr string) (*exec.Cmd, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		text := fmt.Sprintf(lighttpdConf, s.Dir, host, port, s.home)
		if opts.User != "" {
			file := filepath.Join(s.home, "users")
			if err := os.WriteFile(file, []byte(opts.User+":"+opts.Password+"\n"), 0o600); err != nil {
				return nil, err
			}
			text += fmt.Sprintf(lighttpdGuard, file)
		}
		conf := filepath.Join(s.home, "lighttpd.conf")
		return exec.Command(bin, "-D", "-f", conf), os.WriteFile(conf, []byte(text), 0o600)
	})
}
