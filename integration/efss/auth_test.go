package efss

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAuthentication(t *testing.T) {
	w := start(t, Nextcloud)
	for name, c := range map[string]struct {
		user, password, bearer string
		want                   int
	}{
		"login password":         {"alice", "alice-login", "", 207},
		"app password":           {"alice", "alice-app", "", 207},
		"token":                  {"", "", "alice-token", 207},
		"app password as bearer": {"", "", "alice-app", 207},
		"login as bearer":        {"", "", "alice-login", 401},
		"token as password":      {"alice", "alice-token", "", 401},
		"wrong":                  {"alice", "wrong", "", 401},
		"empty":                  {"alice", "", "", 401},
		"unknown user":           {"bob", "alice-app", "", 401},
		"nothing":                {"", "", "", 401},
		"empty bearer":           {"", "", " ", 401},
	} {
		req, _ := http.NewRequest("PROPFIND", w.DAVURL("alice"), nil)
		req.Header.Set("Depth", "0")
		if c.user != "" {
			req.SetBasicAuth(c.user, c.password)
		}
		if c.bearer != "" {
			req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(c.bearer))
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
	if n := w.AuthFailures(); n != 6 {
		t.Errorf("%d refused logins were counted, want 6", n)
	}
	for _, r := range w.Requests() {
		if r.Header.Get("Authorization") != "" {
			t.Error("the log holds credentials")
		}
	}
	w.want(http.StatusNotFound, "PROPFIND", "//remote.php/dav/files/bob/", "")
}

func TestPasswordCost(t *testing.T) {
	w := start(t, Nextcloud, func(o *Options) { o.PasswordCost = 200 * time.Millisecond })
	timed := func(password string) time.Duration {
		begin := time.Now()
		w.app = password
		w.want(http.StatusMultiStatus, "PROPFIND", "/", "", "Depth", "0")
		return time.Since(begin)
	}
	app := timed("alice-app")
	for range 9 { // once in time will do
		app = min(app, timed("alice-app"))
	}
	if app >= 200*time.Millisecond {
		t.Errorf("the app password took %v", app)
	}
	if login := timed("alice-login"); login < 200*time.Millisecond {
		t.Errorf("the login password took %v only", login)
	}
}

// ocsData returns the data of an OCS answer.
func ocsData(t *testing.T, a answer) map[string]any {
	t.Helper()
	var doc struct {
		OCS struct {
			Meta struct{ StatusCode int }
			Data map[string]any
		}
	}
	if err := json.Unmarshal([]byte(a.body), &doc); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
	if doc.OCS.Meta.StatusCode != a.StatusCode {
		t.Errorf("status %d inside, %d outside", doc.OCS.Meta.StatusCode, a.StatusCode)
	}
	return doc.OCS.Data
}

func TestOCS(t *testing.T) {
	w := start(t, Nextcloud, func(o *Options) { o.Users[0].Quota = 1000 })
	ocs := []string{"OCS-APIRequest", "true"}
	w.want(http.StatusPreconditionFailed, "GET", "//ocs/v2.php/cloud/user", "")
	user := ocsData(t, w.want(http.StatusOK, "GET", "//ocs/v2.php/cloud/user?format=json", "", ocs...))
	if user["id"] != "alice" || user["quota"].(map[string]any)["free"] != 1000.0 {
		t.Errorf("user: %v", user)
	}
	caps := ocsData(t, w.want(http.StatusOK, "GET", "//ocs/v2.php/cloud/capabilities?format=json", "", append(ocs, "Authorization", "")...))["capabilities"].(map[string]any)
	if caps["dav"].(map[string]any)["chunking"] != "1.0" || caps["files"].(map[string]any)["locking"] != "1.0" {
		t.Errorf("capabilities: %v", caps)
	}
	w.want(http.StatusUnauthorized, "GET", "//ocs/v2.php/cloud/user", "", append(ocs, "Authorization", "Basic Og==")...)
	w.want(http.StatusNotFound, "GET", "//ocs/v2.php/none", "", ocs...)
	w.want(http.StatusForbidden, "GET", "//ocs/v2.php/core/getapppassword", "", ocs...)
	w.app = "alice-login"
	made := ocsData(t, w.want(http.StatusOK, "GET", "//ocs/v2.php/core/getapppassword", "", ocs...))["apppassword"].(string)
	w = w.restart(nil)
	w.app = made
	w.want(http.StatusMultiStatus, "PROPFIND", "/", "", "Depth", "0")
	w.want(http.StatusOK, "DELETE", "//ocs/v2.php/core/apppassword", "", ocs...)
	w.want(http.StatusUnauthorized, "PROPFIND", "/", "", "Depth", "0")

	locks := start(t, Nextcloud, func(o *Options) { o.NoLocks = true })
	locks.put("/f", "x")
	locks.want(http.StatusNotImplemented, "LOCK", "/f", lockDoc)
	if a := locks.want(http.StatusOK, "GET", "//ocs/v2.php/cloud/capabilities", "", ocs...); strings.Contains(a.body, "locking") {
		t.Error("locking is announced without locks")
	}
	tus := ocsData(t, start(t, OpenCloud).want(http.StatusOK, "GET", "//ocs/v1.php/cloud/capabilities", "", ocs...))
	if n := tus["capabilities"].(map[string]any)["files"].(map[string]any)["tus_support"].(map[string]any)["max_chunk_size"]; n != 1e7 {
		t.Errorf("max_chunk_size %v", n)
	}
}

func TestLoginFlow(t *testing.T) {
	w := start(t, Nextcloud)
	var begun struct {
		Poll  struct{ Token, Endpoint string }
		Login string
	}
	if err := json.Unmarshal([]byte(w.want(http.StatusOK, "POST", "//index.php/login/v2", "", "Authorization", "").body), &begun); err != nil {
		t.Fatal(err)
	}
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Authorization", ""}
	poll, page := "/"+strings.TrimPrefix(begun.Poll.Endpoint, w.BaseURL), "/"+strings.TrimPrefix(begun.Login, w.BaseURL)
	w.want(http.StatusNotFound, "POST", poll, "token="+begun.Poll.Token, form...)
	if a := w.want(http.StatusOK, "GET", page, "", "Authorization", ""); !strings.Contains(a.body, "<form") {
		t.Error("no form: ", a.body)
	}
	w.want(http.StatusForbidden, "POST", page, "user=alice&password=wrong", form...)
	w.want(http.StatusNotFound, "POST", poll, "token="+begun.Poll.Token, form...)
	w.want(http.StatusOK, "POST", page, "user=alice&password=alice-login", form...)
	var got struct{ Server, LoginName, AppPassword string }
	if err := json.Unmarshal([]byte(w.want(http.StatusOK, "POST", poll, "token="+begun.Poll.Token, form...).body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Server != w.BaseURL || got.LoginName != "alice" {
		t.Errorf("%+v", got)
	}
	w.want(http.StatusNotFound, "POST", poll, "token="+begun.Poll.Token, form...)
	w.app = got.AppPassword
	w.want(http.StatusMultiStatus, "PROPFIND", "/", "", "Depth", "0")
}
