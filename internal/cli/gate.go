package cli

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"

	"github.com/myelin-mqtt/myelin/internal/auth"
	"github.com/myelin-mqtt/myelin/internal/config"
)

// openGate makes what decides who may connect; nil: everybody may.
func openGate(c config.Config, log *slog.Logger) (*auth.Gate, error) {
	a := c.Authentication
	uses := slices.Contains(a.Methods, auth.PasswordFile)
	switch {
	case uses && a.PasswordFile == "":
		return nil, &hinted{errors.New("authentication.methods: password_file needs a file"), "name it with password_file in section authentication", exitFailure}
	case !uses && a.PasswordFile != "": // a door that somebody believes closed is worse than none
		return nil, &hinted{errors.New("authentication.password_file: no method uses the file"), "write `methods: [password_file]` in section authentication", exitFailure}
	case len(a.Methods) == 0:
		return nil, nil
	}
	g, err := auth.Open(auth.Options{
		Methods: a.Methods, PasswordFile: a.PasswordFile, Workers: a.Workers, Queue: a.Queue, Remember: a.Remember,
		SlowDown: a.SlowDown, SlowDownMax: a.SlowDownMax, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

func closeGate(g *auth.Gate) {
	if g != nil {
		g.Close()
	}
}

// watchGate follows the gate's files until the function that it returns is called.
func watchGate(g *auth.Gate) (stop func()) {
	if g == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.Watch(ctx) })
	return func() {
		cancel()
		wg.Wait()
	}
}
