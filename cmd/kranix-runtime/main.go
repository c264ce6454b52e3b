// Command kranix-runtime carries out what kranix-core asks for.
//
// `kranix-runtime run` serves the engines of this machine; the other commands are a
// client of the same subjects that kranix-core publishes to, and do nothing that core,
// or the nats command, could not.
//
// This package parses, wires and prints. It decides nothing about workloads.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
)

func main() { os.Exit(realMain()) }

func realMain() int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, host: config.ThisHost()}
	return a.execute(ctx, os.Args[1:])
}

// untilSignal ends the context at the first SIGINT or SIGTERM and the process at the
// second.
func untilSignal(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { // lives as long as the process
		<-signals
		cancel()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return ctx, cancel
}
