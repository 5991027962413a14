package doctor

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/pending"
)

// pending counts the changes that mounts which have ended have left.
func (d *Doctor) pending() (sum int) {
	dirs, _ := filepath.Glob(filepath.Join(d.CacheDir, "*"))
	for _, dir := range append(dirs, d.CacheDir) {
		if n, err := pending.Count(dir); err == nil {
			sum += n
		}
	}
	return sum
}

// staging examines the place of what is written.
func (d *Doctor) staging() []Finding {
	const check = "staging"
	if !assemble.WritesBack(d.Config) {
		return []Finding{{Check: check, Status: OK, Detail: "none: close returns when the server has the file"}}
	}
	dir, err := existing(d.CacheDir)
	if err != nil {
		return nil // told as the cache directory's fault
	}
	room, err := assemble.FitStaging(d.Config, dir)
	if err != nil {
		return []Finding{{Check: check, Status: Fail, Detail: "what is written cannot be kept: " + err.Error(),
			Remedy: "make room, choose another --cache-dir, or use --write=through"}}
	}
	f := Finding{Check: check, Status: OK, Detail: fmt.Sprintf("up to %s until it is uploaded, leaving %s free", Bytes(room.Size), Bytes(room.Reserve))}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return []Finding{fault(check, err)}
	}
	if kind, odd := fileSystems[int64(st.Type)]; odd {
		f.Status, f.Remedy = Warn, "choose a --cache-dir on a local disk, if there is one"
		f.Detail = dir + " is on " + kind.name + ": what is written takes memory, and is lost when the machine goes down"
		if kind.remote {
			f.Detail = dir + " is on " + kind.name + ": what is written goes over the network twice"
		}
	}
	return []Finding{f}
}
