package httpd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// nginxConf serves a directory as nginx does with the module that adds PROPFIND. The process
// has no children, and keeps the rights of who starts it.
const nginxConf = `load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/bodies;
	client_max_body_size 0;
	server {
		listen %[2]s;
		location / {
			root %[3]s;
			%[4]s
			dav_methods PUT DELETE MKCOL COPY MOVE;
			dav_ext_methods PROPFIND OPTIONS;
		}
	}
}
`

// StartNginx starts nginx over an empty directory. It keeps no properties, shows no entity
// tags in listings, leaves out names that begin with a dot there, and makes missing parents
// for a MOVE.
func StartNginx(opts Options) (*Server, error) {
	bin, err := exec.LookPath("nginx")
	if err != nil {
		return nil, errMissing("nginx")
	}
	if opts.Digest || opts.DepthInfinity || opts.TLS {
		return nil, errors.New("httpd: nginx has no such option")
	}
	return start(func(s *Server, addr string) (*exec.Cmd, error) {
		guard := ""
		if opts.User != "" {
			file := filepath.Join(s.home, "users")
			if err := os.WriteFile(file, []byte(opts.User+":{PLAIN}"+opts.Password+"\n"), 0o600); err != nil {
				return nil, err
			}
			guard = "auth_basic files;\n\t\t\tauth_basic_user_file " + file + ";"
		}
		conf := filepath.Join(s.home, "nginx.conf")
		text := fmt.Sprintf(nginxConf, s.home, addr, s.Dir, guard)
		return exec.Command(bin, "-e", "stderr", "-c", conf), os.WriteFile(conf, []byte(text), 0o600)
	})
}
