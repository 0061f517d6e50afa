package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/setup"
)

func (e *environment) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "writes the configuration, creates the repository, and says what to apply on the server",
		Description: "Run again it does only what is left. A configuration that exists is used as it is.\n" +
			"Nothing is changed on the server: the lines and statements to apply are printed.\n" +
			"After a re-initialisation or pg_upgrade run it again: it begins a new incarnation.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "repository", Usage: "`URL` of the repository: file:///DIRECTORY or s3://BUCKET/PREFIX", DefaultText: "none; needed unless a configuration exists"},
			&cli.StringFlag{Name: "connection", Usage: "libpq connection string `CONNINFO` of the server", DefaultText: "none; needed unless a configuration exists"},
			&cli.StringFlag{Name: "data-directory", Usage: "`DIR` of the cluster, where walden runs beside the server", DefaultText: "none"},
			&cli.StringFlag{Name: "compression", Usage: "`CODEC` lz4, zstd or none", DefaultText: "lz4"},
			&cli.StringFlag{Name: "endpoint", Usage: "`URL` of an S3 server other than AWS", DefaultText: "AWS"},
			&cli.StringFlag{Name: "region", Usage: "S3 `REGION`", DefaultText: "us-east-1"},
			&cli.BoolFlag{Name: "path-style", Usage: "address buckets as ENDPOINT/BUCKET", DefaultText: "false"},
			&cli.StringFlag{Name: "ca-file", Usage: "`FILE` with certificate authorities (PEM) of the S3 server", DefaultText: "the system's"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return e.init(c)
		},
	}
}

func (e *environment) init(c *cli.Context) error {
	o, err := e.initOptions(c)
	if err != nil {
		return err
	}
	if o.Log, err = e.logger(); err != nil {
		return err
	}
	rep, err := setup.Init(c.Context, o)
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(rep)
	}
	return e.renderInit(rep)
}

func (e *environment) initOptions(c *cli.Context) (setup.InitOptions, error) {
	path := e.configPath
	exists := true
	if found, err := config.Find(path, e.getenv); err == nil {
		path = found
	} else {
		exists = false
		if path == "" {
			path = e.getenv("WALDEN_CONFIG")
		}
		if path == "" {
			path = "walden.yaml"
		}
		if path, err = filepath.Abs(path); err != nil {
			return setup.InitOptions{}, err
		}
	}
	name := e.cluster
	if name == "" && !exists {
		name = "main"
	}
	if !exists && (c.String("repository") == "" || c.String("connection") == "") {
		return setup.InitOptions{}, usagef("there is no configuration yet: init needs --repository URL and --connection CONNINFO to write %s", path)
	}
	exe, err := executable()
	if err != nil {
		return setup.InitOptions{}, err
	}
	return setup.InitOptions{
		ConfigPath: path,
		Environ:    e.environ,
		Cluster:    name,
		Executable: exe,
		Config: config.Config{
			Repository: config.Repository{
				URL:         c.String("repository"),
				Compression: c.String("compression"),
				S3: config.S3{
					Endpoint:  c.String("endpoint"),
					Region:    c.String("region"),
					PathStyle: c.Bool("path-style"),
					CAFile:    c.String("ca-file"),
				},
			},
			Clusters: map[string]config.Cluster{name: {Connection: c.String("connection"), DataDirectory: c.String("data-directory")}},
		},
	}, nil
}

// getenv looks a variable up in the environment of this run.
func (e *environment) getenv(name string) string {
	for _, kv := range e.environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

func (e *environment) renderInit(r *setup.InitReport) error {
	var b strings.Builder
	done := func(did bool, yes, no string) {
		if did {
			b.WriteString("created  " + yes + "\n")
		} else {
			b.WriteString("found    " + no + "\n")
		}
	}
	done(r.ConfigWritten, "configuration "+r.Config, "configuration "+r.Config)
	done(r.RepositoryCreated, "repository "+r.Repository, "repository "+r.Repository)
	id := fmt.Sprintf("cluster %s, incarnation %d (system identifier %d, segments of %d MiB)",
		r.Cluster, r.Incarnation.Number, r.Incarnation.SystemID, r.Incarnation.SegmentSize.Bytes()>>20)
	done(r.IncarnationNew, id, id)
	if r.Previous != nil {
		fmt.Fprintf(&b, "note     the cluster was re-initialised: incarnation %d (system identifier %d) stays restorable with --incarnation %d\n",
			r.Previous.Number, r.Previous.SystemID, r.Previous.Number)
	}
	renderApply(&b, r.Apply, r.Streams)
	if !r.Streams {
		b.WriteString("\nTo lose at most about a second instead of a segment, stream: give the cluster a section `stream: {}` in the configuration,\nrun `walden init` again, and `walden stream` as a service. It makes its replication slot itself.\n")
	}
	_, err := fmt.Fprint(e.stdout, b.String())
	return err
}

// renderApply tells the settings, as lines and as SQL, and apart from them the
// rights, which only SQL can give.
func renderApply(b *strings.Builder, a setup.Apply, streams bool) {
	statements := func(heading string, sql []string) {
		if len(sql) == 0 {
			return
		}
		b.WriteString("\n" + heading + "\n\n")
		for _, s := range sql {
			b.WriteString("    " + s + "\n")
		}
	}
	if len(a.Settings) > 0 {
		b.WriteString("\nIn postgresql.conf:\n\n")
		for line := range strings.Lines(a.Conf()) {
			b.WriteString("    " + line)
		}
		statements("or the same as SQL, by a superuser:", a.SettingsSQL())
	}
	statements("As SQL, by a superuser in the database "+a.Database+":", a.RightsSQL())
	b.WriteString("\n")
	switch {
	case len(a.SQL) == 0:
		b.WriteString("Nothing is left to apply on the server. ")
	case a.Restart:
		b.WriteString("Then restart the server. ")
	case len(a.Settings) > 0:
		b.WriteString("If you have edited postgresql.conf, reload it. ")
	}
	next := "walden check, then walden backup"
	if streams {
		next = "walden stream (as a service), then " + next
	}
	if a.Again {
		next = "walden init again, because this role could not see everything; then " + next
	}
	b.WriteString("Next: " + next + "\n")
}
