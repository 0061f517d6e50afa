package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker: -X main.version=….
var version = ""

type versionDocument struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func waldenVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func (e *environment) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "prints the version",

		CustomHelpTemplate: commandHelpTemplate(plainExitCodes),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			d := versionDocument{Version: waldenVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if e.json {
				return e.printJSON(d)
			}
			_, err := fmt.Fprintf(e.stdout, "walden %s (%s, %s)\n", d.Version, d.Go, d.Platform)
			return err
		},
	}
}
