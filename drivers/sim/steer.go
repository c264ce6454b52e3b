package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// steerPrefix starts the variables of a spec's env that steer the simulation.
const steerPrefix = "SIM_"

// steering is how the instances of one spec behave.
type steering struct {
	exitAfter time.Duration
	exits     bool
	exitCode  int
	exitTimes int
	oom       bool
	health    healthScript
	logRate   float64
	logBytes  int
	print     []string
	body      string
	pull      time.Duration
	stop      time.Duration
	stopNever bool
	hookTakes time.Duration
	hookExit  int
	fail      []Failure
}

// steer reads the steering variables of a spec over the engine's defaults. Errors:
// *drivers.FieldErrors (ErrInvalidSpec) with every faulty variable.
func (e *Engine) steer(spec *drivers.WorkloadSpec) (steering, error) {
	s := e.defaults
	bad := &drivers.FieldErrors{Class: drivers.ErrInvalidSpec}
	for key, value := range spec.Env {
		if !strings.HasPrefix(key, steerPrefix) {
			continue
		}
		if err := s.set(strings.TrimPrefix(key, steerPrefix), value, spec.ID()); err != nil {
			bad.Add("env."+key, "%v", err)
		}
	}
	if len(bad.Fields) > 1 {
		slices.SortFunc(bad.Fields, func(a, b drivers.FieldError) int { return strings.Compare(a.Path, b.Path) })
	}
	return s, bad.ErrOrNil()
}

func (s *steering) set(name, value, workloadID string) (err error) {
	switch name {
	case "EXIT_AFTER":
		s.exits = true
		s.exitAfter, err = parseDuration(value)
	case "EXIT_CODE":
		s.exits = true
		s.exitCode, err = parseInt(value, 0, 255)
	case "EXIT_TIMES":
		s.exitTimes, err = parseInt(value, 1, 1_000_000)
	case "OOM":
		s.oom, err = strconv.ParseBool(value)
		if err != nil {
			err = fmt.Errorf("want true or false, got %q", value)
		}
		s.exits = s.exits || s.oom
	case "HEALTH":
		s.health, err = parseHealth(value)
	case "LOG_RATE":
		s.logRate, err = strconv.ParseFloat(value, 64)
		if err != nil || !(s.logRate >= 0 && s.logRate <= 1e6) {
			err = fmt.Errorf("want lines per second, 0 to 1000000, got %q", value)
		}
	case "LOG_BYTES":
		s.logBytes, err = parseInt(value, 1, 8<<20)
	case "PRINT":
		s.print = strings.Split(strings.TrimSuffix(value, "\n"), "\n")
	case "BODY":
		s.body = value
	case "PULL":
		s.pull, err = parseDuration(value)
	case "STOP":
		if value == "ignore" {
			s.stopNever = true
			return nil
		}
		if s.stop, err = parseDuration(value); err != nil {
			err = fmt.Errorf("want \"ignore\" or a duration, got %q", value)
		}
	case "HOOK_TAKES":
		s.hookTakes, err = parseDuration(value)
	case "HOOK_EXIT":
		s.hookExit, err = parseInt(value, 0, 255)
	case "FAIL":
		s.fail, err = parseFailures(value, workloadID)
	default:
		err = fmt.Errorf("not a steering variable; the ones known are %s", strings.Join(steerNames(), ", "))
	}
	return err
}

func steerNames() []string {
	return []string{"SIM_BODY", "SIM_EXIT_AFTER", "SIM_EXIT_CODE", "SIM_EXIT_TIMES", "SIM_FAIL", "SIM_HEALTH",
		"SIM_HOOK_EXIT", "SIM_HOOK_TAKES", "SIM_LOG_BYTES", "SIM_LOG_RATE", "SIM_OOM", "SIM_PRINT", "SIM_PULL", "SIM_STOP"}
}

func parseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("want a duration such as \"2s\", got %q", v)
	}
	return d, nil
}

func parseInt(v string, low, high int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("want a number from %d to %d, got %q", low, high, v)
	}
	return n, nil
}

// classes maps the words of SIM_FAIL to error classes; "engine" is none of them.
func classes() map[string]error {
	return map[string]error{
		"not-found":   drivers.ErrNotFound,
		"denied":      drivers.ErrDenied,
		"unavailable": drivers.ErrUnavailable,
		"conflict":    drivers.ErrConflict,
		"unsupported": drivers.ErrUnsupported,
		"engine":      nil,
	}
}

// parseFailures reads "create:unavailable:3,stop:engine".
func parseFailures(v, workloadID string) ([]Failure, error) {
	var out []Failure
	for part := range strings.SplitSeq(v, ",") {
		f := strings.Split(part, ":")
		if len(f) < 2 || len(f) > 3 {
			return nil, fmt.Errorf("want <call>:<class>[:<times>], got %q", part)
		}
		if !slices.Contains(ops(), Op(f[0])) {
			return nil, fmt.Errorf("unknown call %q, want one of %v", f[0], ops())
		}
		class, ok := classes()[f[1]]
		if !ok {
			return nil, fmt.Errorf("unknown class %q, want one of %v", f[1], slices.Sorted(maps.Keys(classes())))
		}
		failure := Failure{Op: Op(f[0]), Workload: workloadID, Class: class, Message: "steered by SIM_FAIL"}
		if len(f) == 3 {
			n, err := parseInt(f[2], 1, 1_000_000)
			if err != nil {
				return nil, err
			}
			failure.Times = n
		}
		out = append(out, failure)
	}
	return out, nil
}
