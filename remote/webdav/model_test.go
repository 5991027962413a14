package webdav_test

import (
	"flag"
	"strconv"
	"testing"

	"github.com/meshmount/meshmount/remote/remotetest"
)

// TestModel compares random operations with a map: on the embedded Nextcloud and the
// real Apache, or on all servers and more often.
func TestModel(t *testing.T) {
	fewerRuns(t, 30)
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

// fewerRuns sets rapid's number of runs for a test, unless the command line or a long
// run asks for more.
func fewerRuns(t *testing.T, n int) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	if f == nil {
		t.Fatal("rapid has no such flag any more")
	}
	before := f.Value.String()
	if long() || before != f.DefValue {
		return
	}
	if err := f.Value.Set(strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Value.Set(before) })
}
