package cli

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/integration/efss"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/archive/keep"
	"github.com/meshmount/meshmount/remote/remotetest"
	"github.com/meshmount/meshmount/remote/webdav"
)

// TestPackAndUnpack unpacks what a client has kept, and packs what is small enough.
func TestPackAndUnpack(t *testing.T) {
	s := site(t, efss.StartOptions{})
	u, _, err := webdav.ParseURL(address(s))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(context.Context) (remote.Secret, error) { return remote.NewSecret(password), nil }
	below, err := webdav.Dial(t.Context(), webdav.Options{URL: u, User: "me", Password: secret, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	k := keep.Wrap(below, keep.Options{})
	defer func() { _ = k.Close() }()
	content := remotetest.Bytes(bytes.Repeat([]byte("x"), 5000))
	got, err := k.PutBatch(t.Context(), []remote.BatchItem{{Path: "/a", Source: content}, {Path: "/b", Source: remotetest.Bytes(nil)}})
	if err != nil || got[0].Err != nil || got[1].Err != nil {
		t.Fatal(got, err)
	}
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	r := w.run("unpack", address(s))
	w.succeeds(r)
	if !strings.Contains(r.out, ": 2 files unpacked, 1 archives, 5000 bytes\n") {
		t.Errorf("unpack says %q", r.out)
	}
	for _, path := range []string{"/a", "/b"} {
		if _, err := below.Stat(t.Context(), path); err != nil {
			t.Error(err)
		}
	}
	await(t, func() error { // until their versions are old enough to be proof
		if r = w.run("pack", "--batch-file-size=4KiB", "="+address(s)); r.code != exit.OK {
			return errors.New(r.errors)
		}
		return nil
	})
	// One file is too large, and the other would be alone.
	if !strings.Contains(r.out, ": 0 files packed, 0 archives, 0 bytes\n") {
		t.Errorf("pack says %q", r.out)
	}
	w.clean()
}

func TestPackErrors(t *testing.T) {
	w := newWorld(t, "MESHMOUNT_PASSWORD=hunter2")
	for _, command := range []string{"pack", "unpack"} {
		w.fails(w.run(command), exit.Usage, "there is nothing to "+command+"; write a URL, or use --config")
		refusing := answering(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			rw.WriteHeader(http.StatusUnauthorized)
		})
		w.fails(w.run(command, refusing+"/dav/"), exit.AuthFailed, "the server refused the password of me")
	}
	w.clean()
}
