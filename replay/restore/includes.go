package restore

import (
	"os"
	"path/filepath"

	"github.com/walden-pg/walden/basebackup"
)

// makeIncluded makes the directories that restored configuration files include
// relative to their own place: a backup holds files, and the server does not
// start without the directory, which is empty by default on Debian. A path that
// leads elsewhere is left as it is: see warn.
func (r *restorer) makeIncluded() error {
	top := r.targets.config.path
	for _, original := range r.manifest.ConfigFiles {
		at, err := r.layout.config.locate(original)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		for _, include := range basebackup.Includes(content) {
			name := filepath.FromSlash(include.Path)
			if include.Kind != basebackup.IncludeDirectory || filepath.IsAbs(name) {
				continue
			}
			dir := filepath.Join(filepath.Dir(at), name)
			if inside, err := filepath.Rel(top, dir); err != nil || !filepath.IsLocal(inside) {
				continue
			}
			if err := r.tree.directory(dir, top, 0); err != nil {
				return err
			}
		}
	}
	return nil
}
