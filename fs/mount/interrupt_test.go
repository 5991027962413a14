package mount

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noProcess is a number that no process has (pid_max is lower).
const noProcess = 1<<31 - 1

// A read that hangs ends after a signal, but not at once.
func TestWaitingRead(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const patience = 50 * time.Millisecond
	for _, late := range []time.Duration{0, 2 * patience} { // when the signal comes
		cancel := make(chan struct{})
		w := &waiting{Context: context.Background(), cancel: cancel, pid: uint32(unix.Gettid()), patience: patience}
		if w.Err() != nil || w.stop != nil {
			t.Error("it began to watch before anybody waited")
		}
		began := time.Now()
		done := w.Done()
		time.AfterFunc(late, func() { close(cancel) })
		<-done
		if took := time.Since(began); took < max(patience, late) {
			t.Errorf("signal after %v: done after %v", late, took)
		}
		if !errors.Is(w.Err(), context.Canceled) || !w.interrupted.Load() {
			t.Errorf("err %v, interrupted %v", w.Err(), w.interrupted.Load())
		}
		w.end()
	}
}

// Without a signal nothing ends.
func TestWaitingQuiet(t *testing.T) {
	w := &waiting{Context: context.Background(), cancel: make(chan struct{}), patience: time.Millisecond}
	derived, stop := context.WithTimeout(w, time.Minute)
	defer stop()
	select {
	case <-derived.Done():
		t.Error("done without a signal")
	case <-time.After(50 * time.Millisecond):
	}
	// At the end of the operation all that was derived ends, too, with an error.
	w.end()
	<-derived.Done()
	if w.Err() == nil || derived.Err() == nil || w.interrupted.Load() {
		t.Errorf("after the end: %v, %v", w.Err(), derived.Err())
	}
}

func TestWaitingOther(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, tc := range []struct {
		name string
		pid  uint32
		ends bool
	}{
		{"of a caller that lives", uint32(unix.Gettid()), false},
		{"of a caller in another name space", 0, false},
		{"of a caller that is gone", noProcess, true},
	} {
		cancel := make(chan struct{})
		close(cancel)
		w := &waiting{Context: context.Background(), cancel: cancel, pid: tc.pid}
		ended, wait := false, dyingPoll*3/2
		if tc.ends {
			wait = 4 * time.Minute
		}
		select {
		case <-w.Done():
			ended = true
		case <-time.After(wait):
		}
		if ended != tc.ends || (w.Err() != nil) != tc.ends || w.interrupted.Load() != tc.ends {
			t.Errorf("wait %s: ended %v, err %v", tc.name, ended, w.Err())
		}
		w.end()
		<-w.Done() // nobody may wait for an operation that is over
	}
}

// A derived context, as the core makes them for its requests, ends as well.
func TestWaitingDerived(t *testing.T) {
	cancel := make(chan struct{})
	w := &waiting{Context: context.Background(), cancel: cancel, pid: noProcess}
	defer w.end()
	ctx, stop := context.WithTimeout(w, time.Minute)
	defer stop()
	close(cancel)
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error(ctx.Err())
	}
}

// An operation that never waited is not watched, and is over afterwards.
func TestWaitingEndFirst(t *testing.T) {
	w := &waiting{Context: context.Background(), cancel: make(chan struct{})}
	if w.Err() != nil || w.watched.Load() {
		t.Error("it is watched before anybody waits")
	}
	w.end()
	<-w.Done()
	if !errors.Is(w.Err(), context.Canceled) || w.interrupted.Load() {
		t.Errorf("after the end: %v", w.Err())
	}
}

func TestDying(t *testing.T) {
	if dying(uint32(os.Getpid())) {
		t.Error("we are not dying")
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := uint32(cmd.Process.Pid)
	if dying(pid) {
		t.Error("sleep is not dying")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if !dying(pid) {
		t.Error("what has been waited for is not there any more")
	}
}

func TestKillPending(t *testing.T) {
	for _, tc := range []struct {
		status string
		want   bool
	}{
		{"Name:\tcat\nSigQ:\t0/63\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n", true},
		{"Name:\tcat\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000100\n", false},
		{"Name:\tcat\nSigPnd:\t0000000000400000\n", false},
		{"Name:\tSigPnd:\t100\n", false},
		{"SigPnd:\tx\n", false},
		{"", false},
	} {
		if got := killPending([]byte(tc.status)); got != tc.want {
			t.Errorf("%q: %v", tc.status, got)
		}
	}
}
