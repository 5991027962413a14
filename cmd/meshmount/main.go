// Meshmount mounts the WebDAV shares of several sites side by side in one tree. See
// "meshmount help".
package main

import (
	"context"
	"os"

	"github.com/meshmount/meshmount/cmd/internal/cli"
)

// version is set by the build.
var version string

func main() {
	os.Exit(int(cli.FromOS(version).Main(context.Background())))
}
