package settings

import (
	"strconv"

	"github.com/meshmount/meshmount/cache"
	"github.com/meshmount/meshmount/cmd/internal/exit"
	"github.com/meshmount/meshmount/prefetch"
)

// Values of the option cache.
const (
	CacheOn  = "on"
	CacheOff = "off"
)

// Bounds of one request, those of package prefetch.
const (
	leastRequest = 128 * KiB
	mostRequest  = 8 * MiB
)

// LeastMemory is the least that the option memory takes.
const LeastMemory = 64 * MiB

// readOptions are about what is fetched before it is asked for.
func readOptions() []*Option {
	return []*Option{
		{Name: "memory", Unit: "SIZE", Default: "256MiB", Least: LeastMemory,
			Help:  "memory of the whole process; about a quarter of it holds what was read ahead. At most half of what the control group allows is used",
			whole: func(s *Settings) any { return &s.Memory }},
		{Name: "streams", Unit: "NUMBER", Default: "16", ZoneDefault: "8", Scope: PerBranch, Min: 1,
			Help:   "requests at a time that read ahead, as many as it takes to fill the way to the server; at most half of max-connections (on a zone twice as many as that: requests share connections), so that reads that somebody waits for get through",
			branch: func(b *Branch) any { return &b.Streams }},
		{Name: "max-request", Unit: "SIZE", Default: Size(prefetch.DefaultMaxRequest).String(), Scope: PerBranch, Least: leastRequest, Most: mostRequest,
			Help:   "most that one request reads, from 128KiB to 8MiB; larger ones cost less time far away, and more memory",
			branch: func(b *Branch) any { return &b.MaxRequest }},
		{Name: "read-ahead", Unit: "SIZE", Default: Size(prefetch.DefaultMaxWindow).String(), Scope: PerBranch, Least: leastRequest, ZeroToo: true,
			Help:   "most that is read ahead in one open file; it grows to that only while the program has to wait; 0 = nothing is read ahead",
			branch: func(b *Branch) any { return &b.ReadAhead }},
		{Name: "small-ahead", Unit: "NUMBER", Default: "64", ZoneDefault: "16", Scope: PerBranch,
			Help:   "small files of a directory that are fetched ahead when its files are being opened in order; 0 = none",
			branch: func(b *Branch) any { return &b.SmallAhead }},
		{Name: "bundle-reads", Default: "true", Scope: PerBranch, For: Share,
			Help:   "fetch the small files of a directory that is being read in order in one request, where the server can pack them (Nextcloud, OpenCloud, oCIS) and that is found to be quicker; --bundle-reads=false = each alone",
			branch: func(b *Branch) any { return &b.BundleReads }},
		{Name: "listings", Unit: "NUMBER", Default: "16", ZoneDefault: "4", Scope: PerBranch, Min: 1,
			Help:   "directories that are listed ahead at a time when a tree is being walked (find, ls -R, tar)",
			branch: func(b *Branch) any { return &b.Listings }},
		{Name: "browse-archives", Default: "false", Scope: PerBranch,
			Help:   "show each x.tar and x.zip also as a read-only directory, x.tar.d and x.zip.d, whose members are read without fetching the whole archive",
			branch: func(b *Branch) any { return &b.BrowseArchives }},
		{Name: "kernel-read-ahead", Unit: "SIZE", Default: "1MiB", Least: 4 * KiB, Most: GiB, ZeroToo: true,
			Help:  "how far the kernel reads ahead of a program, which also is how much it asks for at once; more than 128KiB takes effect for root only; 0 = as the kernel has it. Less is better for programs that touch large mapped files at random",
			whole: func(s *Settings) any { return &s.KernelReadAhead }},
		{Name: "direct-io", Unit: "WHEN", Default: "never", Choices: []string{"never", "auto", "always"},
			Help:  "which files that are opened for reading only bypass the kernel's page cache; auto = those larger than half of the free memory. Faster for programs that read 1 MiB at a time, and much slower for those that read little at a time",
			whole: func(s *Settings) any { return &s.DirectIO }},
	}
}

func cacheOptions() []*Option {
	return []*Option{
		{Name: "cache-dir", Unit: "DIR", Default: "",
			Help:  "private directory for cached blocks, staged files and the log; empty = one per mount point and branches below $XDG_CACHE_HOME/meshmount",
			whole: func(s *Settings) any { return &s.CacheDir }},
		{Name: "cache", Unit: "WHETHER", Default: CacheOn, Choices: []string{CacheOn, CacheOff},
			Help:  "keep what was read on the local disk, also for the next mount",
			whole: func(s *Settings) any { return &s.Cache }},
		{Name: "cache-size", Unit: "SIZE", Default: "10GiB", Least: Size(cache.MinSize),
			Help:  "most that the cache takes on the disk; unless given, at most half of what is free there",
			whole: func(s *Settings) any { return &s.CacheSize }},
		{Name: "cache-reserve", Unit: "SIZE", Default: "1GiB",
			Help:  "free space that the cache leaves on its file system; it gives space back when others need it",
			whole: func(s *Settings) any { return &s.CacheReserve }},
		{Name: "block-size", Unit: "SIZE", Default: Size(cache.DefaultBlockSize).String(), Least: Size(cache.MinBlockSize), Most: Size(cache.MaxBlockSize), PowerOfTwo: true,
			Help:  "unit of the cache, a power of two from 128KiB to 8MiB; another one than before empties it",
			whole: func(s *Settings) any { return &s.BlockSize }},
	}
}

// cacheBlocks is the least number of blocks for which a cache must have room, with its
// index: see cache.MinSize.
const cacheBlocks = 16

// tune fits options that depend on each other: defaults give way to what was given, and
// what was given and cannot be together is an error.
func (r *resolver) tune() error {
	if err := r.tuneCache(); err != nil {
		return err
	}
	for i := range r.config.Branches {
		b := &r.config.Branches[i]
		if err := r.tuneBranch(b); err != nil {
			return err
		}
	}
	return r.tuneWriting()
}

// callsPerConnection is how many requests to a zone share a connection: one goes out while
// others wait for their answers.
const callsPerConnection = 4

// Calls returns how many requests may be on their way to the server at a time.
func (b *Branch) Calls() int {
	if b.Kind() == Zone {
		return callsPerConnection * b.MaxConnections
	}
	return b.MaxConnections
}

func (r *resolver) tuneCache() error {
	c := &r.config.Settings
	least := Size(cache.MinSize) + cacheBlocks*c.BlockSize
	if c.Cache == CacheOn && c.CacheSize < least {
		return r.contradiction("", "cache-size", "block-size", "give --cache-size="+least.String()+" or more, or smaller blocks",
			"cache-size %s is too small for blocks of %s", c.CacheSize, c.BlockSize)
	}
	return nil
}

func (r *resolver) tuneBranch(b *Branch) error {
	if most := max(b.Calls()/2, 1); b.Streams > most {
		if r.given(b.Name, "streams") && b.Kind() == Zone {
			need := (b.Streams + 1) / 2
			return r.contradiction(b.Name, "streams", "max-connections", "give --max-connections="+strconv.Itoa(need)+" or more, or fewer streams",
				"%s: %d streams need %d connections, and max-connections is %d", b.Title(), b.Streams, need, b.MaxConnections)
		}
		if r.given(b.Name, "streams") {
			return r.contradiction(b.Name, "streams", "max-connections", "give --max-connections="+strconv.Itoa(2*b.Streams)+" or more, or fewer streams",
				"%s: %d streams need twice as many connections, and max-connections is %d", b.Title(), b.Streams, b.MaxConnections)
		}
		b.Streams = most
	}
	if block := r.config.BlockSize; r.config.Cache == CacheOn && b.MaxRequest < block {
		if r.given(b.Name, "max-request") {
			return r.contradiction(b.Name, "max-request", "block-size", "give --block-size="+powerBelow(b.MaxRequest).String()+" or larger requests",
				"%s: max-request %s is less than a block of the cache, %s", b.Title(), b.MaxRequest, block)
		}
		b.MaxRequest = block
	}
	return nil
}

// given tells whether a value is not the default.
func (r *resolver) given(branch, option string) bool {
	return r.config.Given(branch, option)
}

// Given tells whether an option has a value that is not its default: of the mount as a
// whole, or of a branch.
func (c *Config) Given(branch, option string) bool {
	if o, ok := Lookup(option); ok && o.Scope == Whole {
		return c.Origins[option].Level != ByDefault
	}
	return c.OriginOf(branch, option).Level != ByDefault
}

// contradiction makes the error of two options, with the code of the place that has the
// last word.
func (r *resolver) contradiction(branch, one, other, remedy, format string, args ...any) error {
	code := exit.Config
	for _, option := range []string{one, other} {
		o, _ := Lookup(option)
		origin := r.config.OriginOf(branch, option)
		if o != nil && o.Scope == Whole {
			origin = r.config.Origins[option]
		}
		if origin.Level == ByFlag {
			code = exit.Usage
		}
	}
	return exit.New(code, remedy, format, args...)
}

// powerBelow returns the largest power of two that is not more than n.
func powerBelow(n Size) Size {
	p := Size(1)
	for 2*p <= n {
		p *= 2
	}
	return p
}
