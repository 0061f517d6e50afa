//go:build unix

package scratch

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// ContainerLabel is the label of containers that work in a scratch directory; its value is
// the directory's name.
const ContainerLabel = "walden.scratch"

// removeContainers ends and removes those that work in the directory, with their volumes.
func (s *Dir) removeContainers(ctx context.Context) error {
	filter := "label=" + ContainerLabel + "=" + filepath.Base(s.dir)
	out, err := exec.CommandContext(ctx, "docker", "ps", "--all", "--quiet", "--filter", filter).Output()
	if err != nil {
		return fmt.Errorf("list of the containers that work there (docker ps --filter %s): %w", filter, err)
	}
	ids := strings.Fields(string(out))
	if len(ids) == 0 {
		return nil
	}
	// One that ends by itself removes itself meanwhile: what counts is that none is left.
	_ = exec.CommandContext(ctx, "docker", append([]string{"rm", "--force", "--volumes"}, ids...)...).Run()
	out, err = exec.CommandContext(ctx, "docker", "ps", "--quiet", "--filter", filter).Output()
	if err == nil && len(strings.Fields(string(out))) > 0 {
		err = fmt.Errorf("still running: %s", strings.Join(strings.Fields(string(out)), " "))
	}
	if err != nil {
		return fmt.Errorf("removal of the containers that work there: %w", err)
	}
	return nil
}
