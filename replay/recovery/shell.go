package recovery

import (
	"strings"
)

var plainWord = lazily(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellQuote makes one word of a POSIX shell out of s.
func shellQuote(s string) string {
	if plainWord().MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ShellLine makes a line for a POSIX shell out of a program and its arguments,
// with quotes where they are needed.
func ShellLine(args ...string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = shellQuote(a)
	}
	return strings.Join(quoted, " ")
}
