package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// classify gives an error of the engine its class. op is a verb phrase. The SDK's
// error types end here: what callers see is the class and the engine's words. An error
// that is already classified, or a context's, keeps its identity.
func classify(op string, err error) error {
	if err == nil {
		return nil
	}
	var own *drivers.Error
	if errors.As(err, &own) || errors.Is(err, drivers.ErrStale) {
		return fmt.Errorf("%s: %w", op, err)
	}
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", op, err)
	}
	hint, class := classOf(err)
	if class == nil {
		return fmt.Errorf("%s: %w", op, plain(err))
	}
	return &drivers.Error{Class: class, Op: op, Hint: hint, Err: plain(err)}
}

var portTaken = regexp.MustCompile(`(?:Bind for |listen (?:tcp|udp)[46]? |exposing port (?:tcp|udp|sctp) )(\S+?:\d+)`)

// classOf returns the class of an engine's error, nil for none, and what the user can do
// about it.
func classOf(err error) (hint string, class error) {
	msg := err.Error()
	switch {
	case strings.Contains(msg, "port is already allocated"), strings.Contains(msg, "address already in use"):
		where := "the port"
		if m := portTaken.FindStringSubmatch(msg); m != nil {
			where = m[1]
		}
		return where + " is taken on the host: choose another hostPort or stop what uses it", drivers.ErrConflict
	case strings.Contains(msg, "no space left on device"), strings.Contains(msg, "disk quota exceeded"):
		return "the engine's disk is full: free space under its data root", drivers.ErrUnavailable
	case strings.Contains(msg, "could not select device driver"):
		return "resources.gpu: install the NVIDIA container toolkit on the node", drivers.ErrUnsupported
	case strings.Contains(msg, "No such container"):
		// A container that disappears under a call is no answer to what the caller asked.
		return "", nil
	case errors.Is(err, context.DeadlineExceeded):
		return "the engine did not answer in time", drivers.ErrUnavailable
	case client.IsErrConnectionFailed(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if errors.Is(err, syscall.EACCES) || strings.Contains(msg, "permission denied") {
			return "let the runtime's user use the engine's socket", drivers.ErrDenied
		}
		return "make sure that the engine runs and that docker.host is its address", drivers.ErrUnavailable
	case isNetError(err):
		return "", drivers.ErrUnavailable
	case cerrdefs.IsNotFound(err):
		return "", drivers.ErrNotFound
	case cerrdefs.IsUnavailable(err):
		return "", drivers.ErrUnavailable
	case cerrdefs.IsConflict(err), cerrdefs.IsAlreadyExists(err):
		return "", drivers.ErrConflict
	case cerrdefs.IsInvalidArgument(err):
		return "", drivers.ErrInvalidSpec
	case cerrdefs.IsUnauthorized(err), cerrdefs.IsPermissionDenied(err):
		return "", drivers.ErrDenied
	case cerrdefs.IsNotImplemented(err):
		return "", drivers.ErrUnsupported
	}
	return "", nil
}

func isNetError(err error) bool {
	var ne net.Error
	return errors.As(err, &ne)
}

// plain keeps an error's text and drops its type, so that no caller can come to depend
// on the SDK's.
func plain(err error) error {
	msg := strings.TrimPrefix(err.Error(), "Error response from daemon: ")
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(msg, ": context deadline exceeded"), context.DeadlineExceeded)
	}
	return errors.New(msg)
}
