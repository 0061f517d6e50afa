package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// The scripts ask the binary itself for candidates, so they never grow stale.
var completionScripts = map[string]string{
	"bash": `_walden() {
  local cur="${COMP_WORDS[COMP_CWORD]}" opts
  COMPREPLY=()
  if [[ "$cur" == -* ]]; then
    opts=$("${COMP_WORDS[@]:0:COMP_CWORD}" "$cur" --generate-bash-completion 2>/dev/null)
  else
    opts=$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)
  fi
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -W "$opts" -- "$cur")
}
complete -o bashdefault -o default -F _walden walden
`,
	"zsh": `#compdef walden
_walden() {
  local -a opts
  local cur="${words[-1]}"
  if [[ "$cur" == -* ]]; then
    opts=("${(@f)$(${words[@]:0:#words[@]-1} ${cur} --generate-bash-completion 2>/dev/null)}")
  else
    opts=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  fi
  _describe 'values' opts
  [[ "$opts[1]" == "" ]] && _files
}
compdef _walden walden
`,
	"fish": `function __walden_complete
  set -l tokens (commandline -opc) (commandline -ct)
  $tokens --generate-bash-completion 2>/dev/null
end
complete -c walden -f -a '(__walden_complete)'
`,
}

func (e *environment) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "prints a completion script for bash, zsh or fish",
		ArgsUsage: "bash|zsh|fish",
		Description: "To use it in the running shell:\n" +
			"bash: source <(walden completion bash)\nzsh: source <(walden completion zsh)\nfish: walden completion fish | source",
		CustomHelpTemplate: commandHelpTemplate(plainExitCodes),
		Action: func(c *cli.Context) error {
			script, ok := completionScripts[c.Args().First()]
			if !ok || c.NArg() != 1 {
				return usagef("completion needs one of bash, zsh, fish, not %q", strings.Join(c.Args().Slice(), " "))
			}
			_, err := fmt.Fprint(e.stdout, script)
			return err
		},
	}
}
