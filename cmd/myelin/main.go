// Command myelin is an MQTT broker. It turns signals into the end of a context
// and the command line's result into an exit code; everything else is in
// package cli.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/myelin-mqtt/myelin/internal/cli"
)

// Set by the linker, see the Makefile.
var version, commit string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks the program to end. A moment after that signals do
	// what they do by default, so that another one kills it; not at once, for
	// supervisors signal a process and its group, and both reach it.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second/4, stop) })
	os.Exit(cli.Run(ctx, cli.Process{
		Args:   os.Args[1:],
		Env:    os.Environ(),
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Build:  cli.Build{Version: version, Commit: commit},
	}))
}
