package recovery

import (
	"regexp"
	"sync"
)

// pattern is a regular expression that is compiled when it is first used: each
// start of a program that contains this package, hooks that PostgreSQL calls
// for every segment among them, would pay for it otherwise.
type pattern func() *regexp.Regexp

func lazily(expression string) pattern {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
