package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// The exit codes. Scripts rely on them; the help of the root command lists them.
const (
	exitDone        = 0
	exitError       = 1
	exitUsage       = 2
	exitFailed      = 3
	exitRejected    = 4
	exitSuperseded  = 5
	exitExpired     = 6
	exitTimeout     = 7
	exitUnreachable = 8
	exitNotFound    = 9
	exitInUse       = 10
	exitInterrupted = 130
)

const exitCodesHelp = `Exit codes:
  0    done
  1    error
  2    wrong usage, invalid spec or invalid configuration
  3    the command failed
  4    the command was rejected
  5    the command was superseded by a newer one
  6    the command's deadline passed before it was carried out
  7    no result within --timeout; the command goes on
  8    NATS cannot be reached
  9    not found
  10   the address or the data directory of run is in use
  130  interrupted`

// codedError is an error with an exit code. A nil err was reported already.
type codedError struct {
	code int
	err  error
}

func (e *codedError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *codedError) Unwrap() error { return e.err }

// exitWith gives err an exit code.
func exitWith(code int, err error) error { return &codedError{code: code, err: err} }

// exitf makes an error with an exit code.
func exitf(code int, format string, args ...any) error {
	return &codedError{code: code, err: fmt.Errorf(format, args...)}
}

// reported ends with a code and says nothing more.
func reported(code int) error {
	if code == exitDone {
		return nil
	}
	return &codedError{code: code}
}

// codeOf is the exit code of an error.
func codeOf(err error) int {
	var e *codedError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	default:
		return exitError
	}
}

// reasonNotFound is the reason of a command for a workload that is not there.
const reasonNotFound = "NotFound"

// outcomeCode is the exit code of a command's result. A restart of what is not there is
// told from one that went wrong; a deploy that does not find its image failed.
func outcomeCode(r subjects.ResultData) int {
	if r.Outcome == subjects.Failed && r.Verb == subjects.Restart && r.Reason == reasonNotFound {
		return exitNotFound
	}
	switch r.Outcome {
	case subjects.Done:
		return exitDone
	case subjects.Failed:
		return exitFailed
	case subjects.Rejected:
		return exitRejected
	case subjects.Superseded:
		return exitSuperseded
	case subjects.Expired:
		return exitExpired
	default:
		return exitError
	}
}
