package cache

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// putIn is a way to bring content into a file that there is.
type putIn func(t *testing.T, w *wrapped, base remote.Entry, data []byte) (remote.Entry, error)

var putsIn = map[string]putIn{
	"Put": func(t *testing.T, w *wrapped, base remote.Entry, data []byte) (remote.Entry, error) {
		return w.Put(t.Context(), base.Path, remotetest.Bytes(data), remote.PutOptions{})
	},
	"PutGrowing": func(t *testing.T, w *wrapped, base remote.Entry, data []byte) (remote.Entry, error) {
		return w.PutGrowing(t.Context(), base.Path, remotetest.Grown(data, remote.Attrs{}), remote.PutOptions{})
	},
	"Patch": func(t *testing.T, w *wrapped, base remote.Entry, data []byte) (remote.Entry, error) {
		size := int64(len(data))
		return w.Patch(t.Context(), base.Path, remote.Patch{
			Size: size, Ranges: []remote.ByteRange{{Offset: 0, Length: size}}, Bytes: bytes.NewReader(data),
		}, remote.PutOptions{Cond: remote.Cond{Version: base.Version}})
	},
}

// TestPutsWithinSecond changes a file that was just read, on a server that gives one
// version to all that happens in a second.
func TestPutsWithinSecond(t *testing.T) {
	for name, put := range putsIn {
		for _, lost := range []bool{false, true} {
			now := time.Unix(1_000_000_000, 0)
			w := wrap(t, memory.Options{WeakVersions: true, Granularity: time.Second, Clock: func() time.Time { return now }}, Policy{})
			first, second := remotetest.Pattern(5000, 1), remotetest.Pattern(5000, 2)
			w.file(t, "/f", first)
			base, err := w.Stat(t.Context(), "/f")
			if err != nil {
				t.Fatal(err)
			}
			ref := remote.Ref{Path: "/f", Version: base.Version, Size: base.Size}
			w.want(t, ref, first, 0, 5000)
			w.fetched(t)
			if lost {
				w.faulty.SetPlan(remotetest.Plan{Rules: []remotetest.Rule{{Fault: remotetest.FaultLost, Count: 1}}})
			}
			e, err := put(t, w, base, second)
			if lost != errors.Is(err, remote.Unavailable) || !lost && e.Version != base.Version {
				t.Fatalf("%s: %+v, %v; the test needs a server with one version for two contents", name, e, err)
			}
			w.want(t, ref, second, 0, 5000)
		}
	}
}

// TestPutsKeepOthers wants what is cached of other files, and of a version that is no
// longer there, kept over all puts.
func TestPutsKeepOthers(t *testing.T) {
	for name, put := range putsIn {
		w := wrap(t, memory.Options{}, Policy{})
		data := remotetest.Pattern(5000, 1)
		ref, other := w.file(t, "/f", data), w.file(t, "/other", data)
		w.want(t, ref, data, 0, 5000)
		w.want(t, other, data, 0, 5000)
		w.fetched(t)
		calls, _ := w.reads()
		fresh := remotetest.Pattern(5000, 2)
		e, err := put(t, w, remote.Entry{Path: "/f", Version: ref.Version}, fresh)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.want(t, ref, data, 0, 5000)
		w.want(t, other, data, 0, 5000)
		if now, _ := w.reads(); now != calls {
			t.Errorf("%s: %d requests for what was cached", name, now-calls)
		}
		w.want(t, remote.Ref{Path: "/f", Version: e.Version, Size: e.Size}, fresh, 0, 5000)
	}
}

// TestPutsUnsupported wants abilities refused that are not below.
func TestPutsUnsupported(t *testing.T) {
	w := wrap(t, memory.Options{}, Policy{})
	bare := w.store.Wrap(struct{ remote.Backend }{w.memory}, Policy{Branch: "bare"})
	_, err := bare.PutGrowing(t.Context(), "/f", remotetest.Grown(nil, remote.Attrs{}), remote.PutOptions{})
	if !errors.Is(err, remote.Unsupported) {
		t.Errorf("PutGrowing: %v", err)
	}
	_, err = bare.Patch(t.Context(), "/f", remote.Patch{}, remote.PutOptions{})
	if !errors.Is(err, remote.Unsupported) {
		t.Errorf("Patch: %v", err)
	}
	if _, ok := remote.As[remote.Patcher](bare); ok {
		t.Error("an ability is invented")
	}
}
