package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// environment is what a command gets from outside: the streams, the process
// environment and the global flags. One is made for each run.
type environment struct {
	stdout, stderr io.Writer
	environ        []string

	configPath string
	cluster    string
	json       bool
	logLevel   string
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	e := &environment{stdout: stdout, stderr: stderr, environ: environ}
	app := e.app()
	command := commandOf(app, args)
	ordered, err := orderArguments(app, args)
	if err == nil {
		err = app.RunContext(ctx, append([]string{app.Name}, ordered...))
	} else {
		// The library, which would have read the flags, is not even called.
		e.json = slices.Contains(args, "--json")
		err = &usageError{err}
	}
	return e.finish(ctx, command, err)
}

// app builds the command tree.
func (e *environment) app() *cli.App {
	cli.AppHelpTemplate = appHelpTemplate
	app := &cli.App{
		Name:                 "walden",
		Usage:                "PostgreSQL WAL archiving and point-in-time recovery, proven before it starts",
		UsageText:            "walden [--config FILE] [--cluster NAME] [--json] [--log-level L] COMMAND [flags]",
		Writer:               e.stdout,
		ErrWriter:            e.stderr,
		HideVersion:          true,
		EnableBashCompletion: true,
		// --set shared_preload_libraries=a,b is one setting.
		DisableSliceFlagSeparator: true,
		// The library would call os.Exit inside Run on its own errors: the
		// mapping of errors to exit codes is finish's alone.
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   onUsageError,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "read the configuration from `FILE`", Destination: &e.configPath, DefaultText: "$WALDEN_CONFIG, ./walden.yaml, /etc/walden/walden.yaml"},
			&cli.StringFlag{Name: "cluster", Usage: "work on the configured cluster `NAME`", Destination: &e.cluster, DefaultText: "the only one configured"},
			&cli.BoolFlag{Name: "json", Usage: "print the result as one JSON document", Destination: &e.json, DefaultText: "false"},
			&cli.StringFlag{Name: "log-level", Usage: "log from `LEVEL` on: debug, info, warn or error", Destination: &e.logLevel, DefaultText: "warn; of stream without a terminal, and of backup --every: info"},
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return &usageError{fmt.Errorf("unknown command %q; `walden help` lists the commands", c.Args().First())}
			}
			return cli.ShowAppHelp(c)
		},
		Commands: []*cli.Command{
			e.initCommand(),
			e.checkCommand(),
			e.walPushCommand(),
			e.walGetCommand(),
			e.streamCommand(),
			e.backupCommand(),
			e.listCommand(),
			e.findCommand(),
			e.planCommand(),
			e.restoreCommand(),
			e.extractCommand(),
			e.drillCommand(),
			e.verifyCommand(),
			e.indexCommand(),
			e.demoCommand(),
			e.completionCommand(),
			e.versionCommand(),
		},
	}
	for _, c := range app.Commands {
		c.OnUsageError = onUsageError
		c.HideHelpCommand = true
		if c.CustomHelpTemplate == "" {
			c.CustomHelpTemplate = commandHelpTemplate(standardExitCodes)
		}
	}
	return app
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return &usageError{err} }

// usageError is a command line that cannot be understood: exit code 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// logger returns the log of this run: text on standard error.
func (e *environment) logger() (*slog.Logger, error) {
	level := slog.LevelWarn
	if e.logLevel == "" {
		return e.loggerAt(level), nil
	}
	if err := level.UnmarshalText([]byte(strings.ToUpper(e.logLevel))); err != nil {
		return nil, usagef("--log-level %q: it must be debug, info, warn or error", e.logLevel)
	}
	return e.loggerAt(level), nil
}

// logsOn makes the log of a process that runs for long tell what goes on,
// unless the user said how much.
func (e *environment) logsOn() {
	if e.logLevel == "" {
		e.logLevel = "info"
	}
}

func (e *environment) loggerAt(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
}

// noArguments refuses positional arguments on commands that take none.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("%s takes no argument %q", c.Command.Name, c.Args().First())
	}
	return nil
}

// orderArguments puts a command line into the order that the library needs:
// global flags, command, the command's flags, arguments. Users may write flags
// anywhere; what follows "--" is never a flag, but may begin with the command.
func orderArguments(app *cli.App, args []string) ([]string, error) {
	if n := len(args); n > 0 && args[n-1] == "--generate-bash-completion" {
		// An unfinished line: the library makes of it what it can. "--" is where
		// a flag is about to be typed, and not yet the end of the flags.
		if n > 1 && args[n-2] == "--" {
			args = append(slices.Clone(args[:n-2]), "-", args[n-1])
		}
		return args, nil
	}
	var global, local, positional []string
	var command *cli.Command
	var name string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			positional = append(positional, args[i+1:]...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			if name == "" {
				name, command = a, app.Command(a)
			} else {
				positional = append(positional, a)
			}
			continue
		}
		flagName, _, hasValue := strings.Cut(strings.TrimLeft(a, "-"), "=")
		flag, isGlobal := findFlag(app, command, flagName)
		words := []string{a}
		if takesValue(flag) && !hasValue {
			if i+1 == len(args) {
				return nil, fmt.Errorf("flag --%s needs a value", flagName)
			}
			i++
			words = []string{a + "=" + args[i]}
		}
		if isGlobal {
			global = append(global, words...)
		} else {
			local = append(local, words...)
		}
	}
	out := global
	if name == "" {
		return append(append(out, local...), positional...), nil
	}
	out = append(append(out, name), local...)
	if len(positional) > 0 {
		out = append(append(out, "--"), positional...)
	}
	return out, nil
}

// findFlag looks a flag up, first among the command's own.
func findFlag(app *cli.App, command *cli.Command, name string) (f cli.Flag, global bool) {
	if command != nil {
		for _, f := range command.Flags {
			for _, n := range f.Names() {
				if n == name {
					return f, false
				}
			}
		}
	}
	for _, f := range app.Flags {
		for _, n := range f.Names() {
			if n == name {
				return f, true
			}
		}
	}
	return nil, false
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

// commandOf returns the name of the command that args call for, "" if none.
func commandOf(app *cli.App, args []string) string {
	ordered, err := orderArguments(app, args)
	if err != nil {
		ordered = args
	}
	for _, a := range ordered {
		if c := app.Command(a); c != nil {
			return c.Name
		}
	}
	// A flag that lacks its value takes the command for one: --config $UNSET
	// wal-get. What follows from it must not be read as "no such file".
	if slices.Contains(args, walGetName) {
		return walGetName
	}
	return ""
}

// errFindings says that a command did its work and found something bad; what
// it was has been printed already. Exit code 1.
var errFindings = errors.New("problems were found")
