// Command rclone is rclone with nothing but what the benchmark needs of it: the mount,
// and the WebDAV and local backends. A full build would take minutes.
package main

import (
	_ "github.com/rclone/rclone/backend/local"
	_ "github.com/rclone/rclone/backend/webdav"
	"github.com/rclone/rclone/cmd"
	_ "github.com/rclone/rclone/cmd/mount"
	_ "github.com/rclone/rclone/cmd/obscure"
)

func main() { cmd.Main() }
