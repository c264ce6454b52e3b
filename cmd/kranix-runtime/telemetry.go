package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
	"github.com/kranix-io/kranix-runtime/telemetry"
)

// telemetryParts are what tells the outside how workloads do; each may be off.
type telemetryParts struct {
	metrics   *telemetry.Metrics
	shipper   *telemetry.Shipper
	collector *telemetry.Collector
	stop      context.CancelFunc
	// failed receives why the endpoint cannot be; nothing when it is off or was stopped.
	failed  chan error
	serving sync.WaitGroup
}

func startTelemetry(ctx context.Context, l *config.Loaded, b *serverBus, log *slog.Logger) (*telemetryParts, error) {
	t := &telemetryParts{metrics: telemetry.NewMetrics(versionText()), failed: make(chan error, 1), stop: func() {}}
	var err error
	if l.Logs.Ship {
		t.shipper, err = telemetry.NewShipper(telemetry.ShipperConfig{
			JS: b.js, Logger: log, Metrics: t.metrics,
			LinesPerSecond: int64(l.Logs.LinesPerSecond), BytesPerSecond: int64(l.Logs.BytesPerSecond),
		})
		if err != nil {
			return nil, err
		}
	}
	if l.Metrics.Enabled {
		t.collector, err = telemetry.NewCollector(telemetry.CollectorConfig{
			JS: b.js, Logger: log, Metrics: t.metrics, Interval: l.Metrics.CollectionInterval,
		})
		if err != nil {
			t.close(log)
			return nil, err
		}
	}
	if l.Metrics.Enabled && l.Metrics.ExposeEndpoint {
		t.serve(ctx, l, b.nc, log)
	}
	return t, nil
}

// serve starts the endpoint. That the default port is taken, by a Prometheus perhaps,
// is no reason not to run; that a port somebody chose is taken is one.
func (t *telemetryParts) serve(ctx context.Context, l *config.Loaded, nc *nats.Conn, log *slog.Logger) {
	// It answers until everything else is done, the drain included.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	t.serving.Go(func() {
		err := telemetry.Serve(serving, metricsAddress(l.Config), t.metrics, func(context.Context) error { return busHealth(nc) })
		switch {
		case err == nil:
		case l.Source("metrics.metrics_port").Kind == config.FromDefault:
			log.Warn("there is no metrics endpoint", "error", err)
		default:
			t.failed <- err
		}
	})
}

func busHealth(nc *nats.Conn) error {
	if !nc.IsConnected() {
		return fmt.Errorf("the connection to NATS is %s", strings.ToLower(nc.Status().String()))
	}
	return nil
}

func metricsAddress(c *config.Config) string {
	return net.JoinHostPort(c.Metrics.MetricsAddress, strconv.Itoa(c.Metrics.MetricsPort))
}

// closeTimeout bounds the end of what is only telemetry.
const closeTimeout = 10 * time.Second

func (t *telemetryParts) close(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if t.shipper != nil {
		if err := t.shipper.Close(ctx); err != nil {
			log.Warn("shipping of logs not ended cleanly", "error", err)
		}
	}
	if t.collector != nil {
		if err := t.collector.Close(ctx); err != nil {
			log.Warn("collecting of metrics not ended cleanly", "error", err)
		}
	}
	t.stop()
	t.serving.Wait()
}
