package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

const (
	// refreshEvery is how often the live line's clock moves.
	refreshEvery = 200 * time.Millisecond
	// pullEvery bounds how often a pull's progress becomes a line of its own.
	pullEvery = 3 * time.Second
	// silence is after how long without any event the user is told what may be wrong.
	silence = 5 * time.Second
	// liveWidth is the longest live line: one that wraps cannot be overwritten.
	liveWidth = 79
)

// display shows commands at work: a line that changes on a terminal, a line per step
// elsewhere, both on standard error, and the outcome on standard output.
type display struct {
	a      *app
	format string
	// live is one line that is overwritten; many commands at once get lines.
	live bool
	many bool
	err  painter
	out  painter

	mu   sync.Mutex
	wg   sync.WaitGroup
	stop chan struct{}
}

func (a *app) newDisplay(format string, many bool) *display {
	return &display{
		a: a, format: format, many: many, stop: make(chan struct{}),
		live: !many && terminal(a.stderr) && a.host.Getenv("TERM") != "dumb",
		err:  a.painter(a.stderr), out: a.painter(a.stdout),
	}
}

func (d *display) close() {
	close(d.stop)
	d.wg.Wait()
}

// stored prints the receipt of a command nobody waits for.
func (d *display) stored(r receipt) error {
	if d.format == formatJSON {
		return writeLine(d.a.stdout, r)
	}
	if d.format == formatYAML {
		return writeValue(d.a.stdout, d.format, r)
	}
	again := ""
	if r.Duplicate {
		again = " (stored before)"
	}
	_, err := fmt.Fprintf(d.a.stdout, "%s of %s stored as command %s, sequence %d%s\n", r.Verb, r.Workload, r.CommandID, r.Sequence, again)
	return err
}

// progress is one command on a display.
type progress struct {
	d       *display
	r       receipt
	started time.Time
	steps   []step
	status  string
	ended   bool
	heard   bool
	hinted  bool
	pulled  time.Time
}

// step is a phase a command went through.
type step struct {
	phase string
	at    time.Time
}

func (d *display) begin(r receipt) *progress {
	p := &progress{d: d, r: r, started: time.Now(), status: "waiting for a worker"}
	d.wg.Go(p.tick)
	return p
}

// tick keeps the live line's clock going and breaks a long silence.
func (p *progress) tick() {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-p.d.stop:
			return
		case <-ticker.C:
		}
		p.d.mu.Lock()
		if p.ended {
			p.d.mu.Unlock()
			return
		}
		if !p.heard && !p.hinted && time.Since(p.started) > silence {
			p.hinted = true
			p.status = fmt.Sprintf("no worker has taken the command yet; is a runtime with %s running?", servedBy(p.r.command.workload))
			if !p.d.live {
				p.line(p.status)
			}
		}
		p.draw()
		p.d.mu.Unlock()
	}
}

func servedBy(w subjects.Workload) string {
	s := "backend " + w.Backend
	if w.Backend == subjects.Any {
		s = "a default backend"
	}
	if w.Node != subjects.Any {
		s += " on node " + w.Node
	}
	return s
}

// show takes an event of the command.
func (p *progress) show(o observation) {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	phase := o.data.Phase
	fresh := len(p.steps) == 0 || p.steps[len(p.steps)-1].phase != phase
	if fresh {
		p.steps = append(p.steps, step{phase: phase, at: o.event.Time()})
	}
	p.heard = true
	p.status = describe(o.data)
	if p.d.live {
		p.draw()
		return
	}
	if phase == string(drivers.PhasePulling) {
		if !fresh && time.Since(p.pulled) < pullEvery {
			return
		}
		p.pulled = time.Now()
	}
	p.line(p.status)
}

// describe says what an event says.
func describe(e subjects.WorkloadEvent) string {
	s := e.Phase
	if e.Instance != nil {
		s += fmt.Sprintf(" instance %d", *e.Instance)
	}
	if e.Progress != nil {
		s += " " + amount(e.Phase, *e.Progress)
	}
	switch {
	case e.Message != "":
		s += ": " + oneLine(e.Message)
	case e.Reason != "":
		s += ": " + oneLine(e.Reason)
	}
	if e.Attempt > 1 {
		s += fmt.Sprintf(" (attempt %d)", e.Attempt)
	}
	return s
}

// amount is how far a step is: bytes of a pull, instances of everything else.
func amount(phase string, d subjects.ProgressData) string {
	if phase == string(drivers.PhasePulling) || phase == string(drivers.PhasePulled) {
		if d.Total > 0 {
			return fmt.Sprintf("%s of %s (%d %%)", byteCount(d.Current), byteCount(d.Total), 100*d.Current/d.Total)
		}
		return byteCount(d.Current)
	}
	if d.Total > 0 {
		return fmt.Sprintf("%d/%d", d.Current, d.Total)
	}
	return fmt.Sprint(d.Current)
}

// draw writes the live line over the one before. The caller holds the lock.
func (p *progress) draw() {
	if !p.d.live || p.ended || p.d.format != formatTable {
		return
	}
	line := fmt.Sprintf("%6s  %s  %s", seconds(time.Since(p.started)), p.r.Workload, p.status)
	if r := []rune(line); len(r) > liveWidth {
		line = string(r[:liveWidth-1]) + "…"
	}
	fmt.Fprintf(p.d.a.stderr, "\r\x1b[K%s", line)
}

// line writes a step on a line of its own. The caller holds the lock.
func (p *progress) line(s string) {
	if p.d.format != formatTable {
		return
	}
	name := ""
	if p.d.many {
		name = p.r.Workload + "  "
	}
	fmt.Fprintf(p.d.a.stderr, "%7s  %s%s\n", seconds(time.Since(p.started)), name, s)
}

// end gives up the live line.
func (p *progress) end() {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.clear()
}

func (p *progress) clear() {
	if p.d.live && !p.ended && p.d.format == formatTable {
		fmt.Fprint(p.d.a.stderr, "\r\x1b[K")
	}
	p.ended = true
}

// finish prints the result.
func (p *progress) finish(r subjects.ResultData) error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	p.clear()
	switch p.d.format {
	case formatJSON:
		return writeLine(p.d.a.stdout, r)
	case formatYAML:
		return writeValue(p.d.a.stdout, p.d.format, r)
	}
	_, err := p.d.a.stdout.Write([]byte(resultText(p.d.out, p.r.Workload, p.r.command.workload.Backend, r, p.timeline(r), p.sent(r))))
	return err
}

// sent is when the command was published if its result may be older. Only a command the
// server knew before can have one; of the others the clocks need not be compared.
func (p *progress) sent(r subjects.ResultData) time.Time {
	if p.heard || (!p.r.Duplicate && r.Sequence == p.r.Sequence) {
		return time.Time{}
	}
	return p.started
}

// timeline is how long the command spent in each phase: "pulling 1.20s, starting 0.40s".
func (p *progress) timeline(r subjects.ResultData) string {
	spent := map[string]time.Duration{}
	var order []string
	for i, s := range p.steps {
		end := r.FinishedAt
		if i+1 < len(p.steps) {
			end = p.steps[i+1].at
		}
		d := end.Sub(s.at)
		if d < 5*time.Millisecond || s.phase == string(drivers.PhaseAccepted) || s.phase == string(drivers.PhaseDestroyed) {
			continue
		}
		if _, ok := spent[s.phase]; !ok {
			order = append(order, s.phase)
		}
		spent[s.phase] += d
	}
	parts := make([]string, len(order))
	for i, phase := range order {
		parts[i] = phase + " " + seconds(spent[phase])
	}
	return strings.Join(parts, ", ")
}
