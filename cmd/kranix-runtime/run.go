package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/datadir"
	"github.com/kranix-io/kranix-runtime/workers"
)

// runFlags are flags that stand for keys of the configuration.
type runFlags struct {
	dataDir, listen, logLevel string
	backends                  []string
	hints                     bool
}

func (f *runFlags) overrides(cmd *cobra.Command) []config.Override {
	var out []config.Override
	for _, o := range []config.Override{
		{Flag: "--data-dir", Key: "runtime.data_dir", Value: f.dataDir},
		{Flag: "--nats-listen", Key: "nats.listen", Value: f.listen},
		{Flag: "--backend", Key: "runtime.backends", Value: strings.Join(f.backends, ",")},
		{Flag: "--log-level", Key: "runtime.log_level", Value: f.logLevel},
	} {
		if cmd.Flags().Changed(strings.TrimPrefix(o.Flag, "--")) {
			out = append(out, o)
		}
	}
	return out
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve the engines of this machine",
		Long: `Run starts the runtime: NATS (embedded, unless nats.mode is external), and a worker for every engine
that answers or that runtime.backends lists. A listed engine that is down is waited for.

The first SIGTERM or SIGINT drains: nothing more is taken up, running commands have
runtime.drain_timeout to end. Workloads keep running. The second one ends the process at once.`,
		Example: "  kranix-runtime run\n  kranix-runtime run --backend sim --data-dir /tmp/try --nats-listen 127.0.0.1:4333",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := a.load(f.overrides(cmd))
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), l, f.hints || terminal(a.stderr))
		},
	}
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "data directory (runtime.data_dir)")
	cmd.Flags().StringVar(&f.listen, "nats-listen", "", "address of the embedded NATS server (nats.listen)")
	cmd.Flags().StringSliceVar(&f.backends, "backend", nil, "backend to serve, may be repeated (runtime.backends)")
	cmd.Flags().StringVar(&f.logLevel, "log-level", "", "debug, info, warn or error (runtime.log_level)")
	cmd.Flags().BoolVar(&f.hints, "hints", false, "print what to type in a second terminal even when this is none")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(config.Built(), cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags only
	return cmd
}

// run serves until ctx ends. Things are closed in the reverse order of their opening:
// the worker drains while the bus and the engines are still there.
func (a *app) run(ctx context.Context, l *config.Loaded, hints bool) (err error) {
	log, err := newLogger(a.stderr, l.Config)
	if err != nil {
		return exitWith(exitUsage, err)
	}
	for _, w := range l.Warnings {
		log.Warn(w)
	}
	defer func() {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // asked to stop while starting
		}
	}()
	dir, err := datadir.Open(l.Runtime.DataDir)
	if errors.Is(err, datadir.ErrInUse) {
		return exitWith(exitInUse, err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()

	b, err := openBus(ctx, l.Config, log)
	if err != nil {
		return err
	}
	defer b.shutdown()

	open, left, err := openBackends(ctx, l.Config, log)
	if err != nil {
		return err
	}
	defer closeBackends(open, log)
	if len(open) == 0 {
		return noEngine(left)
	}

	t, err := startTelemetry(ctx, l, b, log)
	if err != nil {
		return err
	}
	defer t.close(log)

	w, err := workers.New(workerConfig(l.Config, b, open, t, log))
	if err != nil {
		return err
	}
	if err := a.announce(l, b, open, left, hints, log); err != nil {
		return err
	}
	if err := notify(a.host, "READY=1"); err != nil {
		log.Warn("systemd not told that the runtime is ready", "error", err)
	}
	err = a.work(ctx, w, t, log)
	log.Info("stopped; workloads keep running")
	return err
}

// work runs the worker until ctx ends or the metrics endpoint fails.
func (a *app) work(ctx context.Context, w *workers.Worker, t *telemetryParts, log *slog.Logger) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case err := <-t.failed:
			cancel(err)
		case <-ended:
		}
	})
	watching.Go(func() {
		select {
		case <-ctx.Done():
		case <-ended:
		}
		if ctx.Err() == nil {
			return
		}
		log.Info("draining; a second signal ends the process at once")
		if err := notify(a.host, "STOPPING=1"); err != nil {
			log.Warn("systemd not told that the runtime is stopping", "error", err)
		}
	})
	err := w.Run(ctx)
	close(ended)
	watching.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

func noEngine(left []skipped) error {
	var lines []string
	for _, s := range left {
		lines = append(lines, fmt.Sprintf("  %s: %v", s.name, s.why))
	}
	return exitf(exitError, "no engine answers:\n%s\nStart one, or name it in runtime.backends (--backend) to wait for it.", strings.Join(lines, "\n"))
}

func newLogger(w io.Writer, c *config.Config) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Runtime.LogLevel)); err != nil {
		return nil, fmt.Errorf("read runtime.log_level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	if c.Runtime.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}

// alone says that no worker of another host can be on the bus: what is not served here
// is not served at all.
func alone(n config.NATS) bool {
	host, _, err := net.SplitHostPort(n.Listen)
	return n.Mode == config.NATSEmbedded && err == nil && config.Loopback(host)
}

func workerConfig(c *config.Config, b *serverBus, open []served, t *telemetryParts, log *slog.Logger) workers.Config {
	cfg := workers.Config{
		Node:           c.Node.Name,
		DefaultBackend: c.Runtime.DefaultBackend,
		RejectUnserved: alone(c.NATS),
		NC:             b.nc,
		JS:             b.js,
		AckWait:        c.Runtime.AckWait,
		Lease:          c.Runtime.Lease,
		Deadline:       c.Runtime.Deadline,
		DrainTimeout:   c.Runtime.DrainTimeout,
		MaxAttempts:    c.Runtime.MaxAttempts,
		Policy:         policy(c.Policy),
		LockDir:        c.Node.LockDir,
		Counters:       t.metrics,
		Logger:         log,
	}
	for _, s := range open {
		cfg.Backends = append(cfg.Backends, s.Backend)
	}
	// A nil pointer in an interface is no nil interface.
	if t.shipper != nil {
		cfg.Logs = t.shipper
	}
	if t.collector != nil {
		cfg.Metrics = t.collector
	}
	return cfg
}
