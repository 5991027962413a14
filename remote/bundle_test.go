package remote_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
)

// someBundles are bounds of a backend that can send bundles.
var someBundles = remote.Bundles{Files: 500, Bytes: 8 << 20, Size: 1 << 20}

// bundled returns n files of 64 KiB and their backend, behind a decorator.
func bundled(t *testing.T, n int, decorate func(remote.Backend) remote.Backend) (remote.Bundler, []remote.BundleFile) {
	t.Helper()
	b := decorate(memory.New(memory.Options{Bundles: someBundles}))
	var files []remote.BundleFile
	for i := range n {
		path := fmt.Sprintf("/f%d", i)
		put(t, b, path, string(bytes.Repeat([]byte{byte(i)}, 64<<10)))
		e, err := b.Stat(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, remote.BundleFile{Ref: remote.Ref{Path: path, Version: e.Version, Size: e.Size}, Want: true})
	}
	bundler, _ := remote.As[remote.Bundler](b)
	return bundler, files
}

// TestBundleIsThrottled: files that come in a bundle take the time of their bytes, and the
// watchdog does not mind.
func TestBundleIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rate := remote.NewRate(64 << 10)
		b, files := bundled(t, 100, func(b remote.Backend) remote.Backend {
			return remote.Throttle(remote.Watchdog(b, 500*time.Millisecond), nil, rate)
		})
		start, n := time.Now(), 0
		err := b.ReadBundle(t.Context(), "/", files, func(int, []byte) error { n++; return nil })
		if took := time.Since(start); err != nil || n != 100 || took < 95*time.Second || took > 105*time.Second {
			t.Errorf("%d files in %v: %v", n, took, err)
		}
	})
}

// TestBundleLendsItsSlot: the caller of a bundle may use the backend while it takes a file.
func TestBundleLendsItsSlot(t *testing.T) {
	b, files := bundled(t, 3, func(b remote.Backend) remote.Backend { return remote.Limit(b, 1) })
	n := 0
	err := b.ReadBundle(t.Context(), "/", files, func(i int, _ []byte) error {
		n++
		_, err := b.(remote.Backend).Stat(t.Context(), files[i].Ref.Path)
		return err
	})
	if err != nil || n != 3 {
		t.Errorf("%d files: %v", n, err)
	}
}

// TestBundleIsTriedOnce: what a bundle does not bring is read alone.
func TestBundleIsTriedOnce(t *testing.T) {
	tries := 0
	b, files := bundled(t, 1, func(b remote.Backend) remote.Backend {
		failing := remote.Intercept(b, func(ctx context.Context, c *remote.Call, next remote.Next) error {
			if c.Op == remote.OpReadBundle {
				tries++
				return c.Fail(remote.Unavailable, nil)
			}
			return next(ctx)
		})
		return remote.Retry(failing, fastRetry)
	})
	err := b.ReadBundle(t.Context(), "/", files, func(int, []byte) error { return nil })
	wantKind(t, err, remote.Unavailable)
	if tries != 1 {
		t.Errorf("%d tries", tries)
	}
}
