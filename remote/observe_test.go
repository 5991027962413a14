package remote_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/memory"
	"github.com/meshmount/meshmount/remote/remotetest"
)

func TestObserveCounts(t *testing.T) {
	o := remote.Observe(memory.New(memory.Options{}), nil)
	if n := len(o.Stats()); n != 0 {
		t.Errorf("%d operations before the first", n)
	}
	want := map[remote.Op]int64{}
	for _, op := range callAll(t, o) {
		want[op]++
	}
	got := o.Stats()
	for _, op := range remote.Ops() {
		if s := got[op]; s.Calls != want[op] || s.InFlight != 0 || len(s.Errors) != 0 || s.Time < s.MaxTime {
			t.Errorf("%s: %+v, want %d calls", op, s, want[op])
		}
	}
	if got[remote.OpRead].Received != 5 || got[remote.OpStream].Received != 5 || got[remote.OpPut].Sent != 5 {
		t.Errorf("bytes: read %d, stream %d, put %d", got[remote.OpRead].Received,
			got[remote.OpStream].Received, got[remote.OpPut].Sent)
	}
}

func TestObserveErrors(t *testing.T) {
	o := remote.Observe(memory.New(memory.Options{}), nil)
	for range 2 {
		_, err := o.Stat(t.Context(), "/none")
		wantKind(t, err, remote.NotExist)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := o.Stat(ctx, "/"); err == nil {
		t.Error("a cancelled call succeeded")
	}
	_, err := o.Put(t.Context(), "/f", remotetest.FailingSource(100, 40), remote.PutOptions{})
	wantKind(t, err, remote.Invalid)
	got := o.Stats()
	if s := got[remote.OpStat]; s.Calls != 3 || s.Errors[remote.NotExist] != 2 || len(s.Errors) != 1 || s.Cancelled != 1 {
		t.Errorf("stat: %+v", s)
	}
	if s := got[remote.OpPut]; s.Sent != 40 || s.Errors[remote.Invalid] != 1 {
		t.Errorf("put: %+v", s)
	}
	got[remote.OpStat].Errors[remote.NotExist] = 99
	if o.Stats()[remote.OpStat].Errors[remote.NotExist] != 2 {
		t.Error("the snapshot is not a copy")
	}
}

func TestObserveTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, _ := slow(time.Second)
		o := remote.Observe(inner, nil)
		go stats(t, o, 2)
		synctest.Wait()
		if s := o.Stats()[remote.OpStat]; s.InFlight != 2 || s.Calls != 0 {
			t.Errorf("on the way: %+v", s)
		}
		time.Sleep(2 * time.Second)
		if s := o.Stats()[remote.OpStat]; s.InFlight != 0 || s.Time != 2*time.Second || s.MaxTime != time.Second {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

func TestObserveLogs(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o := remote.Observe(memory.New(memory.Options{}), log.With("branch", "/x"))
	callAll(t, o)
	_, err := o.Stat(t.Context(), "/none")
	wantKind(t, err, remote.NotExist)
	text := out.String()
	for _, want := range []string{
		"level=DEBUG", "branch=/x", "op=put path=/f", "sent=5", "op=rename path=/d", "to=/e", "off=0 received=5",
		`msg="remote stream closed" branch=/x path=/f received=5`, `err="stat /none: does not exist"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	// One line a call, none for the reads of a stream, one for its end.
	if n := strings.Count(text, "\n"); n != len(callAll(t, memory.New(memory.Options{})))-2+1+1 {
		t.Errorf("%d lines:\n%s", n, text)
	}
}
