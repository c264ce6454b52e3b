package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func TestClassify(t *testing.T) {
	answer := func(kind error, text string) error {
		return fmt.Errorf("Error response from daemon: %s: %w", text, kind)
	}
	cases := []struct {
		name string
		err  error
		want error // nil for no class
		text string
	}{
		{"image", answer(cerrdefs.ErrNotFound, "No such image: x"), drivers.ErrNotFound, "No such image"},
		{"container that has gone", answer(cerrdefs.ErrNotFound, "No such container: x"), nil, "No such container"},
		{"name", answer(cerrdefs.ErrConflict, "Conflict. The container name is in use"), drivers.ErrConflict, "in use"},
		{"port", errors.New("driver failed programming external connectivity on endpoint x: Bind for 127.0.0.1:8080 failed: port is already allocated"),
			drivers.ErrConflict, "127.0.0.1:8080 is taken on the host"},
		{"port of another process", errors.New("driver failed: Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use"),
			drivers.ErrConflict, "0.0.0.0:80 is taken on the host"},
		{"disk", answer(cerrdefs.ErrInternal, "write /var/lib/docker/x: no space left on device"), drivers.ErrUnavailable, "disk is full"},
		{"parameter", answer(cerrdefs.ErrInvalidArgument, "invalid sysctl"), drivers.ErrInvalidSpec, "invalid sysctl"},
		{"gpu", errors.New(`could not select device driver "nvidia" with capabilities: [[gpu]]`), drivers.ErrUnsupported, "resources.gpu"},
		{"credentials", answer(cerrdefs.ErrUnauthenticated, "unauthorized"), drivers.ErrDenied, ""},
		{"engine gone", io.ErrUnexpectedEOF, drivers.ErrUnavailable, "make sure that the engine runs"},
		{"engine hangs", context.DeadlineExceeded, drivers.ErrUnavailable, "in time"},
		{"engine failure", answer(cerrdefs.ErrInternal, "OCI runtime create failed"), nil, "OCI runtime"},
	}
	classes := []error{drivers.ErrNotFound, drivers.ErrConflict, drivers.ErrUnavailable, drivers.ErrInvalidSpec,
		drivers.ErrUnsupported, drivers.ErrDenied, drivers.ErrStale, drivers.ErrFailed}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := classify("do a thing", c.err)
			for _, class := range classes {
				if got := errors.Is(err, class); got != (class == c.want) {
					t.Errorf("errors.Is(%v, %v) is %t", err, class, got)
				}
			}
			if !strings.HasPrefix(err.Error(), "do a thing: ") || !strings.Contains(err.Error(), c.text) {
				t.Errorf("text is %q, want one with %q", err, c.text)
			}
			if strings.Contains(err.Error(), "Error response from daemon") {
				t.Errorf("text is %q, which speaks of the SDK's business", err)
			}
			if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
				t.Errorf("the SDK's class shines through: %v", err)
			}
		})
	}
}

func TestClassifyKeepsWhatIsClassified(t *testing.T) {
	if classify("x", nil) != nil {
		t.Error("nil became an error")
	}
	stale := fmt.Errorf("touch claim: %w", drivers.ErrStale)
	if err := classify("x", stale); !errors.Is(err, drivers.ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
	if err := classify("x", context.Canceled); !errors.Is(err, context.Canceled) || errors.Is(err, drivers.ErrUnavailable) {
		t.Errorf("got %v, want context.Canceled alone", err)
	}
	denied := &drivers.Error{Class: drivers.ErrDenied, Op: "pull", Hint: "log in"}
	if err := classify("x", denied); !errors.Is(err, drivers.ErrDenied) || !strings.Contains(err.Error(), "log in") {
		t.Errorf("got %v, want ErrDenied with its hint", err)
	}
}
