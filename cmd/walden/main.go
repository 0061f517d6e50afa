// Command walden archives PostgreSQL's WAL, takes base backups and brings a
// cluster back to the moment you name. One file per command: flags → options
// struct → one library call → rendering. Exit codes are mapped once, in exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
