package efss

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// document answers requests that are not WebDAV. It is false for all others.
func (q *request) document(path string) (bool, error) {
	switch {
	case path == "/status.php" && q.b().status != statusNone:
		return true, q.sendJSON(http.StatusOK, q.statusDoc())
	case strings.HasPrefix(path, "/ocs/") && q.b().status != statusNone:
		return true, q.ocs(strings.TrimPrefix(path, "/ocs/"))
	case strings.HasPrefix(path, "/index.php/login/v2") && q.b().services:
		return true, q.loginFlow(strings.TrimPrefix(path, "/index.php/login/v2"))
	case strings.HasPrefix(path, "/data/") && q.b().tus:
		return true, q.tusData(strings.TrimPrefix(path, "/data/"))
	}
	return false, nil
}

func (q *request) sendJSON(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	q.set("Content-Type", "application/json; charset=utf-8")
	q.set("Content-Length", fmt.Sprint(len(body)))
	q.w.WriteHeader(status)
	_, err = q.w.Write(body)
	return err
}

// object is a JSON object.
type object = map[string]any

func (q *request) statusDoc() object {
	down := q.s.maintenance.Load()
	if q.b().status == statusOpenCloud {
		return object{"installed": true, "maintenance": down, "needsDbUpgrade": false, "version": "0.1.0.0",
			"versionstring": "0.1.0", "edition": "Community", "productname": "OpenCloud", "product": "OpenCloud",
			"productversion": "0.1.0+dev"}
	}
	return object{"installed": true, "maintenance": down, "needsDbUpgrade": false, "version": "34.0.1.2",
		"versionstring": "34.0.1", "edition": "", "productname": "Nextcloud", "extendedSupport": false}
}

// ocs answers the few calls of the OCS API that clients of files make. path is
// what follows /ocs/.
func (q *request) ocs(path string) error {
	_, call, _ := strings.Cut(path, "/")
	if q.header("OCS-APIRequest") == "" {
		return q.ocsReply(http.StatusPreconditionFailed, "CSRF check failed", object{})
	}
	if call == "cloud/capabilities" {
		return q.ocsReply(http.StatusOK, "OK", q.capabilities())
	}
	if err := q.authenticate(); err != nil {
		return q.ocsReply(http.StatusUnauthorized, "Current user is not logged in", object{})
	}
	if q.s.maintenance.Load() {
		return q.ocsReply(http.StatusServiceUnavailable, "Service unavailable", object{})
	}
	switch {
	case call == "cloud/user":
		return q.ocsReply(http.StatusOK, "OK", q.userDoc())
	case call == "core/getapppassword" && q.b().services:
		return q.makeAppPassword()
	case call == "core/apppassword" && q.b().services && q.r.Method == http.MethodDelete:
		_, password, _ := q.r.BasicAuth()
		if !q.s.store.revoke(password) {
			return q.ocsReply(http.StatusForbidden, "no app password in use", object{})
		}
		return q.ocsReply(http.StatusOK, "OK", object{})
	}
	return q.ocsReply(http.StatusNotFound, "Invalid query, please check the syntax.", object{})
}

func (q *request) ocsReply(status int, message string, data object) error {
	state := "ok"
	if status != http.StatusOK {
		state = "failure"
	}
	return q.sendJSON(status, object{"ocs": object{
		"meta": object{"status": state, "statuscode": status, "message": message}, "data": data,
	}})
}

// makeAppPassword changes a login password into an app password, once.
func (q *request) makeAppPassword() error {
	if q.app {
		return q.ocsReply(http.StatusForbidden, "You cannot request an new apppassword with an apppassword", object{})
	}
	secret := newSecret()
	q.s.store.grant(q.user, secret)
	return q.ocsReply(http.StatusOK, "OK", object{"apppassword": secret})
}

func newSecret() string { return rand.Text() + rand.Text() + rand.Text()[:20] }

func (q *request) userDoc() object {
	limit, used := q.s.users[q.user].Quota, q.s.store.used(q.user)
	quota := object{"used": used, "quota": -3, "free": -3, "total": -3, "relative": 0}
	if limit > 0 {
		quota = object{"used": used, "quota": limit, "free": max(0, limit-used), "total": limit,
			"relative": float64(used*10000/limit) / 100}
	}
	return object{"id": q.user, "enabled": true, "displayname": q.user, "display-name": q.user, "email": nil, "quota": quota}
}

// capabilities is the part of the document that concerns files.
func (q *request) capabilities() object {
	if q.b().status == statusOpenCloud {
		return q.capabilitiesOpenCloud()
	}
	files := object{
		"bigfilechunking": true, "undelete": true, "versioning": true, "blacklisted_files": []string{".htaccess"},
		"chunked_upload":               object{"max_size": 104857600, "max_parallel_count": 5},
		"forbidden_filenames":          []string{".htaccess"},
		"forbidden_filename_basenames": []string{}, "forbidden_filename_characters": []string{`\`, "/"},
		"forbidden_filename_extensions": []string{".filepart", ".part"},
		"windows_compatible_filenames":  false,
	}
	if !q.s.opts.NoLocks {
		files["locking"], files["api-feature-lock-type"] = "1.0", true
	}
	dav := object{"chunking": "1.0", "public_shares_chunking": false}
	if !q.s.opts.NoBulk {
		dav["bulkupload"] = "1.0"
	}
	return object{
		"version": object{"major": 34, "minor": 0, "micro": 1, "string": "34.0.1", "edition": "", "extendedSupport": false},
		"capabilities": object{
			"bruteforce": object{"delay": 0, "allow-listed": false},
			"core":       object{"pollinterval": 60, "webdav-root": "remote.php/webdav", "can-create-app-token": true},
			"dav":        dav,
			"files":      files,
		},
	}
}

func (q *request) capabilitiesOpenCloud() object {
	return object{
		"version": object{"major": 0, "minor": 1, "micro": 0, "string": "0.1.0", "edition": "Community",
			"product": "OpenCloud", "productversion": "0.1.0+dev"},
		"capabilities": object{
			"checksums": object{"preferredUploadType": "sha1", "supportedTypes": []string{"sha1", "md5", "adler32"}},
			"core":      object{"pollinterval": 60, "status": q.statusDoc(), "webdav-root": "remote.php/webdav"},
			"dav":       object{"chunking": "", "chunkingParallelUploadDisabled": false, "reports": []string{"search-files"}, "trashbin": "1.0"},
			"files": object{
				"archivers":       q.archiverDoc(),
				"bigfilechunking": false, "undelete": true, "versioning": true, "blacklisted_files": []string{},
				"tus_support": object{"version": "1.0.0", "resumable": "1.0.0", "extension": q.s.tusExtensions("creation,creation-with-upload"),
					"max_chunk_size": tusMaxChunk, "http_method_override": ""},
			},
			"spaces": object{"enabled": true, "max_quota": 0, "projects": true, "share_jail": true, "version": "1.0.0"},
		},
	}
}

// form returns a value of a form in the body.
func (q *request) form(name string) string {
	q.r.Body = io.NopCloser(io.LimitReader(q.r.Body, maxBody))
	return q.r.PostFormValue(name)
}
