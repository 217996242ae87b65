// Command mochi runs the broker of github.com/mochi-mqtt/server, so that it can be measured beside others. It is a
// module of its own, which keeps that broker out of the product's dependencies.
package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "mochi: error:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:1883", "address to listen on")
	version := flag.Bool("version", false, "print the broker's version and exit")
	flag.Parse()
	if *version {
		fmt.Println("mochi-mqtt", mqtt.Version)
		return nil
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	server := mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := server.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	if err := server.AddListener(listeners.NewTCP(listeners.Config{ID: "tcp", Address: *listen})); err != nil {
		return err
	}
	if err := server.Serve(); err != nil {
		return err
	}
	<-stop
	return server.Close()
}
