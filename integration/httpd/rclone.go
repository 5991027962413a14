package httpd

import (
	"errors"
	"os/exec"
)

// StartRclone starts rclone serve webdav over an empty directory, with content
// hashes as ETags.
func StartRclone(opts Options) (*Server, error) {
	bin, err := exec.LookPath("rclone")
	if err != nil {
		return nil, errMissing("rclone")
	}
	if opts.Digest || opts.DepthInfinity || opts.TLS {
		return nil, errors.New("httpd: rclone has no such option")
	}
	return start(func(s *Server, addr string) (*exec.Cmd, error) {
		args := []string{"serve", "webdav", s.Dir, "--addr", addr, "--config", "/dev/null", "--etag-hash", "auto"}
		if opts.User != "" {
			args = append(args, "--user", opts.User, "--pass", opts.Password)
		}
		return exec.Command(bin, args...), nil
	})
}
