package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/client"
	"github.com/myelin-mqtt/myelin/packet"
)

// clientCommands are the commands that are MQTT clients. They share the flags
// that say how to connect (clientflags.go), the environment and the file that
// set flags (clientsource.go), and the exit codes (exit.go).
func clientCommands(p Process) []*cobra.Command {
	return []*cobra.Command{pubCommand(p), subCommand(p), rrCommand(p), benchCommand(p), serverCheckCommand(p)}
}

// newClient gives a command what all clients have: the flags of a connection,
// and a run that is called when every flag has its value. The command adds its
// own flags, by group, before it calls newClient, so that its help begins with
// them.
func newClient(c *cobra.Command, p Process, run func(ctx context.Context, f *clientFlags) error) *clientFlags {
	f := &clientFlags{process: p, command: c, start: time.Now()}
	f.register(c)
	if c.Args == nil {
		c.Args = noArgs
	}
	c.SetUsageFunc(clientUsage)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := fill(c, p); err != nil {
			return err
		}
		// A write to a pipe that nobody reads then gives an error, as to any
		// other file, and the connection can be closed properly.
		pipe := make(chan os.Signal, 1)
		signal.Notify(pipe, syscall.SIGPIPE)
		defer signal.Stop(pipe)
		f.args = args
		f.out = &output{to: c.OutOrStdout()}
		f.messages = &output{to: c.ErrOrStderr()}
		return failed(run(c.Context(), f))
	}
	return f
}

// output is a stream that goroutines share. An error of it is errPipe where
// nobody reads it any more.
type output struct {
	mu sync.Mutex
	to io.Writer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.to.Write(b)
	if err != nil {
		err = fmt.Errorf("write to standard output: %w", closedPipe(err))
	}
	return n, err
}

// connect makes a client and connects it. The options are those of f.options,
// which the command may have changed. Close it with f.disconnect.
func (f *clientFlags) connect(ctx context.Context, o client.Options) (*client.Client, error) {
	c, err := client.New(o)
	if err != nil {
		return nil, misuse(fmt.Sprintf("`%s --help` lists the flags", f.command.CommandPath()), "%v", err)
	}
	if err := c.Connect(ctx); err != nil {
		_ = c.Close()
		return nil, unconnected(err)
	}
	return c, nil
}

// unconnected adds to an error of connecting what to try where something took
// the connection and does not speak MQTT.
func unconnected(err error) error {
	code, _ := classify(err)
	var hint string
	switch code {
	case exitTimeout:
		hint = "does an MQTT server listen there? --connect-timeout gives it longer"
	case exitLost, exitProtocol:
		hint = "does an MQTT server listen there, and is it without TLS? -d shows how far it comes"
	default:
		return err
	}
	return &hinted{err: err, hint: hint, code: code}
}

// disconnect says goodbye, within the time that a server may take for it.
func (f *clientFlags) disconnect(c *client.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), f.connectTimeout)
	defer cancel()
	err := c.Disconnect(ctx)
	_ = c.Close()
	return err
}

// leave says goodbye without waiting for what is not acknowledged.
func (f *clientFlags) leave(c *client.Client) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.DisconnectWith(ctx, &packet.Disconnect{})
}

// isClient tells the commands that newClient made.
func isClient(c *cobra.Command) bool { return c.Flags().Lookup("url") != nil }
