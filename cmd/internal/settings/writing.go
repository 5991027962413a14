package settings

import "strconv"

// Values of the options write, fsync, archive and written-times.
const (
	WriteBack    = "back"
	WriteThrough = "through"

	FsyncLocal  = "local"
	FsyncRemote = "remote"

	ArchiveExpand = "expand"
	ArchiveKeep   = "keep"
	ArchiveOff    = "off"

	TimesCheap = "cheap"
	TimesExact = "exact"
)

const (
	// leastStaging has room for the parts of a few files that are written at a time.
	leastStaging = MiB
	// leastRate is a limit under which a request still makes progress before --io-timeout.
	leastRate = 16 * KiB
)

// writeOptions are about what is written, and how it gets to the servers.
func writeOptions() []*Option {
	return []*Option{
		{Name: "write", Unit: "WHEN", Default: WriteBack, Choices: []string{WriteBack, WriteThrough},
			Help:  "when close returns: back = when the file is on the local disk, and it is uploaded behind; through = when the server has it, with the server's error",
			whole: func(s *Settings) any { return &s.Write }},
		{Name: "fsync", Unit: "WHERE", Default: FsyncLocal, Choices: []string{FsyncLocal, FsyncRemote},
			Help:  "where a file is when fsync returns: local = on this node's disk, remote = on the server; with --write=through always remote",
			whole: func(s *Settings) any { return &s.Fsync }},
		{Name: "staging-size", Unit: "SIZE", Default: "10GiB", Least: leastStaging,
			Help:  "most that written data takes on the local disk until it is on the servers; unless given, at most half of what is free there. When it is full, programs write as fast as is uploaded",
			whole: func(s *Settings) any { return &s.StagingSize }},
		{Name: "staging-reserve", Unit: "SIZE", Default: "256MiB",
			Help:  "free space that written data leaves on its file system; unless given, at most an eighth of what is free there. Less than --cache-reserve, so that the cache gives way first",
			whole: func(s *Settings) any { return &s.StagingReserve }},
		{Name: "upload-delay", Unit: "DURATION", Default: "1s", Scope: PerBranch,
			Help:   "how long a closed file waits before it is uploaded, for being written again or removed; a tenth of it when so many small new files wait as fill what is uploaded together (batch-files, batch-bytes)",
			branch: func(b *Branch) any { return &b.UploadDelay }},
		{Name: "early-upload", Unit: "SIZE", Default: "32MiB", ZoneDefault: "8MiB", Scope: PerBranch, Least: MiB, ZeroToo: true,
			Help:   "from this size on a new file is uploaded while it is still being written; 0 = never",
			branch: func(b *Branch) any { return &b.EarlyUpload }},
		{Name: "written-times", Unit: "HOW", Default: TimesCheap, Choices: []string{TimesCheap, TimesExact}, Scope: PerBranch,
			Help:   "whether servers get to know when a file was written: exact = always, cheap = if that takes no request of its own; times that programs set are always stored",
			branch: func(b *Branch) any { return &b.WrittenTimes }},
		{Name: "batch-file-size", Unit: "SIZE", Default: "1MiB", Scope: PerBranch, ZeroToo: true, Least: KiB,
			Help:   "largest new file that is uploaded together with others, where the server can take many at a time; 0 = each by itself",
			branch: func(b *Branch) any { return &b.BatchFileSize }},
		{Name: "bulk-upload", Default: "false", Scope: PerBranch, For: Share,
			Help:   "have a Nextcloud take the files that are uploaded together in one request: quicker by a little, but what somebody else makes under one of the names at the same moment is replaced",
			branch: func(b *Branch) any { return &b.BulkUpload }},
		{Name: "batch-files", Unit: "NUMBER", Default: "500", Scope: PerBranch, Min: 2,
			Help:   "most files that are uploaded together",
			branch: func(b *Branch) any { return &b.BatchFiles }},
		{Name: "batch-bytes", Unit: "SIZE", Default: "32MiB", Scope: PerBranch, Least: KiB,
			Help:   "most bytes that are uploaded together",
			branch: func(b *Branch) any { return &b.BatchBytes }},
		{Name: "batch-delay", Unit: "DURATION", Default: "250ms", Scope: PerBranch,
			Help:   "how long a file that could be uploaded waits for others to go with, besides --upload-delay, while they do not fill what is uploaded together; a flush, fsync to the server and the end of the mount do not wait",
			branch: func(b *Branch) any { return &b.BatchDelay }},
		{Name: "archive", Unit: "HOW", Default: ArchiveExpand, Choices: []string{ArchiveExpand, ArchiveKeep, ArchiveOff}, Scope: PerBranch,
			Help:   "what becomes of small files that are uploaded together: expand = files on the server, if it can take many at a time; keep = they stay in one hidden archive per directory and upload, which mounts with this setting show as files; off = each goes by itself",
			branch: func(b *Branch) any { return &b.Archive }},
		{Name: "uploads", Unit: "NUMBER", Default: "16", ZoneDefault: "8", Scope: PerBranch, Min: 1,
			Help:   "most uploads at a time; at most as many as requests to the server at a time, which are max-connections, on a zone four times as many",
			branch: func(b *Branch) any { return &b.Uploads }},
		{Name: "upload-limit", Unit: "SIZE", Default: "0", Least: leastRate, ZeroToo: true,
			Help:  "most bytes per second that go to all servers together; 0 = no limit",
			whole: func(s *Settings) any { return &s.UploadLimit }},
		{Name: "download-limit", Unit: "SIZE", Default: "0", Least: leastRate, ZeroToo: true,
			Help:  "most bytes per second that come from all servers together; 0 = no limit",
			whole: func(s *Settings) any { return &s.DownloadLimit }},
		{Name: "drain-timeout", Unit: "DURATION", Default: "5m",
			Help:  "how long an unmount goes on uploading; what is left then stays on the local disk, and the next mount uploads it; 0 = for ever",
			whole: func(s *Settings) any { return &s.DrainTimeout }},
	}
}

// tuneWriting fits options of writing that depend on each other.
func (r *resolver) tuneWriting() error {
	c := &r.config.Settings
	if c.Write == WriteThrough && c.Fsync == FsyncLocal {
		if r.given("", "fsync") {
			return r.contradiction("", "fsync", "write", "give --write=back, or leave --fsync away",
				"fsync is %s and write is %s: then fsync returns when the server has the file", c.Fsync, c.Write)
		}
		c.Fsync = FsyncRemote
	}
	if c.Write == WriteBack && c.Cache == CacheOn && r.given("", "staging-reserve") && r.given("", "cache-reserve") && c.StagingReserve > c.CacheReserve {
		return r.contradiction("", "staging-reserve", "cache-reserve", "give --cache-reserve="+c.StagingReserve.String()+" or more",
			"staging-reserve %s is more than cache-reserve %s: the cache would take the space for what is written", c.StagingReserve, c.CacheReserve)
	}
	for i := range r.config.Branches {
		if err := r.tuneUploads(&r.config.Branches[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) tuneUploads(b *Branch) error {
	if most := b.Calls(); b.Uploads > most {
		if r.given(b.Name, "uploads") {
			need := b.Uploads
			if b.Kind() == Zone {
				need = (need + callsPerConnection - 1) / callsPerConnection
			}
			return r.contradiction(b.Name, "uploads", "max-connections", "give --max-connections="+strconv.Itoa(need)+" or more, or fewer uploads",
				"%s: %d uploads at a time need %d connections, and max-connections is %d", b.Title(), b.Uploads, need, b.MaxConnections)
		}
		b.Uploads = most
	}
	if b.Archive == ArchiveOff {
		b.BatchFileSize = 0
	}
	if b.BatchFileSize > b.BatchBytes {
		if r.given(b.Name, "batch-file-size") {
			return r.contradiction(b.Name, "batch-file-size", "batch-bytes", "give --batch-bytes="+b.BatchFileSize.String()+" or more, or a smaller --batch-file-size",
				"%s: batch-file-size %s is more than batch-bytes %s", b.Title(), b.BatchFileSize, b.BatchBytes)
		}
		b.BatchFileSize = b.BatchBytes
	}
	// Half of the staging holds what one growing file has before it is uploaded.
	if most := r.config.StagingSize / 2; b.EarlyUpload > most {
		if r.given(b.Name, "early-upload") {
			return r.contradiction(b.Name, "early-upload", "staging-size", "give --staging-size="+(2*b.EarlyUpload).String()+" or more, or a smaller --early-upload",
				"%s: early-upload %s is more than half of staging-size %s", b.Title(), b.EarlyUpload, r.config.StagingSize)
		}
		b.EarlyUpload = most
	}
	return nil
}
