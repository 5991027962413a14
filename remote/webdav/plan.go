package webdav

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// chunkPlan says how chunked upload v2 is done here.
type chunkPlan struct {
	base     string // URL of the user's upload folder, without trailing slash
	usual    int64  // bytes of a chunk of a file that is not very large
	max      int64  // bytes of a chunk, at most
	parallel int    // chunks on the way at once, at most
}

// tusPlan says how tus is done here.
type tusPlan struct {
	piece    int64 // bytes of a PATCH, at most
	deferred bool  // the length may be told with the last PATCH
}

// Sizes of uploads in parts. Chunks that are not the first wait in memory, so that
// some can be on the way at once.
const (
	minChunk     = 5 << 20 // Nextcloud's lower bound, but for the last
	usualChunk   = 10 << 20
	chunkMemory  = 40 << 20 // of one upload
	allBuffers   = 64 << 20 // of all, from which on another gets a single one
	maxChunks    = 10000
	defaultPiece = 10 << 20
)

// plan adapts the row of the table to what the server announces.
func (c *call) plan(ctx context.Context, status productStatus, head http.Header) error {
	b := c.b
	switch b.traits.name {
	case Nextcloud, OCIS, Reva:
	default:
		return nil
	}
	caps, err := c.fetchCapabilities(ctx)
	if err != nil {
		return err
	}
	if b.traits.name == Nextcloud {
		b.planChunks(caps)
		b.planBulk(caps)
		b.packs.zip, b.packs.files, b.packs.bytes = true, packFiles, packBytes
		b.planNames(caps)
		return nil
	}
	b.planTus(caps, head)
	if b.traits.name == OCIS {
		b.planArchiver(caps)
	}
	return nil
}

// planChunks finds the place for chunks. Without one (public links of older servers) a
// file is replaced by MOVE of a temporary name. That loses its id and versions, and
// the server deletes the target before it moves.
func (b *Backend) planChunks(caps *capabilities) {
	at := installation(b.dir)
	rest := strings.TrimPrefix(b.dir, at)
	dav := caps.Capabilities.DAV
	base := ""
	if owner, ok := firstName(rest, "/remote.php/dav/files/"); ok && dav.Chunking != "" {
		base = at + "/remote.php/dav/uploads/" + owner
		b.info.UserID = orDefault(b.info.UserID, owner)
	}
	if token, ok := firstName(rest, "/public.php/dav/files/"); ok && dav.PublicChunking {
		base = at + "/public.php/dav/uploads/" + token
	}
	if base == "" {
		b.traits.over, b.traits.atomicPut = wayTemp, false
		return
	}
	limits := caps.Capabilities.Files.Chunked
	b.chunks = chunkPlan{
		base:     b.opts.URL.Scheme + "://" + b.opts.URL.Host + escape(base),
		usual:    usualChunk,
		max:      max(minChunk, orDefault(limits.MaxSize, 100<<20)),
		parallel: max(1, orDefault(limits.Parallel, 1)),
	}
}

// firstName returns the name that follows prefix in path.
func firstName(path, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(path, prefix)
	name, _, _ := strings.Cut(rest, "/")
	return name, ok && name != ""
}

// planNames takes up the names that the server forbids.
func (b *Backend) planNames(caps *capabilities) {
	t, f := &b.traits, caps.Capabilities.Files
	lower := func(names []string) []string {
		out := make([]string, len(names))
		for i, name := range names {
			out[i] = strings.ToLower(name)
		}
		return out
	}
	t.refused += strings.Join(f.Characters, "")
	t.names = slices.Concat(t.names, lower(f.Names))
	t.basenames = lower(f.Basenames)
	t.endings = slices.Concat(t.endings, lower(f.Endings))
}

// planTus finds out whether tus can be had.
func (b *Backend) planTus(caps *capabilities, head http.Header) {
	tus := caps.Capabilities.Files.Tus
	extensions := tus.Extension + "," + head.Get("Tus-Extension")
	b.tus.piece = orDefault(max(0, tus.MaxChunk), defaultPiece)
	way := wayTemp
	for e := range strings.SplitSeq(extensions, ",") {
		switch strings.TrimSpace(e) {
		case "creation":
			way = wayTus
		case "creation-defer-length":
			b.tus.deferred = true
		}
	}
	t := &b.traits
	t.fresh, t.over = way, way
	switch {
	case way == wayTus:
	case strings.Contains(b.dir, "/remote.php/dav/ocm"):
		// MOVE fails in shares of Open Cloud Mesh; PUT does not.
		t.fresh, t.over, t.atomicPut, t.create = wayPut, wayPut, false, remote.GuardLook
	default:
		t.atomicPut = false // the server deletes the destination before it moves
	}
}

// describeUploads says in words how files are stored.
func (b *Backend) describeUploads() string {
	t := &b.traits
	move := "temporary name and MOVE"
	switch {
	case t.over == wayChunked:
		return "PUT for new files, chunked upload v2 for existing ones"
	case t.over == wayTus:
		return "tus"
	case t.fresh == wayPut && t.over == wayTemp:
		return "PUT for new files, " + move + " for existing ones (they get a new id and lose their versions)"
	case t.over == wayTemp:
		return move
	case t.putRanges:
		return "PUT; large new files in ranges, several at once, and MOVE"
	}
	return "PUT"
}
