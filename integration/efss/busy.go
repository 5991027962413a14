package efss

import (
	"net/http"
	"sync"
)

// busyTable knows which files are being written or read. It is what makes
// Nextcloud answer 423 to whoever comes meanwhile.
type busyTable struct {
	mu      sync.Mutex
	writers map[string]bool
	readers map[string]int
}

func newBusyTable() *busyTable {
	return &busyTable{writers: map[string]bool{}, readers: map[string]int{}}
}

// write claims a path for one writer. It fails if there is a writer or, with
// alone, a reader. The returned function ends the claim.
func (t *busyTable) write(user, path string, alone bool) (func(), bool) {
	key := user + path
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writers[key] || alone && t.readers[key] > 0 {
		return nil, false
	}
	t.writers[key] = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.writers, key)
	}, true
}

// read claims a path for one more reader until the returned function is called. It
// is false, and nothing is claimed, while there is a writer.
func (t *busyTable) read(user, path string) (func(), bool) {
	key := user + path
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writers[key] {
		return func() {}, false
	}
	t.readers[key]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.readers[key]--; t.readers[key] == 0 {
			delete(t.readers, key)
		}
	}, true
}

// below tells whether somebody writes, or with readers also reads, path or anything
// below it.
func (t *busyTable) below(user, path string, readers bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	top := user + path
	for key := range t.writers {
		if key == top || isBelow(key, top) {
			return true
		}
	}
	for key := range t.readers {
		if readers && (key == top || isBelow(key, top)) {
			return true
		}
	}
	return false
}

// locked is the answer to whoever meets a transfer in progress.
func (q *request) locked() error {
	return &failure{status: http.StatusLocked, exception: `OCA\DAV\Connector\Sabre\Exception\FileLocked`,
		message: `"files` + q.path + `" is locked`}
}

// checkBusy refuses a change of path, or of what is below it, during a transfer.
func (q *request) checkBusy(path string) error {
	if q.b().busy && q.s.busy.below(q.user, path, q.s.opts.ReadLocks) {
		return q.locked()
	}
	return nil
}
