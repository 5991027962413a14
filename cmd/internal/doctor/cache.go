package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/meshmount/meshmount/cmd/internal/assemble"
	"github.com/meshmount/meshmount/cmd/internal/pending"
	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/cmd/internal/state"
	"github.com/meshmount/meshmount/prefetch"
)

// scarce is the free space below which the doctor warns.
const scarce = 1 << 30

// cache examines the cache directory, or the nearest directory above it that exists.
func (d *Doctor) cache() Finding {
	f := Finding{Check: "cache directory", Status: OK}
	dir, err := existing(d.CacheDir)
	if err == nil && dir == d.CacheDir {
		err = state.CheckPrivate(dir)
	}
	if err == nil {
		err = unix.Access(dir, unix.W_OK|unix.X_OK)
	}
	var st unix.Statfs_t
	if err == nil {
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		f = fault("cache directory", err)
		f.Detail = strings.TrimPrefix(f.Detail, "cache directory ")
		if f.Remedy == "" {
			f.Detail, f.Remedy = dir+": "+f.Detail, "choose another --cache-dir"
		}
		return f
	}
	if parked := d.parked(); len(parked) > 0 {
		f.Status, f.Detail = Warn, fmt.Sprintf("%s holds %d files that no server took", d.CacheDir, len(parked))
		f.Remedy = "copy them to where they belong and remove them: " + parked[0] + " and others; the note beside each tells its place"
		return f
	}
	if n := d.pending(); n > 0 {
		f.Status, f.Detail = Warn, fmt.Sprintf("%s holds %s of mounts that have ended, and not on a server", d.CacheDir, pending.Number(n))
		f.Remedy = "see: meshmount status; a mount of the same branches uploads them"
		return f
	}
	free := st.Bavail * uint64(st.Bsize)
	f.Detail = fmt.Sprintf("%s, %s free", d.CacheDir, Bytes(int64(min(free, 1<<62))))
	if free < scarce {
		f.Status, f.Remedy = Warn, "make room: a file that is open for writing is kept there until the server has it"
	}
	return f
}

// parked lists the content that mounts have kept because no server took it.
func (d *Doctor) parked() []string {
	var list []string
	for _, pattern := range []string{"parked/*", "*/parked/*"} {
		found, _ := filepath.Glob(filepath.Join(d.CacheDir, pattern))
		list = append(list, slices.DeleteFunc(found, func(name string) bool { return strings.HasSuffix(name, ".json") })...)
	}
	return list
}

// existing returns dir or the nearest directory above it that exists.
func existing(dir string) (string, error) {
	for {
		_, err := os.Stat(dir)
		if err == nil || !errors.Is(err, os.ErrNotExist) || dir == "/" {
			return dir, err
		}
		dir = filepath.Dir(dir)
	}
}

// memory tells how much memory a mount here may use.
func (d *Doctor) memory() Finding {
	limit, err := prefetch.CgroupLimit(prefetch.SelfCgroup, prefetch.CgroupRoot)
	if err != nil {
		return Finding{Check: "memory", Status: Warn, Detail: "the limit of the control group is not known: " + err.Error(), Remedy: "give --memory as small as the job can spare"}
	}
	return d.memoryUnder(limit)
}

// memoryUnder is memory with the limit of the control group, 0 for none.
func (d *Doctor) memoryUnder(limit int64) Finding {
	config := *d.Config // what does not fit is fitted in
	config.Branches = slices.Clone(config.Branches)
	m, err := assemble.FitMemory(&config, limit)
	if err != nil {
		return fault("memory", err)
	}
	f := Finding{Check: "memory", Status: OK, Detail: fmt.Sprintf("up to %s, of which %s for what is read ahead", Bytes(m.Whole), Bytes(m.Ahead))}
	if m.Limited {
		f.Detail += fmt.Sprintf("; the control group allows %s in all", Bytes(limit))
	}
	return f
}

// fileSystems are the types (statfs(2)) on which a cache needs a word.
var fileSystems = map[int64]struct {
	name   string
	remote bool
}{
	unix.NFS_SUPER_MAGIC: {"NFS", true}, unix.CEPH_SUPER_MAGIC: {"Ceph", true}, unix.SMB_SUPER_MAGIC: {"SMB", true},
	unix.CIFS_SUPER_MAGIC: {"SMB", true}, unix.SMB2_SUPER_MAGIC: {"SMB", true}, unix.AFS_SUPER_MAGIC: {"AFS", true},
	unix.FUSE_SUPER_MAGIC: {"FUSE", true}, unix.V9FS_MAGIC: {"9P", true},
	0x0BD00BD3: {"Lustre", true}, 0x47504653: {"GPFS", true}, 0x19830326: {"BeeGFS", true},
	unix.TMPFS_MAGIC: {"tmpfs", false}, unix.RAMFS_MAGIC: {"ramfs", false},
}

// blocks examines the place of the block cache.
func (d *Doctor) blocks() []Finding {
	const check = "block cache"
	if d.Config.Cache != settings.CacheOn {
		return []Finding{{Check: check, Status: OK, Detail: "off"}}
	}
	dir, err := existing(d.CacheDir)
	if err != nil {
		return nil // told as the cache directory's fault
	}
	if err := state.CanReserve(dir); err != nil {
		return []Finding{{Check: check, Status: Warn, Detail: fmt.Sprintf("reads will not be cached: %s cannot reserve space for files: %v", dir, err),
			Remedy: "choose a --cache-dir on a local disk, or use --cache=off"}}
	}
	findings := []Finding{d.room(check, dir)}
	if c := state.LookAt(d.CacheDir); c.PID != 0 {
		findings = append(findings, Finding{Check: check, Status: Warn, Detail: fmt.Sprintf("%s is in use by process %d, mounted on %s", c.Dir, c.PID, c.Point),
			Remedy: "choose another --cache-dir for another mount"})
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return append(findings, fault(check, err))
	}
	if f, odd := placed(check, dir, int64(st.Type)); odd {
		findings = append(findings, f)
	}
	return findings
}

// room tells how large the cache may get.
func (d *Doctor) room(check, dir string) Finding {
	size, err := assemble.CacheSize(d.Config, assemble.BlocksDir(dir))
	if err != nil {
		return Finding{Check: check, Status: Warn, Detail: "reads will not be cached: " + err.Error(), Remedy: "make room, or choose another --cache-dir"}
	}
	f := Finding{Check: check, Status: OK, Detail: fmt.Sprintf("up to %s, leaving %s free", Bytes(size), Bytes(int64(d.Config.CacheReserve)))}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fault(check, err)
	}
	free := int64(min(st.Bavail, 1<<62/uint64(st.Bsize))) * st.Bsize
	if need := size + int64(d.Config.CacheReserve) - assemble.Taken(assemble.BlocksDir(d.CacheDir)); free < need {
		f.Status, f.Detail = Warn, f.Detail+fmt.Sprintf("; but only %s is free there, so that it will stay smaller", Bytes(free))
		f.Remedy = "make room, give a smaller --cache-size or --cache-reserve, or choose another --cache-dir"
	}
	return f
}

// placed warns of file systems on which a cache is of little use.
func placed(check, dir string, magic int64) (f Finding, odd bool) {
	kind, odd := fileSystems[magic]
	f = Finding{Check: check, Status: Warn, Detail: dir + " is on " + kind.name + ": what is cached there takes memory", Remedy: "choose a --cache-dir on a local disk, if there is one"}
	if kind.remote {
		f.Detail = dir + " is on " + kind.name + ": what is cached there goes over the network again"
	}
	return f, odd
}
