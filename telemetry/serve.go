package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	healthTimeout   = 5 * time.Second
	shutdownTimeout = 5 * time.Second
)

// Serve answers GET /metrics and GET /healthz on addr ("host:port") until ctx ends,
// then finishes the requests in hand and returns nil. health says why the process is
// not healthy; its message is shown to whoever asks, so it holds no secret. nil is
// always healthy.
func Serve(ctx context.Context, addr string, m *Metrics, health func(context.Context) error) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return listenError(addr, err)
	}
	return serve(ctx, l, m, health)
}

func listenError(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen for metrics on %s: the port is in use; set metrics.metrics_port to a free one: %w", addr, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen for metrics on %s: the port needs privileges; set metrics.metrics_port to one above 1023: %w", addr, err)
	default:
		return fmt.Errorf("listen for metrics on %s (metrics.metrics_port): %w", addr, err)
	}
}

func serve(ctx context.Context, l net.Listener, m *Metrics, health func(context.Context) error) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		answerHealth(w, r, health)
	})
	srv := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve metrics on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(stop)
	if err != nil {
		err = errors.Join(fmt.Errorf("finish metrics requests: %w", err), srv.Close())
	}
	<-ended
	return err
}

func answerHealth(w http.ResponseWriter, r *http.Request, health func(context.Context) error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if health != nil {
		ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
		defer cancel()
		if err := health(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}
