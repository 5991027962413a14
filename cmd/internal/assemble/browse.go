package assemble

import (
	"log/slog"
	"path/filepath"

	"github.com/meshmount/meshmount/cmd/internal/settings"
	"github.com/meshmount/meshmount/remote"
	"github.com/meshmount/meshmount/remote/browse"
)

// ArchivesDir is where indexes of archives lie in a cache directory.
func ArchivesDir(cacheDir string) string { return filepath.Join(cacheDir, "archives") }

// Browse shows the archives of a branch as directories, if that is wanted. It goes around
// what Stack and Archives return, and below the cache. dir is for the indexes, "" for none.
func Browse(stack remote.Backend, b *settings.Branch, dir string, log *slog.Logger) remote.Backend {
	if !b.BrowseArchives {
		return stack
	}
	return browse.Wrap(stack, browse.Options{Dir: dir, Tree: Tree(b), Log: log})
}
