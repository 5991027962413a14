package harness

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// How long Send waits for others' transfers to end, and between two of its attempts.
const (
	lockTime  = 4 * time.Minute
	lockPause = 5 * time.Millisecond
)

// Send sends a request as another client of the server under test does, and again while
// the answer is 423: a server like Nextcloud gives it for as long as somebody, a mount
// for one, still reads or writes the file. The answer's body has been read. The request's
// body must be one that http.NewRequest can repeat. The test fails if there is no answer.
func Send(tb testing.TB, r *http.Request) *http.Response {
	tb.Helper()
	deadline := time.Now().Add(lockTime)
	for {
		answer := sendOnce(tb, r)
		if answer.StatusCode != http.StatusLocked || time.Now().After(deadline) {
			return answer
		}
		time.Sleep(lockPause)
	}
}

// sendOnce sends a copy of a request and reads the answer.
func sendOnce(tb testing.TB, r *http.Request) *http.Response {
	tb.Helper()
	again := r.Clone(r.Context())
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			tb.Fatal(err)
		}
		again.Body = body
	}
	answer, err := http.DefaultClient.Do(again)
	if err != nil {
		tb.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body) // a short one is as good an answer
	_ = answer.Body.Close()
	return answer
}
