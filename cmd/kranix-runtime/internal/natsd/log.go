package natsd

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// logger passes what the server says to slog. Its notices are about starting and
// stopping, which the runtime says in its own words: they are details here.
type logger struct {
	log *slog.Logger
	// fatal receives the first message after which the server cannot go on.
	fatal chan error
}

var _ server.Logger = (*logger)(nil)

func newLogger(log *slog.Logger) *logger {
	return &logger{log: log.With("component", "nats"), fatal: make(chan error, 1)}
}

func (l *logger) Noticef(format string, v ...any) { l.log.Debug(text(format, v)) }
func (l *logger) Warnf(format string, v ...any)   { l.log.Warn(text(format, v)) }
func (l *logger) Errorf(format string, v ...any)  { l.log.Error(text(format, v)) }
func (l *logger) Debugf(format string, v ...any)  { l.log.Debug(text(format, v)) }
func (l *logger) Tracef(format string, v ...any)  { l.log.Debug(text(format, v)) }

// Fatalf must not end the process, as the server's own logger does: who runs the
// server decides.
func (l *logger) Fatalf(format string, v ...any) {
	message := text(format, v)
	l.log.Error(message)
	select {
	case l.fatal <- errors.New(message):
	default:
	}
}

func text(format string, v []any) string { return strings.TrimSpace(fmt.Sprintf(format, v...)) }
