package remotetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/meshmount/meshmount/remote"
)

var condChecks = []check{
	{"CondNotExist", checkCondNotExist},
	{"CondVersion", checkCondVersion},
	{"CreateRace", checkCreateRace},
	{"OverwriteRace", checkOverwriteRace},
	{"MkdirRace", checkMkdirRace},
}

func checkCondNotExist(e *env) {
	opts := remote.PutOptions{Cond: remote.Cond{NotExist: true}}
	e.putWith("/new", []byte("made"), opts)
	e.wantContent("/new", []byte("made"))
	e.putWith("/empty", nil, opts)
	e.wantContent("/empty", nil)
	if e.caps.Create == remote.GuardNone {
		e.Log("the backend does not check it")
		return
	}
	e.mkdir("/d")
	for _, data := range [][]byte{[]byte("other"), nil} {
		_, err := e.b.Put(e.ctx, "/new", Bytes(data), opts)
		e.wantKind(err, "exclusive create over a file", remote.Exist)
		_, err = e.b.Put(e.ctx, "/empty", Bytes(data), opts)
		e.wantKind(err, "exclusive create over an empty file", remote.Exist)
		_, err = e.b.Put(e.ctx, "/d", Bytes(data), opts)
		e.wantKind(err, "exclusive create over a directory", remote.Exist, remote.IsDir)
	}
	_, err := e.b.Put(e.ctx, "/none/f", Bytes(nil), opts)
	e.wantKind(err, "exclusive create without a parent", remote.NotExist)
	e.wantContent("/new", []byte("made"))
	e.wantContent("/empty", nil)
	e.wantNames("/", "d", "empty", "new")
}

// versionCond is the condition that the file is still as in that entry.
func versionCond(of remote.Entry) remote.PutOptions {
	return remote.PutOptions{Cond: remote.Cond{Version: of.Version, Provisional: of.Provisional}}
}

func checkCondVersion(e *env) {
	first := e.versioned(e.put("/f", []byte("first")))
	if first.Version == "" {
		e.Log("the server offers no versions")
		return
	}
	second := e.versioned(e.putWith("/f", []byte("second one"), versionCond(first)))
	e.wantContent("/f", []byte("second one"))
	if e.caps.Overwrite == remote.GuardNone {
		e.Log("the backend does not check it")
		return
	}
	if e.distinct(first, second) {
		_, err := e.b.Put(e.ctx, "/f", Bytes([]byte("late")), versionCond(first))
		e.wantKind(err, "put over another version", remote.Conflict)
	}
	e.wantContent("/f", []byte("second one"))
	e.putWith("/f", nil, versionCond(second))
	e.wantContent("/f", nil)
	e.remove("/f", remote.File)
	_, err := e.b.Put(e.ctx, "/f", Bytes([]byte("late")), versionCond(second))
	e.wantKind(err, "put over a version that is gone", remote.Conflict)
	e.wantNothing("/f")
	_, err = e.b.Put(e.ctx, "/none", Bytes([]byte("late")), versionCond(first))
	e.wantKind(err, "put over a version that never was", remote.Conflict)
	e.wantNames("/")
}

const racers = 8

// race runs f at once for 0 to racers-1 and returns the errors.
func race(f func(i int) error) []error {
	errs := make([]error, racers)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range racers {
		all.Go(func() { <-start; errs[i] = f(i) })
	}
	close(start)
	all.Wait()
	return errs
}

// wantOneWinner checks that one call of a race succeeded and the others failed with
// one of the kinds. It returns the winner, or -1.
func (e *env) wantOneWinner(errs []error, kinds ...remote.Kind) int {
	e.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err != nil:
			e.wantKind(err, fmt.Sprintf("loser %d", i), kinds...)
		case winner >= 0:
			e.Errorf("both %d and %d won", winner, i)
		default:
			winner = i
		}
	}
	if winner < 0 {
		e.Errorf("nobody won: %v", errors.Join(errs...))
	}
	return winner
}

// content of a racer differs in length from all others.
func racerContent(i int) []byte { return Pattern(1000+i, byte(i)) }

func checkCreateRace(e *env) {
	if e.caps.Create != remote.GuardAtomic {
		e.Logf("the guard is %v", e.caps.Create)
		return
	}
	for round := range 5 {
		path := fmt.Sprintf("/f%d", round)
		errs := race(func(i int) error {
			_, err := e.b.Put(e.ctx, path, Bytes(racerContent(i)), remote.PutOptions{Cond: remote.Cond{NotExist: true}})
			return err
		})
		if w := e.wantOneWinner(errs, remote.Exist, remote.Locked); w >= 0 {
			e.wantContent(path, racerContent(w))
		}
	}
}

func checkOverwriteRace(e *env) {
	if e.caps.Overwrite != remote.GuardAtomic {
		e.Logf("the guard is %v", e.caps.Overwrite)
		return
	}
	for round := range 5 {
		path := fmt.Sprintf("/f%d", round)
		base := e.versioned(e.put(path, []byte("base")))
		errs := race(func(i int) error {
			_, err := e.b.Put(e.ctx, path, Bytes(racerContent(i)), versionCond(base))
			return err
		})
		if w := e.wantOneWinner(errs, remote.Conflict, remote.Locked); w >= 0 {
			e.wantContent(path, racerContent(w))
		}
	}
}

func checkMkdirRace(e *env) {
	errs := race(func(int) error {
		_, err := e.b.Mkdir(e.ctx, "/d")
		return err
	})
	e.wantOneWinner(errs, remote.Exist, remote.Locked)
	e.wantNames("/", "d")
}
