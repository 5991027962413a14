package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"text/template"
	"time"
)

// apacheConf is the configuration of a mod_dav server that takes many connections at
// once. Nothing of the system's own is read; what is not here is Apache's default.
var apacheConf = template.Must(template.New("conf").Parse(`ServerRoot {{.Home}}
ServerName localhost
Listen {{.Addr}}
PidFile {{.Home}}/pid
DefaultRuntimeDir {{.Home}}/run
ErrorLog {{.Home}}/error.log
{{range .Modules}}LoadModule {{.}}_module /usr/lib/apache2/modules/mod_{{.}}.so
{{end}}{{if .Account}}User {{.Account}}
Group {{.Account}}
{{end}}StartServers 2
ThreadsPerChild 64
MaxRequestWorkers 256
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 15
TypesConfig {{.Home}}/types
DocumentRoot {{.Dir}}
DavLockDB {{.Home}}/lock/db
<Directory "{{.Dir}}">
  Dav On
  AllowOverride None
  Require all granted
</Directory>
`))

// apache is a running Apache.
type apache struct {
	*child
	dir  string // whose files are served
	addr string
}

// startApache serves home/files.
func startApache(ctx context.Context, home string) (*apache, error) {
	bin, err := exec.LookPath("apache2")
	if err != nil {
		bin = "/usr/sbin/apache2"
	}
	a := &apache{dir: filepath.Join(home, "files")}
	if a.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	conf, err := a.configure(home)
	if err != nil {
		return nil, err
	}
	log := filepath.Join(home, "log")
	if a.child, err = launch(exec.Command(bin, "-d", home, "-f", conf, "-DFOREGROUND"), log); err != nil {
		return nil, fmt.Errorf("%w (is apache2-bin installed? run `make deps-bench`)", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = a.until(ctx, func() (bool, error) {
		conn, err := net.Dial("tcp", a.addr)
		if err != nil {
			return false, nil
		}
		return true, conn.Close()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("apache: %w: %s", err, tailOf(log)), a.stop())
	}
	return a, nil
}

// configure makes the directories and the configuration.
func (a *apache) configure(home string) (string, error) {
	setup := struct {
		Home, Dir, Addr, Account string
		Modules                  []string
	}{home, a.dir, a.addr, "", []string{"mpm_event", "authz_core", "mime", "dav", "dav_fs"}}
	lock := filepath.Join(home, "lock")
	err := errors.Join(os.MkdirAll(a.dir, 0o755), os.Mkdir(lock, 0o755), os.Mkdir(filepath.Join(home, "run"), 0o755),
		os.WriteFile(filepath.Join(home, "types"), nil, 0o644))
	if err == nil && os.Geteuid() == 0 {
		setup.Account = "www-data" // Apache gives up root's rights
		err = errors.Join(giveTo(setup.Account, a.dir), giveTo(setup.Account, lock))
	}
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := apacheConf.Execute(&text, setup); err != nil {
		return "", err
	}
	conf := filepath.Join(home, "httpd.conf")
	return conf, os.WriteFile(conf, text.Bytes(), 0o644)
}

// giveTo makes an account the owner of a file.
func giveTo(account, path string) error {
	u, err := user.Lookup(account)
	if err != nil {
		return err
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	return errors.Join(errUID, errGID, os.Chown(path, uid, gid))
}

// lendTo lets an account's group write into a directory that stays ours.
func lendTo(group, path string) error {
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	return errors.Join(err, os.Chown(path, -1, gid), os.Chmod(path, 0o775))
}

// freeAddr returns a loopback address that nobody listens on at the moment.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}
