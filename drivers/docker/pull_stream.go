package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// The bounds of a pull.
const (
	// pullStall is how long a pull may show no sign of life. The engine reports every
	// read of a layer and every step of its extraction.
	pullStall = 2 * time.Minute
	// mirrorConnect is how long a mirror may take to show the manifest, mirrorStall how
	// long it may be silent after that: the image's own registry comes next.
	mirrorConnect = 5 * time.Second
	mirrorStall   = 30 * time.Second
	// progressEvery throttles the reports of bytes.
	progressEvery = 250 * time.Millisecond
)

// pullLimits says when to give up on one source of an image.
type pullLimits struct {
	// connect is the longest wait for the first sign of life, which comes when the engine
	// has the manifest, and stall for every later one.
	connect, stall time.Duration
	// impatient gives up when the engine retries a layer by itself, which it does five
	// times with growing pauses.
	impatient bool
}

// pullMessage is one message of the engine's answer to a pull (Docker Engine API,
// "ImageCreate").
type pullMessage struct {
	ID             string `json:"id"`
	Status         string `json:"status"`
	ProgressDetail struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
	Error       string `json:"error"`
	ErrorDetail struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
}

// errStalled is the cause of a pull's context when the engine went silent.
var errStalled = errors.New("no progress")

// pullFrom has the engine pull ref and returns the manifest's digest. The engine sends
// its status before it starts, so errors also come inside the answer, which is read to
// its end.
func (d *Driver) pullFrom(ctx context.Context, ref reference.Named, cred credential, limits pullLimits, report func(drivers.Progress)) (digest string, err error) {
	header, err := cred.header(reference.Domain(ref))
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wait := limits.connect
	watchdog := time.AfterFunc(wait, func() { cancel(errStalled) })
	defer watchdog.Stop()

	fail := func(err error) (string, error) {
		switch {
		case errors.Is(context.Cause(ctx), errStalled):
			return "", &drivers.Error{Class: drivers.ErrUnavailable, Op: "pull image " + ref.String(),
				Err: fmt.Errorf("no progress for %s", wait)}
		case ctx.Err() != nil:
			return "", fmt.Errorf("pull image %s: %w", ref, ctx.Err())
		}
		return "", pullError(ref, cred, err)
	}
	body, err := d.cli.ImagePull(ctx, ref.String(), image.PullOptions{RegistryAuth: header})
	if err != nil {
		return fail(err)
	}
	defer body.Close() //nolint:errcheck // nothing was written

	dec := json.NewDecoder(body)
	meter := newPullMeter(ref, time.Now)
	var complete bool
	var failure error
	for {
		var m pullMessage
		if err := dec.Decode(&m); err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return fail(err)
		}
		wait = limits.stall
		watchdog.Reset(wait)
		switch {
		case m.Error != "" || m.ErrorDetail.Message != "":
			failure = errors.New(firstNonEmpty(m.ErrorDetail.Message, m.Error))
		case strings.HasPrefix(m.Status, "Digest: "):
			digest = strings.TrimSpace(strings.TrimPrefix(m.Status, "Digest: "))
		case strings.HasPrefix(m.Status, "Status: "):
			complete = true
		case limits.impatient && strings.HasPrefix(m.Status, "Retrying in "):
			return "", &drivers.Error{Class: drivers.ErrUnavailable, Op: "pull image " + ref.String(),
				Err: errors.New("a layer could not be read")}
		}
		if p, ok := meter.add(m); ok {
			report(p)
		}
	}
	if failure != nil {
		return fail(failure)
	}
	if !complete {
		return fail(io.ErrUnexpectedEOF)
	}
	return digest, nil
}

func firstNonEmpty(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// pullMeter adds up the bytes of the layers of one pull and decides when a report is
// due.
type pullMeter struct {
	ref     string
	now     func() time.Time
	current map[string]int64
	total   map[string]int64
	next    time.Time
}

func newPullMeter(ref reference.Named, now func() time.Time) *pullMeter {
	return &pullMeter{ref: reference.FamiliarString(ref), now: now, current: map[string]int64{}, total: map[string]int64{}}
}

// add takes a message in and returns a report when one is due: the first at once, then
// at most one per progressEvery. Totals grow while the engine discovers layers; layers
// it already has never appear in them.
func (m *pullMeter) add(msg pullMessage) (drivers.Progress, bool) {
	switch {
	case msg.Status == "Downloading" && msg.ProgressDetail.Current > 0:
		m.current[msg.ID] = msg.ProgressDetail.Current
		if msg.ProgressDetail.Total > 0 {
			m.total[msg.ID] = msg.ProgressDetail.Total
		}
	case msg.Status == "Download complete":
		// The last step of a download is often not reported as progress.
		m.current[msg.ID] = max(m.current[msg.ID], m.total[msg.ID])
	}
	now := m.now()
	if now.Before(m.next) {
		return drivers.Progress{}, false
	}
	m.next = now.Add(progressEvery)
	return m.progress(), true
}

func (m *pullMeter) progress() drivers.Progress {
	p := drivers.Progress{Phase: drivers.PhasePulling, Message: "pulling " + m.ref, Instance: -1}
	for id, n := range m.current {
		p.Current += n
		p.Total += max(n, m.total[id])
	}
	return p
}

// Registries and the engine tell most faults apart by words only, since they come
// inside a stream whose status was sent long before.
var (
	anyURL      = regexp.MustCompile(`https?://[^\s"]+`)
	pullBusy    = regexp.MustCompile(`(?i)toomanyrequests|too many requests|rate ?limit|internal server error|bad gateway|service unavailable|gateway time-?out`)
	pullDenied  = regexp.MustCompile(`(?i)\bdenied\b|unauthorized|authentication required|no basic auth credentials|forbidden|incorrect username or password`)
	pullAbsent  = regexp.MustCompile(`(?i)manifest unknown|not found|name unknown|no matching manifest|no such image`)
	pullCorrupt = regexp.MustCompile(`(?i)verification failed|digest mismatch|unexpected EOF`)
	pullBroken  = regexp.MustCompile(`(?i)\bEOF\b|timeout|timed out|deadline exceeded|connection re(fused|set)|no such host|no route to host|network is unreachable|broken pipe|server misbehaving|\btls\b|x509|server gave HTTP response|unexpected (HTTP )?status`)
)

// pullError gives a failed pull its class and tells the user what to do about it.
func pullError(ref reference.Named, cred credential, err error) error {
	var own *drivers.Error
	if errors.As(err, &own) {
		return err
	}
	op := "pull image " + reference.FamiliarString(ref)
	msg := cred.redact(plain(err).Error())
	e := &drivers.Error{Op: op, Err: errors.New(msg)}
	// An image may be called "forbidden", or its tag be "timeout".
	words := strings.NewReplacer(ref.String(), "", ref.Name(), "", reference.FamiliarString(ref), "", reference.Path(ref), "").Replace(anyURL.ReplaceAllString(msg, ""))
	// Which word decides matters: a refused token request says "unauthorized: ... 429",
	// and an absent repository on Docker Hub says both "denied" and "does not exist".
	switch {
	case pullBusy.MatchString(words):
		e.Class, e.Hint = drivers.ErrUnavailable, "the registry is busy or limits the rate: it is tried again; log in or configure a mirror"
	case pullDenied.MatchString(words):
		e.Class = drivers.ErrDenied
		if cred.anonymous() {
			e.Hint = "check the image's name; when it is private, set registry credentials in the spec or log in on the node with docker login " + reference.Domain(ref)
		} else {
			e.Hint = "check the image's name and the credentials for " + reference.Domain(ref)
		}
	case pullAbsent.MatchString(words):
		e.Class, e.Hint = drivers.ErrNotFound, "check the image's name, tag and platform"
	case pullCorrupt.MatchString(words):
		e.Class, e.Hint = drivers.ErrUnavailable, "what came from "+reference.Domain(ref)+" was cut short or damaged: it is tried again"
	case pullBroken.MatchString(words):
		e.Class, e.Hint = drivers.ErrUnavailable, "make sure that the engine's host reaches "+reference.Domain(ref)
	default:
		return classify(op, err)
	}
	return e
}
