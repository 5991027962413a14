package webdav

import (
	"context"
	"net/http"
	"path"
	"strings"

	"github.com/meshmount/meshmount/remote"
)

// Unfinished uploads have names from which it can be told whose they are:
//
//	.meshmount-TAG.RANDOM.tmp, .meshmount-RESUME.tmp   beside the file
//	meshmount-TAG.RANDOM, meshmount-A-B-C-D-RESUME      Nextcloud's upload folders
const folderPrefix = "meshmount-"

// tagged returns a name that no other upload has, behind its tag.
func tagged(tag, random string) string {
	if tag == "" {
		return random
	}
	return tag + "." + random
}

// tempTag returns the tag, or the name for resuming, in a temporary name.
func tempTag(name string) string {
	tag, _, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(name, tempPrefix), tempSuffix), ".")
	return tag
}

// folderTag is tempTag of an upload folder, "" if it is none of ours.
func folderTag(name string) string {
	rest, ok := strings.CutPrefix(name, folderPrefix)
	if !ok {
		return ""
	}
	if tag, _, tagged := strings.Cut(rest, "."); tagged {
		return tag
	}
	if parts := strings.SplitN(rest, "-", 5); len(parts) == 5 {
		return parts[4]
	}
	return ""
}

// Sweep implements remote.Sweeper.
func (b *Backend) Sweep(ctx context.Context, path string, size int64, dead func(tag string) bool) error {
	ctx, c, done, err := b.begin(ctx, "sweep", path)
	if err != nil {
		return err
	}
	defer done()
	dir, _ := remote.Split(path)
	place, find := b.dirURL(dir), c.temps
	switch {
	case b.chunks.base != "":
		place, find = b.chunks.base+"/", c.folders
	case !b.litters(size):
		return nil
	}
	if _, was := b.swept.LoadOrStore(place, true); was {
		return nil
	}
	if err := c.sweepPlace(ctx, place, find, dead); err != nil {
		b.swept.Delete(place)
		return err
	}
	return nil
}

// litters tells whether an upload of size bytes has a temporary name beside the file.
func (b *Backend) litters(size int64) bool {
	t := &b.traits
	switch {
	case t.fresh != wayPut || t.over != wayPut:
		return true
	case size < 0:
		return t.stream == streamTemp || t.putRanges
	}
	return t.putRanges && size > 2*b.ranges.piece
}

// sweepPlace removes what find finds at place and dead says nobody needs.
func (c *call) sweepPlace(ctx context.Context, place string, find func(href string) (target, tag string), dead func(string) bool) error {
	var targets []string
	err := c.propfind(ctx, place, "1", false, func(r *response, _ http.Header) error {
		if target, tag := find(r.href); tag != "" && dead(tag) {
			targets = append(targets, target)
		}
		return nil
	})
	if remote.KindOf(err) == remote.NotExist && err != nil {
		return nil
	}
	for _, target := range targets {
		if err == nil {
			err = c.discard(ctx, target)
		}
	}
	if err == nil && len(targets) > 0 {
		c.b.opts.Logger.Info("unfinished uploads of an earlier process are removed", "uploads", len(targets))
	}
	return err
}

// temps finds the temporary names beside the file.
func (c *call) temps(href string) (target, tag string) {
	dir, _ := remote.Split(c.path)
	h := c.b.hrefs(strings.TrimSuffix(dir, "/"))
	name, err := h.resolve(href)
	if err != nil || !isTemp(name) {
		return "", ""
	}
	return c.b.fileURL(remote.Join(dir, name)), tempTag(name)
}

// folders finds upload folders.
func (c *call) folders(href string) (target, tag string) {
	name := path.Base(href)
	return c.b.chunks.base + "/" + name, folderTag(name)
}
