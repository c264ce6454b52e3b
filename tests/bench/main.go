// Command bench measures what the runtime costs on top of what it is built on, each
// figure as a ratio to a floor measured in the same run: medians of interleaved pairs,
// so that a noisy machine does not decide. It prints a table and writes bench.json.
//
// Rows on a real engine need Docker and are left out, by name, where there is none.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
)

// row is one figure. Ratio is Value/Reference; Met is nil where there is no target.
type row struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference"`
	Ratio     float64 `json:"ratio"`
	Target    string  `json:"target"`
	Met       *bool   `json:"met"`
}

// options are what a run may be told.
type options struct {
	out    string
	binary string
	// pairs is how many interleaved pairs each comparison takes the median of.
	pairs int
	// only names the one part to measure; empty is all.
	only string
	// strict makes a missed target an exit code.
	strict bool
}

func main() {
	var o options
	flag.StringVar(&o.out, "out", "bench.json", "where to write the table as JSON")
	flag.StringVar(&o.binary, "binary", "bin/kranix-runtime", "the built binary, for its memory and size")
	flag.IntVar(&o.pairs, "pairs", 7, "interleaved pairs per comparison")
	flag.StringVar(&o.only, "only", "", "measure one part: sim, docker or process")
	flag.BoolVar(&o.strict, "strict", false, "exit with 3 when a target is missed")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	code, err := run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	stop()
	os.Exit(code)
}

func run(ctx context.Context, o options) (int, error) {
	var rows []row
	var errs []error
	for _, part := range []struct {
		name    string
		measure func(context.Context, options) ([]row, error)
	}{
		{"sim", measureSim},
		{"docker", measureDocker},
		{"process", measureProcess},
	} {
		if o.only != "" && o.only != part.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s ...\n", part.name)
		more, err := part.measure(ctx, o)
		rows = append(rows, more...)
		if err != nil {
			errs = append(errs, fmt.Errorf("measure %s: %w", part.name, err))
		}
	}
	print(rows)
	b, err := json.MarshalIndent(rows, "", "  ")
	if err == nil {
		err = os.WriteFile(o.out, append(b, '\n'), 0o644)
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("write %s: %w", o.out, err))
	}
	if err := errors.Join(errs...); err != nil {
		return 1, err
	}
	if missed := slices.ContainsFunc(rows, func(r row) bool { return r.Met != nil && !*r.Met }); missed && o.strict {
		return 3, errors.New("a target is missed")
	}
	return 0, nil
}

func print(rows []row) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tVALUE\tUNIT\tREFERENCE\tRATIO\tTARGET\tMET")
	for _, r := range rows {
		reference, ratio, met := "-", "-", "-"
		if r.Reference != 0 {
			reference, ratio = fmt.Sprintf("%.4g", r.Reference), fmt.Sprintf("%.3f", r.Ratio)
		}
		if r.Met != nil {
			met = map[bool]string{true: "yes", false: "NO"}[*r.Met]
		}
		fmt.Fprintf(w, "%s\t%.4g\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Value, r.Unit, reference, ratio, r.Target, met)
	}
	w.Flush()
}

// pair is one measurement of both sides, taken one after the other.
type pair struct{ value, reference float64 }

// compare makes a row of interleaved pairs: the medians of both sides, and the median
// of the ratios pair by pair.
func compare(name, unit string, pairs []pair, target string, met func(ratio float64) bool) row {
	var values, references, ratios []float64
	for _, p := range pairs {
		values, references, ratios = append(values, p.value), append(references, p.reference), append(ratios, p.value/p.reference)
	}
	r := row{Name: name, Unit: unit, Value: median(values), Reference: median(references), Ratio: median(ratios), Target: target}
	if met != nil {
		ok := met(r.Ratio)
		r.Met = &ok
	}
	return r
}

func atMost(limit float64) func(float64) bool  { return func(r float64) bool { return r <= limit } }
func atLeast(limit float64) func(float64) bool { return func(r float64) bool { return r >= limit } }

// median sorts its argument.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
