package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/nats-io/nats.go"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

const (
	// fetchLimit bounds one fetch of the page.
	fetchLimit = 5 * time.Second
	// followLimit bounds the wait for the first deploy.
	followLimit = 45 * time.Second
)

// workloadName is the workload's name in the demo's namespace.
const workloadName = "web"

var specTemplate = template.Must(template.New("spec").Parse(`name: ` + workloadName + `
namespace: {{.Namespace}}
backend: docker
image: {{.Image}}
pullPolicy: never
ports:
  - {name: http, containerPort: 8080, publish: true, hostAddress: 127.0.0.1}
resources: {cpu: 500m, memory: 64Mi}
health:
  http: {port: 8080, path: /healthz}
  interval: 1s
update: {monitor: 1s}
stop: {grace: 5s}
`))

func (d *demo) workloadID() string { return drivers.WorkloadID(d.namespace, workloadName) }

// writeSpec writes the spec of a version and returns its path.
func (d *demo) writeSpec(version string) (string, error) {
	var spec bytes.Buffer
	err := specTemplate.Execute(&spec, map[string]string{"Namespace": d.namespace, "Image": d.repository + ":" + version})
	if err != nil {
		return "", fmt.Errorf("write spec: %w", err)
	}
	path := filepath.Join(d.dir, "web-"+version+".yaml")
	if err := os.WriteFile(path, spec.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("write spec: %w", err)
	}
	return path, nil
}

// cloudEvent is an event in structured mode (CloudEvents JSON format 1.0), as text in
// the order that people read it in.
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
}

// publishDeploy publishes the command as any NATS client can: one message, a CloudEvent
// in structured mode.
func (d *demo) publishDeploy(ctx context.Context) error {
	path, err := d.writeSpec("v1")
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read spec: %w", err)
	}
	spec, err := yaml.YAMLToJSON(text)
	if err != nil {
		return fmt.Errorf("turn spec into JSON: %w", err)
	}
	subject, err := subjects.Command(subjects.Workload{
		Backend: "docker", Node: subjects.Any, Namespace: d.namespace, Name: workloadName,
	}, subjects.Deploy)
	if err != nil {
		return err
	}
	event, err := json.Marshal(cloudEvent{
		SpecVersion: "1.0", ID: "demo-1", Source: "/demo/" + d.node, Type: subjects.TypeDeploy,
		Subject: d.workloadID(), DataContentType: "application/json", Data: bytes.TrimSpace(spec),
	})
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	nc, err := d.connect()
	if err != nil {
		return err
	}
	defer nc.Close()

	const contentType = "application/cloudevents+json"
	d.show.command("nats req --server " + d.runtime.URL + " -H 'Content-Type: " + contentType + "' \\\n      " + subject + " '" + string(event) + "'")
	msg := nats.NewMsg(subject)
	msg.Header.Set("Content-Type", contentType)
	msg.Data = event
	ack, err := nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return fmt.Errorf("publish command: %w", err)
	}
	d.show.note("stored and synced to disk: %s", ack.Data)
	return d.followDeploy(ctx)
}

// followDeploy shows the workload's events from the beginning until it is healthy and
// its deploy has its result. Events and results are two streams: either can come first.
func (d *demo) followDeploy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, followLimit)
	defer cancel()
	args := []string{"events", d.workloadID(), "--since", "1m", "-f"}
	d.show.command("kranix-runtime " + strings.Join(args, " "))
	const wanted = string(subjects.Deploy) + " " + string(subjects.Done)
	healthy, done, failed := false, false, ""
	err := d.until(ctx, func(line string) (string, bool) {
		words := strings.Fields(line)
		healthy = healthy || slices.Contains(words, string(drivers.PhaseHealthy))
		if i := slices.Index(words, "="); i >= 0 {
			result := strings.Join(words[i+1:], " ")
			if done = strings.HasPrefix(result, wanted); !done {
				failed = result
			}
		}
		return line, failed != "" || healthy && done
	}, args...)
	if err == nil && failed != "" {
		return fmt.Errorf("follow the deploy: its result is %q, want %q", failed, wanted)
	}
	return err
}

// status reads the workload's status.
func (d *demo) status(ctx context.Context) (*drivers.WorkloadStatus, error) {
	out, err := d.read(ctx, "status", d.workloadID(), "-o", "json")
	if err != nil {
		return nil, err
	}
	var list []drivers.WorkloadStatus
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("read status: %w", err)
	}
	if len(list) != 1 || len(list[0].Instances) != 1 {
		return nil, fmt.Errorf("read status: want one workload with one instance, got %s", out)
	}
	return &list[0], nil
}

// fetch gets the page over the published port, which the status names.
func (d *demo) fetch(ctx context.Context, version string) error {
	s, err := d.status(ctx)
	if err != nil {
		return err
	}
	ports := s.Instances[0].Ports
	if len(ports) == 0 {
		return fmt.Errorf("fetch page: the status names no published port")
	}
	d.port = ports[0].HostPort
	url := fmt.Sprintf("http://127.0.0.1:%d/", d.port)
	d.show.command("curl " + url)
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("fetch page: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("fetch page: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("fetch page: %w", err)
	}
	d.show.note("%s", bytes.TrimSpace(body))
	if want := "version " + version + ","; !bytes.Contains(body, []byte(want)) {
		return fmt.Errorf("fetch page: it does not say %q", want)
	}
	return nil
}

func (d *demo) fetchFirst(ctx context.Context) error {
	err := d.fetch(ctx, "v1")
	d.show.detail("127.0.0.1:%d", d.port)
	return err
}

// readLogs follows the logs until the request of fetchFirst is there.
func (d *demo) readLogs(ctx context.Context) error {
	args := []string{"logs", d.workloadID(), "-f"}
	d.show.command("kranix-runtime " + strings.Join(args, " "))
	return d.until(ctx, func(line string) (string, bool) {
		return line, strings.Contains(line, "GET / 200")
	}, args...)
}

func (d *demo) restart(ctx context.Context) error {
	before, err := d.status(ctx)
	if err != nil {
		return err
	}
	if err := d.cli(ctx, 0, "restart", d.workloadID()); err != nil {
		return err
	}
	after, err := d.status(ctx)
	if err != nil {
		return err
	}
	was, is := before.Instances[0], after.Instances[0]
	if was.StartedAt == is.StartedAt {
		return fmt.Errorf("the instance has not been restarted: it was started at %s all along", is.StartedAt)
	}
	d.show.note("started at %s, before at %s", is.StartedAt, was.StartedAt)
	return d.fetch(ctx, "v1")
}

func (d *demo) update(ctx context.Context) error {
	path, err := d.writeSpec("v2")
	if err != nil {
		return err
	}
	if err := d.cli(ctx, 0, "deploy", "-f", path); err != nil {
		return err
	}
	return d.fetch(ctx, "v2")
}

// exitFailed is the exit code of a deploy that failed.
const exitFailed = 3

// breakIt deploys a version that ends with an error: v2 must be back, and the reason
// must be told.
func (d *demo) breakIt(ctx context.Context) error {
	path, err := d.writeSpec("v3")
	if err != nil {
		return err
	}
	if err := d.cli(ctx, exitFailed, "deploy", "-f", path); err != nil {
		return err
	}
	d.show.note("exit code %d: v3 failed, and v2 serves:", exitFailed)
	return d.fetch(ctx, "v2")
}

// destroy removes the workload and asks the engine whether anything is left.
func (d *demo) destroy(ctx context.Context) error {
	if err := d.cli(ctx, 0, "destroy", d.workloadID()); err != nil {
		return err
	}
	now, err := takeInventory(ctx, d.engine.Host)
	if err != nil {
		return err
	}
	for _, name := range now["containers"] {
		if strings.Contains(name, d.namespace) {
			return fmt.Errorf("a container is left: %s", name)
		}
	}
	d.show.note("no container of %s is left", d.namespace)
	return nil
}
