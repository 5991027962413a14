package efss

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// only makes a hook for one method.
func only(method string, f *Fault) func(*http.Request) *Fault {
	return func(r *http.Request) *Fault {
		if r.Method == method {
			return f
		}
		return nil
	}
}

// try sends a request that may fail and returns what arrived of the body.
func (w *world) try(method, path, body string) (status int, got string, err error) {
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.dest(path), strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.SetBasicAuth(w.user, w.app)
	req.Header.Set("Depth", "1")
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestFaults(t *testing.T) {
	w := start(t, Nextcloud)
	w.put("/f", "0123456789")
	for name, c := range map[string]struct {
		fault  Fault
		status int
		body   string
		failed bool
	}{
		"answer":      {Fault{Status: 503, Body: "down", Header: http.Header{"Retry-After": {"7"}}}, 503, "down", false},
		"abort":       {Fault{Abort: true}, 0, "", true},
		"lost reply":  {Fault{LoseReply: true}, 0, "", true},
		"cut":         {Fault{CutReply: true, ReplyAt: 4}, 200, "0123", true},
		"flip":        {Fault{Flip: true, FlipAt: 3}, 200, "0122456789", false},
		"too long":    {Fault{LengthDelta: 5}, 200, "0123456789", true},
		"too short":   {Fault{LengthDelta: -5}, 200, "01234", false},
		"slow":        {Fault{PerSecond: 100}, 200, "0123456789", false},
		"late":        {Fault{Delay: 50 * time.Millisecond}, 200, "0123456789", false},
		"no fault":    {Fault{}, 200, "0123456789", false},
		"cut at once": {Fault{CutReply: true}, 200, "", true},
	} {
		w.SetFaults(only("GET", &c.fault))
		begin := time.Now()
		status, body, err := w.try("GET", "/f", "")
		if status != c.status || body != c.body || (err != nil) != c.failed {
			t.Errorf("%s: %d %q %v", name, status, body, err)
		}
		if slow := time.Since(begin) >= 50*time.Millisecond; !slow && (name == "slow" || name == "late") {
			t.Errorf("%s: took %v", name, time.Since(begin))
		}
	}
	w.SetFaults(nil)
	if got := w.read("/f"); got != "200 0123456789" {
		t.Errorf("afterwards: %s", got)
	}
}

// TestFaultStall reads an answer that stops: the rest comes when it may, or never.
func TestFaultStall(t *testing.T) {
	w := start(t, Nextcloud)
	w.put("/f", "0123456789")
	for _, resumed := range []bool{false, true} {
		resume := make(chan struct{})
		w.SetFaults(only("GET", &Fault{Stall: true, ReplyAt: 3, Resume: resume}))
		ctx, giveUp := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", w.dest("/f"), nil)
		req.SetBasicAuth(w.user, w.app)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 3)
		if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "012" {
			t.Errorf("%q %v", first, err)
		}
		if resumed {
			close(resume)
		} else {
			time.AfterFunc(50*time.Millisecond, giveUp)
		}
		rest, err := io.ReadAll(resp.Body)
		if want := map[bool]string{true: "3456789"}[resumed]; string(rest) != want || (err == nil) != resumed {
			t.Errorf("resumed %v: %q %v", resumed, rest, err)
		}
		giveUp()
		_ = resp.Body.Close()
	}
}

func TestFaultsOfUploads(t *testing.T) {
	w := start(t, Nextcloud)
	w.put("/f", "old content")
	w.SetFaults(only("PUT", &Fault{LoseReply: true}))
	if _, _, err := w.try("PUT", "/new", "content"); err == nil {
		t.Error("the answer was not lost")
	}
	w.SetFaults(only("PUT", &Fault{CutRequest: true, RequestAt: 3}))
	_, _, err := w.try("PUT", "/f", "NEW CONTENT")
	if err != nil && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "broken pipe") {
		t.Error(err)
	}
	w.SetFaults(nil)
	if got := w.read("/new") + ", " + w.read("/f"); got != "200 content, 200 NEW" {
		t.Errorf("afterwards: %s", got)
	}
}

func TestFaultResponses(t *testing.T) {
	w := start(t, Nextcloud, func(o *Options) { o.NoGzip = true })
	w.SetFaults(only("PROPFIND", &Fault{Responses: []string{"<d:response><d:href>/evil/../x</d:href></d:response>"}}))
	if _, body, err := w.try("PROPFIND", "/", ""); err != nil || !strings.Contains(body, "/evil/../x") {
		t.Errorf("%s %v", body, err)
	}
	w.SetFaults(only("PROPFIND", &Fault{CutReply: true, ReplyAt: 300}))
	if _, body, err := w.try("PROPFIND", "/", ""); err == nil || len(body) != 300 {
		t.Errorf("%d bytes %v", len(body), err)
	}
}

func TestRequestLog(t *testing.T) {
	w := start(t, Nextcloud)
	w.put("/a%20b", "x")
	w.read("/a%20b")
	w.read("/none")
	if w.Count("GET") != 2 || w.Count("") != 3 {
		t.Errorf("counted %d GETs of %d", w.Count("GET"), w.Count(""))
	}
	all := w.Requests()
	if r := all[len(all)-1]; len(all) != 3 || r.Method != "GET" || r.Status != 404 || r.Sent == 0 || !strings.HasSuffix(r.Path, "/none") {
		t.Errorf("%+v", all)
	}
	if !strings.HasSuffix(all[0].Path, "/a%20b") {
		t.Errorf("path %s", all[0].Path)
	}
	w.ResetRequests()
	if len(w.Requests()) != 0 || w.Count("") != 0 {
		t.Error("not forgotten")
	}
}
