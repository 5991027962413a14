package webdav_test

import (
	"testing"

	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestModel compares random operations with a map: on the embedded Nextcloud and the
// real Apache, or on all servers.
func TestModel(t *testing.T) {
	for _, s := range servers() {
		if s.name != "efss-nextcloud" && s.name != "httpd" && !long() {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			remotetest.RunModel(t, func(t *testing.T) remotetest.Target {
				return remotetest.Target{Backend: able(dial(t, options(t, s.start(t)))), MayRefuse: mayRefuse(s.dialect)}
			})
		})
	}
}
