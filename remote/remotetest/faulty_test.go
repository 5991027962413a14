package remotetest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

// faulty returns a faulty memory backend with the files /f and /g.
func faulty(t *testing.T) *remotetest.FaultyBackend {
	t.Helper()
	b := remotetest.Faulty(memory.New(memory.Options{}), remotetest.Plan{})
	for _, path := range []string{"/f", "/g"} {
		if _, err := b.Put(t.Context(), path, remotetest.Bytes([]byte("content")), remote.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func plan(b *remotetest.FaultyBackend, rules ...remotetest.Rule) {
	b.SetPlan(remotetest.Plan{Seed: 1, Rules: rules})
}

// wantFault checks an injected error.
func wantFault(t *testing.T, err error, kind remote.Kind, unsure bool) {
	t.Helper()
	var e *remote.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Unsure != unsure || !errors.Is(err, remotetest.ErrInjected) {
		t.Errorf("error %+v, want an injected one of kind %v, unsure %v", err, kind, unsure)
	}
}

func stat(t *testing.T, b remote.Backend, path string) error {
	t.Helper()
	_, err := b.Stat(t.Context(), path)
	return err
}

func TestFaultSequence(t *testing.T) {
	b := faulty(t)
	plan(b, remotetest.Rule{Ops: []remote.Op{remote.OpStat}, Skip: 2, Count: 2, Fault: remotetest.FaultError, Kind: remote.Locked})
	for i, fails := range []bool{false, false, true, true, false, false} {
		err := stat(t, b, "/f")
		if (err != nil) != fails {
			t.Errorf("call %d: %v", i, err)
		}
		if fails {
			wantFault(t, err, remote.Locked, false)
		}
		if err := b.List(t.Context(), "/", func(remote.Entry) error { return nil }); err != nil {
			t.Errorf("another operation was hit: %v", err)
		}
	}
	if n := b.Injected(); n != 2 {
		t.Errorf("%d faults, want 2", n)
	}
}

func TestFaultProbability(t *testing.T) {
	b := faulty(t)
	var first []bool
	for round := range 2 {
		plan(b, remotetest.Rule{P: 0.3, Fault: remotetest.FaultError})
		hits := 0
		for i := range 1000 {
			hit := stat(t, b, "/f") != nil
			if hit {
				hits++
			}
			if round == 0 {
				first = append(first, hit)
			} else if first[i] != hit {
				t.Fatalf("the same plan gave other faults, at %d", i)
			}
		}
		if hits < 240 || hits > 360 {
			t.Errorf("%d of 1000 calls were hit at 0.3", hits)
		}
	}
}

func TestFaultLost(t *testing.T) {
	b := faulty(t)
	plan(b, remotetest.Rule{Fault: remotetest.FaultLost})
	wantFault(t, b.Remove(t.Context(), "/f", remote.RemoveOptions{Type: remote.File}), remote.Unavailable, true)
	wantFault(t, stat(t, b, "/g"), remote.Unavailable, false)
	_, err := b.Mkdir(t.Context(), "/g")
	if !errors.Is(err, remote.Exist) || errors.Is(err, remotetest.ErrInjected) {
		t.Errorf("a call that fails anyhow: %v", err)
	}
	plan(b)
	if err := stat(t, b, "/f"); !errors.Is(err, remote.NotExist) {
		t.Errorf("the change was not carried out: %v", err)
	}
}

func TestFaultTruncate(t *testing.T) {
	b := faulty(t)
	plan(b, remotetest.Rule{Fault: remotetest.FaultTruncate})
	p := make([]byte, 10)
	n, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f"}, p, 0)
	wantFault(t, err, remote.Unavailable, false)
	if n != 3 {
		t.Errorf("%d bytes of a truncated body", n)
	}
	entries := 0
	err = b.List(t.Context(), "/", func(remote.Entry) error { entries++; return nil })
	wantFault(t, err, remote.Unavailable, false)
	if entries != 1 {
		t.Errorf("%d entries of a truncated listing of 2", entries)
	}
	mine := errors.New("mine")
	if err := b.List(t.Context(), "/", func(remote.Entry) error { return mine }); err != mine {
		t.Errorf("the error of yield became %v", err)
	}
	plan(b, remotetest.Rule{Ops: []remote.Op{remote.OpStream}, Fault: remotetest.FaultTruncate})
	o, _ := remote.As[remote.Opener](b)
	r, err := o.Open(t.Context(), remote.Ref{Path: "/f"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	wantFault(t, err, remote.Unavailable, false)
	if string(got) != "con" {
		t.Errorf("a truncated stream gave %q", got)
	}
}

func TestFaultTruncatedRemoval(t *testing.T) {
	b := faulty(t)
	for _, path := range []string{"/d", "/d/sub", "/d/other"} {
		if _, err := b.Mkdir(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Rename(t.Context(), "/f", "/d/sub/f", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Rename(t.Context(), "/g", "/d/g", remote.RenameOptions{}); err != nil {
		t.Fatal(err)
	}
	plan(b, remotetest.Rule{Fault: remotetest.FaultTruncate})
	trees, _ := remote.As[remote.TreeRemover](b)
	wantFault(t, trees.RemoveTree(t.Context(), "/d"), remote.Unavailable, true)
	if err := trees.RemoveTree(t.Context(), "/none"); !errors.Is(err, remote.NotExist) {
		t.Errorf("a removal that fails anyhow: %v", err)
	}
	plan(b)
	left := 0
	if err := b.List(t.Context(), "/d", func(remote.Entry) error { left++; return nil }); err != nil || left != 1 {
		t.Errorf("%d of 3 are left, %v", left, err)
	}
}

func TestFaultReset(t *testing.T) {
	for _, inPlace := range []bool{false, true} {
		b := remotetest.Faulty(memory.New(memory.Options{InPlacePut: inPlace}), remotetest.Plan{})
		put := func(text string) error {
			_, err := b.Put(t.Context(), "/f", remotetest.Bytes([]byte(text)), remote.PutOptions{})
			return err
		}
		if err := put("old"); err != nil {
			t.Fatal(err)
		}
		plan(b, remotetest.Rule{Fault: remotetest.FaultReset})
		wantFault(t, put("new content"), remote.Unavailable, false)
		plan(b)
		e, err := b.Stat(t.Context(), "/f")
		if want := map[bool]int64{false: 3, true: 5}[inPlace]; err != nil || e.Size != want {
			t.Errorf("in place %v: %d bytes are left, want %d (%v)", inPlace, e.Size, want, err)
		}
	}
}

// TestFaultResetGrowing breaks growing content and a patch in the middle.
func TestFaultResetGrowing(t *testing.T) {
	b := faulty(t)
	base, err := b.Stat(t.Context(), "/f")
	if err != nil {
		t.Fatal(err)
	}
	growing, _ := remote.As[remote.GrowingPutter](b)
	patcher, _ := remote.As[remote.Patcher](b)
	patch := func(redo bool) error {
		_, err := patcher.Patch(t.Context(), "/f", remote.Patch{
			Size: 7, Ranges: []remote.ByteRange{{Offset: 0, Length: 2}, {Offset: 5, Length: 2}}, Bytes: bytes.NewReader([]byte("CO   NT")),
		}, remote.PutOptions{Cond: remote.Cond{Version: base.Version}, Redo: redo})
		return err
	}
	plan(b, remotetest.Rule{Fault: remotetest.FaultReset})
	_, err = growing.PutGrowing(t.Context(), "/new", remotetest.Grown([]byte("new content"), remote.Attrs{}), remote.PutOptions{})
	wantFault(t, err, remote.Unavailable, false)
	_, err = growing.PutGrowing(t.Context(), "/empty", remotetest.Grown(nil, remote.Attrs{}), remote.PutOptions{})
	wantFault(t, err, remote.Unavailable, true) // there was nothing to break
	wantFault(t, patch(false), remote.Unavailable, true)
	plan(b)
	if err := stat(t, b, "/new"); !errors.Is(err, remote.NotExist) {
		t.Errorf("the broken put left something: %v", err)
	}
	_, err = b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: -1}, make([]byte, 7), 0)
	if !errors.Is(err, remote.Corrupt) {
		t.Errorf("the broken patch did not tear the file: %v", err)
	}
	if err := patch(true); err != nil {
		t.Error(err)
	}
	p := make([]byte, 7)
	if _, err := b.ReadAt(t.Context(), remote.Ref{Path: "/f", Size: -1}, p, 0); err != nil || string(p) != "COnteNT" {
		t.Errorf("%q, %v", p, err)
	}
}

// TestGrowth wants Wait to tell what it must, and no sooner.
func TestGrowth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &remotetest.Growth{}
		time.AfterFunc(time.Hour, func() { g.Grow([]byte("hello")) })
		start := time.Now()
		size, whole, err := g.Wait(t.Context(), 0)
		if size != 5 || whole || err != nil || time.Since(start) != time.Hour || g.Wanted() != 0 {
			t.Errorf("%d, %v, %v after %v", size, whole, err, time.Since(start))
		}
		time.AfterFunc(time.Hour, func() { g.End(remote.Attrs{}) })
		if size, whole, err := g.Wait(t.Context(), 5); size != 5 || !whole || err != nil || g.Wanted() != 5 {
			t.Errorf("%d, %v, %v", size, whole, err)
		}
		p := make([]byte, 4)
		if n, err := g.ReadAt(p, 2); n != 3 || err != io.EOF || string(p[:n]) != "llo" {
			t.Errorf("%q, %v", p[:n], err)
		}
		if n, err := g.ReadAt(p, 5); n != 0 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := (&remotetest.Growth{}).Wait(ctx, 0); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
	})
}

func TestFaultStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := faulty(t)
		resume := b.Stall()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := b.Stat(ctx, "/f"); err != context.DeadlineExceeded {
			t.Errorf("a stalled call with a deadline: %v", err)
		}
		time.AfterFunc(time.Hour, resume)
		start := time.Now()
		if err := stat(t, b, "/f"); err != nil || time.Since(start) != time.Hour {
			t.Errorf("a stalled call came back after %v, %v", time.Since(start), err)
		}
		b.Stall()
		time.AfterFunc(time.Hour, func() { _ = b.Close() })
		if err := stat(t, b, "/f"); !errors.Is(err, remote.BadHandle) {
			t.Errorf("a stalled call of a closed backend: %v", err)
		}
	})
}

func TestFaultLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := faulty(t)
		plan(b, remotetest.Rule{Latency: time.Second})
		start := time.Now()
		if err := stat(t, b, "/f"); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := b.Stat(ctx, "/f"); err != context.DeadlineExceeded {
			t.Errorf("the latency outlived the context: %v", err)
		}
		if n := b.Injected(); n != 0 {
			t.Errorf("latency counts as %d faults", n)
		}
	})
}
