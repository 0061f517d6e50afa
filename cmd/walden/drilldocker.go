package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/replay/drill"
)

// inContainers fills in how containers are run, if they are asked for: restore_command finds
// this program, its configuration and the repository in them at their own paths.
func (e *environment) inContainers(c *cli.Context, t *target, o *drill.Options) error {
	switch c.String("runner") {
	case "local":
		for _, f := range []string{"image", "network", "memory", "cpus"} {
			if c.IsSet(f) {
				return usagef("--%s belongs to --runner docker", f)
			}
		}
		return nil
	case "docker":
	default:
		return usagef("--runner %q: it must be local or docker", c.String("runner"))
	}
	if o.BinDir != "" {
		return usagef("--pg-bin belongs to --runner local: the programs are those of the image")
	}
	exe, err := executable()
	if err != nil {
		return err
	}
	d := &drill.Docker{
		Image: c.String("image"), Network: c.String("network"), Memory: c.String("memory"), CPUs: c.String("cpus"),
		Mounts: []string{exe},
	}
	if t.config.Path != "" {
		d.Mounts = append(d.Mounts, t.config.Path)
	}
	directory := t.config.Repository.Directory()
	if directory != "" {
		d.Mounts = append(d.Mounts, directory)
		d.Owner = ownerNumber(directory)
	}
	if d.Network == "" {
		d.Network = "none"
		if directory == "" {
			d.Network = "bridge"
		}
	}
	if directory == "" {
		d.Mounts = append(d.Mounts, e.certificates(t.config.Repository.S3.CAFile)...)
	}
	home, err := os.UserHomeDir()
	if err == nil && directory == "" {
		// Credentials can lie there.
		if aws := filepath.Join(home, ".aws"); isDirectory(aws) {
			d.Mounts, d.Environment = append(d.Mounts, aws), append(d.Environment, "HOME")
		}
	}
	for _, v := range e.environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, "WALDEN_") || directory == "" && (strings.HasPrefix(name, "AWS_") || name == "SSL_CERT_FILE") {
			d.Environment = append(d.Environment, name)
		}
	}
	o.Docker = d
	return nil
}

// certificates are the files by which a bucket's server is trusted: the image may have none.
func (e *environment) certificates(configured string) []string {
	list := []string{configured}
	for _, v := range e.environ {
		if name, value, _ := strings.Cut(v, "="); name == "AWS_CA_BUNDLE" || name == "SSL_CERT_FILE" {
			list = append(list, value)
		}
	}
	// Where the distributions keep them: Debian, Fedora, SUSE, Alpine.
	list = append(list, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem")
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.Mode().IsRegular()
	})
}

// ownerNumber is who owns a file, by number; "": it is root, or cannot be found out.
func ownerNumber(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "" // the repository's own error is better
	}
	if uid, ok := fileOwner(info); ok && uid != 0 {
		return strconv.FormatUint(uint64(uid), 10)
	}
	return ""
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
