package main

import "github.com/urfave/cli/v2"

const standardExitCodes = `   0    done
   1    failed, or found something bad
   2    wrong usage
   4    no such repository or cluster
   130  interrupted`

// plainExitCodes are those of commands that ask no repository.
const plainExitCodes = `   0    done
   1    failed
   2    wrong usage
   130  interrupted`

const targetExitCodes = `   0    done
   1    failed, or found something bad
   2    wrong usage
   3    the target cannot be reached
   4    no such database in the backup, no such backup, cluster or repository
   130  interrupted`

const findExitCodes = `   0    done, whether or not something was found
   1    failed, or WAL or names are missing or damaged in what was looked at, or open transactions were given up to bound memory
   2    wrong usage
   4    no such repository, cluster or timeline
   130  interrupted`

const appHelpTemplate = `walden - {{.Usage}}

USAGE:
   {{.UsageText}}

COMMANDS:{{range .VisibleCommands}}
   {{printf "%-12s" .Name}}{{.Usage}}{{end}}

GLOBAL FLAGS (accepted before and after the command):{{range .VisibleFlags}}
   {{.}}{{end}}

EXIT CODES:
   0    done
   1    failed, or found something bad
   2    wrong usage
   3    the target cannot be reached
   4    no such backup, cluster or repository
   5    busy: another holds what is needed
   130  interrupted
   wal-get has its own: see walden help wal-get
`

// commandHelpTemplate is the library's help of one command, ended by the
// meaning of its exit codes.
func commandHelpTemplate(exitCodes string) string {
	return cli.CommandHelpTemplate + "\nEXIT CODES:\n" + exitCodes + "\n"
}
