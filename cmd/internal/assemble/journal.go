package assemble

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cache/writeback"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/remote"
)

// WritesBack tells whether a mount keeps what is written in a journal: it is to, and there
// is a branch that takes changes.
func WritesBack(config *settings.Config) bool {
	return config.Settings.Write == settings.WriteBack &&
		slices.ContainsFunc(config.Branches, func(b settings.Branch) bool { return !b.ReadOnly })
}

// Staging is how much room there is for written data, in bytes.
type Staging struct{ Size, Reserve int64 }

// The least room for staging, and for journal and staging, with which a mount is begun.
const (
	leastRoom = int64(settings.MiB)
	leastFree = 4 * int64(settings.MiB)
)

// FitStaging returns how much written data may take below a cache directory, which must
// exist: what was given, or the defaults, and not more than half of what would be free
// without it. A reserve that was not given is at most an eighth of that.
func FitStaging(config *settings.Config, cacheDir string) (Staging, error) {
	s := Staging{int64(config.StagingSize), int64(config.StagingReserve)}
	var st unix.Statfs_t
	if err := unix.Statfs(cacheDir, &st); err != nil {
		return s, err
	}
	free := int64(min(st.Bavail, math.MaxInt64/4/uint64(st.Bsize))) * st.Bsize
	taken := Taken(pending.Dir(cacheDir))
	if !config.Given("", "staging-reserve") {
		s.Reserve = min(s.Reserve, (free+taken)/8)
	}
	if !config.Given("", "staging-size") {
		s.Size = min(s.Size, (free+taken)/2)
	}
	if free+taken-s.Reserve < leastFree && !staged(cacheDir) {
		return s, fmt.Errorf("only %s is free on its file system, and --staging-reserve leaves %s", settings.Size(free), settings.Size(s.Reserve))
	}
	s.Size = max(s.Size, leastRoom)
	return s, nil
}

// staged tells whether an earlier mount has left content, which is uploaded whatever room
// there is.
func staged(cacheDir string) bool {
	names, _ := filepath.Glob(filepath.Join(pending.Dir(cacheDir), "staging", "*"))
	return len(names) > 0
}

// requestsEnd is how long the last requests of a process that was killed may take to reach
// the server: they have left the machine long before the next mount is there.
const requestsEnd = 300 * time.Millisecond

// OpenJournal opens the journal of changes in a cache directory, and its staging. The
// error is an *exit.Error: without it there is no --write=back.
func OpenJournal(config *settings.Config, cacheDir, hostname string, log *slog.Logger) (*writeback.Store, error) {
	dir := pending.Dir(cacheDir)
	if err := checkTrees(config); err != nil {
		return nil, err
	}
	if err := state.Private(dir); err != nil {
		return nil, noJournal(dir, err)
	}
	room, err := FitStaging(config, cacheDir)
	if err != nil {
		return nil, noJournal(dir, err)
	}
	store, err := writeback.Open(dir, writeback.Options{Size: room.Size, Reserve: room.Reserve, Hostname: hostname, Logger: log, Grace: requestsEnd})
	if err != nil {
		return nil, noJournal(dir, err)
	}
	names := map[string]string{}
	for i := range config.Branches {
		b := &config.Branches[i]
		// Half of the staging holds what one growing file has before it is uploaded.
		b.EarlyUpload = min(b.EarlyUpload, settings.Size(room.Size/2))
		if !b.ReadOnly {
			names[Tree(b)] = "/" + b.Name
		}
	}
	if err := pending.SaveNames(cacheDir, names); err != nil {
		return nil, errors.Join(noJournal(dir, err), store.Close())
	}
	return store, nil
}

// checkTrees refuses two writable branches with the same tree: one would not see the
// pending changes of the other.
func checkTrees(config *settings.Config) error {
	first := map[string]*settings.Branch{}
	for i := range config.Branches {
		b := &config.Branches[i]
		if b.ReadOnly {
			continue
		}
		if a, ok := first[Tree(b)]; ok {
			return exit.New(exit.Config, "leave one out, make one --read-only, or use --write=through",
				"%s and %s are the same collection, and what is written in one would not show in the other", a.Title(), b.Title())
		}
		first[Tree(b)] = b
	}
	return nil
}

// noJournal is the error of a journal that cannot be had.
func noJournal(dir string, err error) error {
	if locked, ok := errors.AsType[*writeback.LockedError](err); ok {
		return exit.New(exit.CacheBusy, "wait for it or choose another --cache-dir", "%w", locked)
	}
	const remedy = "make room or choose another --cache-dir; with --write=through nothing is kept here"
	if e, ok := errors.AsType[*exit.Error](err); ok {
		return &exit.Error{Code: e.Code, What: e.What, Remedy: remedy, Err: e}
	}
	return exit.New(exit.CacheBad, remedy, "what is written cannot be kept in %s: %w", dir, err)
}

// How removals wait for others that may leave with them: who removes a tree removes thousands
// of entries a second, and each directory after what is in it; but it may have to list a
// directory of a server far away in between.
const (
	pruneMost    = 50_000
	pruneLull    = 250 * time.Millisecond
	pruneLongest = 2 * time.Second
)

// WritePolicy is how a branch is written, in a mount with that umask. blocks is its block cache,
// nil without.
func WritePolicy(b *settings.Branch, umask settings.Octal, blocks *cache.Cached) writeback.Policy {
	p := writeback.Policy{Name: "/" + b.Name, Tree: Tree(b), Workers: b.Uploads, Delay: b.UploadDelay, Early: int64(b.EarlyUpload),
		Usual: remote.ModesOf(uint32(umask)), Loose: b.WrittenTimes == settings.TimesCheap,
		Batch: writeback.Batching{Size: int64(b.BatchFileSize), Files: b.BatchFiles, Bytes: int64(b.BatchBytes), Delay: b.BatchDelay},
		Prune: writeback.Pruning{Most: pruneMost, Lull: min(b.UploadDelay, pruneLull), Longest: pruneLongest}}
	if b.Kind() == settings.Share {
		p.Calls = (b.Calls() - b.Uploads) * 3 / 4 // the others are for who reads
	}
	if blocks != nil {
		p.Prime = blocks.Prime
	}
	return p
}

// Waiting tells in a sentence what earlier mounts have left in a journal, "" if nothing.
// point is the mount's.
func Waiting(now *writeback.Status, point string) string {
	parked, elsewhere := 0, []string{}
	for i := range now.Branches {
		b := &now.Branches[i]
		parked += b.Parked
		if n := b.Pending + b.Parked; !b.Mounted && n > 0 {
			elsewhere = append(elsewhere, fmt.Sprintf("%d for %s", n, b.Tree))
		}
	}
	var parts []string
	if now.Damage != "" {
		parts = append(parts, "the journal of an earlier mount is damaged: "+now.Damage)
	}
	if parked > 0 {
		parts = append(parts, pending.Number(parked)+" of an earlier mount could not be stored")
	}
	if len(elsewhere) > 0 {
		parts = append(parts, "changes wait for a tree that is not mounted here: "+strings.Join(elsewhere, ", "))
	}
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, "; ") + "; see: meshmount status " + point
}
