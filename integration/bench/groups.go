package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// sizes says how much work is done.
type sizes struct {
	big, par, sparse, reader   int64
	small, smallSize           int
	dirs, perDir               int
	randomReads, sparseReads   int
	readers                    []int
	grow                       []int
	zoneBig                    int64
	zoneSmall, zoneDirs, inDir int
	write                      int64 // bytes of the large file that is written
	writeSmall                 int
	treeFiles, treeDirs        int
	mass, massDirs             int   // entries whose attributes and names are changed; directories made
	growWrite                  []int // files created and removed
	// writeCut bounds writing until all is on the server.
	writeCut time.Duration
	// cut bounds work at the pace of single files, which some clients never finish.
	cut time.Duration
}

var fullSizes = sizes{
	big: 1 << 30, par: 512 << 20, sparse: 2 << 30, reader: 16 << 20,
	small: 2000, smallSize: 16 << 10, dirs: 100, perDir: 100,
	randomReads: 40_000, sparseReads: 200, readers: []int{1, 4, 16, 64}, grow: []int{1000, 10_000},
	zoneBig: 512 << 20, zoneSmall: 400, zoneDirs: 10, inDir: 100,
	write: 1 << 30, writeSmall: 2000, treeFiles: 5014, treeDirs: 330,
	mass: 2000, massDirs: 500, growWrite: []int{1000, 10_000, 100_000},
	cut: 15 * time.Second, writeCut: 30 * time.Second,
}

var quickSizes = sizes{
	big: 128 << 20, par: 64 << 20, sparse: 128 << 20, reader: 8 << 20,
	small: 300, smallSize: 16 << 10, dirs: 20, perDir: 100,
	randomReads: 5000, sparseReads: 40, readers: []int{1, 8}, grow: []int{300, 2000},
	zoneBig: 48 << 20, zoneSmall: 60, zoneDirs: 4, inDir: 50,
	write: 64 << 20, writeSmall: 200, treeFiles: 400, treeDirs: 30,
	mass: 200, massDirs: 50, growWrite: []int{300, 2000},
	cut: 3 * time.Second, writeCut: 20 * time.Second,
}

// place is a kind of server. The zero value is plain files behind Apache.
type place int

// Places.
const (
	onDisk place = iota
	onCloud
	onZone
)

var places = []place{onDisk, onCloud, onZone}

// group is a piece of work with several rows that build on each other.
type group struct {
	name string
	at   place
	// rows lists the rows in the order of the table.
	rows func(z sizes) []rowSpec
	// files are what the server must hold; seeds are given later.
	files func(conf config) []file
	// work is done with each client in turn.
	work func(s *session)
	// limit measures what is possible. Its session has no client.
	limit func(s *session)
	// writes is how many bytes a client writes; nil for none.
	writes func(z sizes) int64
	// puts says whether clients that mount nothing take part.
	puts bool
	// peers says whether peers take part without -long.
	peers bool
	// long says that the group is left out without -long.
	long bool
}

func allGroups() []group {
	return []group{largeGroup(), parallelGroup(), sparseGroup(), treeGroup(), smallGroup(), readersGroup(), growGroup(),
		zoneGroup(), zoneSmallGroup(), zoneTreeGroup(), writeGroup(), writeSmallGroup(), writeTreeGroup(),
		cloudSmallGroup(), cloudWriteSmallGroup(), cloudWriteTreeGroup(), zoneWriteGroup(), zoneWriteSmallGroup(), zoneWriteTreeGroup(),
		massGroup(onDisk), massGroup(onCloud), massGroup(onZone), writeGrowGroup(onDisk), writeGrowGroup(onZone)}
}

func groupNames() (names []string) {
	for _, g := range allGroups() {
		names = append(names, g.name)
	}
	return names
}

// wanted returns the groups that have rows whose name begins as asked.
func wanted(conf config) []group {
	return slices.DeleteFunc(allGroups(), func(g group) bool {
		return g.long && !conf.long || len(conf.rows) > 0 && !slices.ContainsFunc(g.rows(conf.size), func(r rowSpec) bool { return conf.shows(r.Name) })
	})
}

// shows tells whether a row was asked for.
func (c config) shows(name string) bool {
	return len(c.rows) == 0 || slices.ContainsFunc(c.rows, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

func isRow(prefix string) bool {
	return slices.ContainsFunc(allGroups(), func(g group) bool {
		return slices.ContainsFunc(slices.Concat(g.rows(fullSizes), g.rows(quickSizes)), func(r rowSpec) bool { return strings.HasPrefix(r.Name, prefix) })
	})
}

// below returns the files below a directory.
func below(files []file, dir string) []file {
	var found []file
	for _, f := range files {
		if strings.HasPrefix(f.path, dir+"/") {
			found = append(found, f)
		}
	}
	return found
}

// numbered names n files of one size.
func numbered(format string, n int, size int64) []file {
	files := make([]file, n)
	for i := range files {
		files[i] = file{path: fmt.Sprintf(format, i), size: size}
	}
	return files
}

// treeFiles names dirs*perDir small files in as many directories.
func treeFiles(top string, dirs, perDir int) []file {
	var files []file
	for d := range dirs {
		files = append(files, numbered(fmt.Sprintf("%s/dir%04d/file%%04d", top, d), perDir, treeFileSize)...)
	}
	return files
}

// treeFileSize is the size of files that are there to be listed.
const treeFileSize = 1000

// offsets returns the places of n pages spread over a file.
func offsets(f file, n int) []int64 {
	offs := make([]int64, n)
	for i := range offs {
		offs[i] = f.size / pageSize * int64(i) / int64(n) * pageSize
	}
	return offs
}

// subdirs returns the directories of files, each once.
func subdirs(files []file) []string {
	var dirs []string
	for _, f := range files {
		d := f.path[:strings.LastIndexByte(f.path, '/')]
		if len(dirs) == 0 || dirs[len(dirs)-1] != d {
			dirs = append(dirs, d)
		}
	}
	return dirs
}
