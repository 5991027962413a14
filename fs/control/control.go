// Package control lets other processes talk to a running mount: HTTP and JSON over a
// socket of the local machine. It holds the server, which a mount runs, and the client.
//
//	POST /v1/refresh   {"path": "/a/b"}              forget what is remembered of a path
//	GET  /v1/stats                                   what the mount has done, and with what
//	GET  /v1/status?items=100                        changes that are not on their servers yet
//	GET  /v1/items                                   each of them (lines)
//	GET  /v1/progress                                how many there are, in short
//	POST /v1/flush     {"path": "/a/b"}              wait until none is left there (lines)
//	POST /v1/retry     {"id": 7} or {"all": true}    try again what is parked
//	POST /v1/drop      {"id": 7, "lose": true}       give up a change for good
//	POST /v1/export    {"dir": "/tmp/x", "ids": [7]} copy parked content (lines)
//	POST /v1/pause, /v1/resume                       hold uploads, go on with them
//
// An error is a status and {"kind": "...", "path": "...", "message": "..."}; the client makes a
// *remote.Error of it. A path is one within the mount, beginning with a slash.
//
// Answers marked "lines" may be long or take long: they are sent piece by piece, a JSON
// object on each line, the last of which has "end": true and the error, if there is one. An
// answer without that line was cut off. A status names no more items than it is asked for,
// and no more than MaxItems; all other answers have a bound of their own.
//
// # Who may
//
// The socket has mode 0600 and belongs in a private directory. Besides that, the server
// asks the kernel for the user of each connection (SO_PEERCRED) and refuses all but its
// own and root; the client does not talk to a server of another user, unless it is root.
//
// # Long names
//
// The address of a socket has room for 107 bytes (unix(7)). Names that are longer go
// through /proc/self/fd, so that any path will do.
package control

import (
	"context"
	"time"
)

// Target is a mount, for the server. Its methods are called from many goroutines.
type Target interface {
	// Refresh forgets what is remembered of path and of what is below it, so that the
	// next look asks the server.
	Refresh(ctx context.Context, path string) error
	// Stats tells what the mount has done so far.
	Stats(ctx context.Context) (Stats, error)
	Changes
}

// Stats is what a mount has done since it began.
type Stats struct {
	PID        int       `json:"pid"`
	Mountpoint string    `json:"mountpoint"`
	Version    string    `json:"version"` // of the program
	Started    time.Time `json:"started"`
	Memory     Memory    `json:"memory"`
	// Cache is nil if nothing is cached on disk.
	Cache *Cache `json:"cache,omitempty"`
	// Ahead is nil if nothing is read ahead.
	Ahead    *Ahead   `json:"read_ahead,omitempty"`
	Branches []Branch `json:"branches"`
}

// Memory is in bytes.
type Memory struct {
	Limit    int64 `json:"limit"`    // that the process keeps to
	Resident int64 `json:"resident"` // in the machine's memory, mapped files included
	Heap     int64 `json:"heap"`     // of objects, those not collected yet included
}

// Cache counts what the block cache did, in blocks unless it says bytes.
type Cache struct {
	Dir       string `json:"dir"`
	State     string `json:"state"` // "ready", "full", "off"
	Reason    string `json:"reason,omitempty"`
	BlockSize int    `json:"block_size"` // bytes
	Slots     int    `json:"slots"`      // there is space for at present
	MaxSlots  int    `json:"max_slots"`
	Free      int    `json:"free"` // of Slots
	Hits      int64  `json:"hits"` // reads, not blocks
	Misses    int64  `json:"misses"`
	HitBytes  int64  `json:"hit_bytes"`
	Puts      int64  `json:"puts"`
	PutBytes  int64  `json:"put_bytes"`
	Refused   int64  `json:"refused"`
	Evicted   int64  `json:"evicted"`
	Corrupt   int64  `json:"corrupt"`
	Listings  Meta   `json:"listings"`
}

// Meta counts what is remembered on disk of directories.
type Meta struct {
	On       bool   `json:"on"`
	Reason   string `json:"reason,omitempty"` // why it is not on
	Kept     int    `json:"kept"`
	Bytes    int64  `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
	Loads    int64  `json:"loads"`
	Hits     int64  `json:"hits"` // loads that found something
	Saves    int64  `json:"saves"`
	Dropped  int64  `json:"dropped"`
	Corrupt  int64  `json:"corrupt"`
}

// Ahead is the memory for what is read ahead, in bytes.
type Ahead struct {
	Limit   int64 `json:"limit"`
	Used    int64 `json:"used"`
	Kept    int64 `json:"kept"`    // idle, for reuse
	Most    int64 `json:"most"`    // highest Used so far
	Refused int64 `json:"refused"` // a count
	Readers int   `json:"readers"` // open files that read ahead
}

// Branch counts the requests to one server, by operation.
type Branch struct {
	Name string        `json:"name"`
	URL  string        `json:"url"`
	Ops  map[string]Op `json:"ops"`
}

// Op counts one operation. Bytes are of the content of files.
type Op struct {
	Calls     int64            `json:"calls"` // ended
	InFlight  int64            `json:"in_flight"`
	Cancelled int64            `json:"cancelled,omitempty"`
	Errors    map[string]int64 `json:"errors,omitempty"` // by kind
	Seconds   float64          `json:"seconds"`          // sum over the ended calls
	Longest   float64          `json:"longest"`          // seconds
	Received  int64            `json:"received"`
	Sent      int64            `json:"sent"`
}

// Paths of the interface.
const (
	pathRefresh  = "/v1/refresh"
	pathStats    = "/v1/stats"
	pathStatus   = "/v1/status"
	pathItems    = "/v1/items"
	pathProgress = "/v1/progress"
	pathFlush    = "/v1/flush"
	pathRetry    = "/v1/retry"
	pathDrop     = "/v1/drop"
	pathExport   = "/v1/export"
	pathPause    = "/v1/pause"
	pathResume   = "/v1/resume"
)

// pathRequest is the body of a request to refresh or to flush.
type pathRequest struct {
	Path string `json:"path"`
}

// failure is the body of an answer that is an error.
type failure struct {
	Kind    string `json:"kind"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message,omitempty"`
}
