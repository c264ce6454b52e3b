package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/drivers"
	"github.com/kranix-io/kranix-runtime/subjects"
)

// target says which workload a command line means.
type target struct {
	namespace string
	backend   string
}

func (t *target) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&t.namespace, "namespace", "n", "", "namespace, when NAME holds none (default \"default\")")
	cmd.Flags().StringVar(&t.backend, "backend", "", "backend, where workloads of that name are on several")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(subjects.Backends(), cobra.ShellCompDirectiveNoFileComp))
}

// parse reads "<namespace>/<name>" or "<name>".
func (t *target) parse(arg string) (subjects.Workload, error) {
	namespace, name, ok := strings.Cut(arg, "/")
	if !ok {
		namespace, name = first(t.namespace, drivers.DefaultNamespace), arg
	} else if t.namespace != "" && t.namespace != namespace {
		return subjects.Workload{}, exitf(exitUsage, "%q and --namespace %q name two namespaces", arg, t.namespace)
	}
	w := subjects.Workload{Backend: first(t.backend, subjects.Any), Node: subjects.Any, Namespace: namespace, Name: name}
	if err := w.Validate(); err != nil {
		return subjects.Workload{}, exitf(exitUsage, "%w; want <namespace>/<name>", err)
	}
	if t.backend != "" && !slices.Contains(subjects.Backends(), t.backend) {
		return subjects.Workload{}, exitf(exitUsage, "there is no backend %q; there are %s", t.backend, strings.Join(subjects.Backends(), ", "))
	}
	return w, nil
}

// statuses reads what was last observed of the workloads that match; empty tokens match
// any.
func (b *bus) statuses(ctx context.Context, backend, namespace, name string) ([]drivers.WorkloadStatus, error) {
	filter, err := subjects.StatusKeyFilter(backend, "", namespace, name)
	if err != nil {
		return nil, exitWith(exitUsage, err)
	}
	entries, err := b.entries(ctx, subjects.BucketStatus, filter)
	if err != nil {
		return nil, fmt.Errorf("read statuses: %w", err)
	}
	out := make([]drivers.WorkloadStatus, 0, len(entries))
	for _, e := range entries {
		var s drivers.WorkloadStatus
		if err := json.Unmarshal(e.Value(), &s); err != nil {
			return nil, fmt.Errorf("decode status %s: %w", e.Key(), err)
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b drivers.WorkloadStatus) int {
		return strings.Compare(a.ID+"\x00"+a.Backend+"\x00"+a.Node, b.ID+"\x00"+b.Backend+"\x00"+b.Node)
	})
	return out, nil
}

// entries reads the values of a bucket whose keys match.
func (b *bus) entries(ctx context.Context, bucket, filter string) ([]jetstream.KeyValueEntry, error) {
	kv, err := b.js.KeyValue(ctx, bucket)
	if err != nil {
		return nil, explain(err)
	}
	watcher, err := kv.Watch(ctx, filter, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = watcher.Stop() }() // ends with the connection at the latest
	var out []jetstream.KeyValueEntry
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case entry, ok := <-watcher.Updates():
			if !ok || entry == nil {
				return out, nil // nil marks the end of what there is
			}
			out = append(out, entry)
		}
	}
}

// resolve finds the backend of a workload the user named without one: that of the
// workload that is observed, else that of its last command.
func (b *bus) resolve(ctx context.Context, w subjects.Workload) (subjects.Workload, error) {
	if w.Backend != subjects.Any {
		return w, nil
	}
	statuses, err := b.statuses(ctx, "", w.Namespace, w.Name)
	if err != nil {
		return w, err
	}
	var backends []string
	for _, s := range statuses {
		if !slices.Contains(backends, s.Backend) {
			backends = append(backends, s.Backend)
		}
	}
	switch len(backends) {
	case 1:
		w.Backend = backends[0]
		return w, nil
	case 0:
		return b.resolveByCommand(ctx, w)
	default:
		return w, exitf(exitUsage, "%s is on several backends (%s); choose one with --backend", w.ID(), strings.Join(backends, ", "))
	}
}

// resolveByCommand serves a workload whose deploy was stored and not carried out yet.
func (b *bus) resolveByCommand(ctx context.Context, w subjects.Workload) (subjects.Workload, error) {
	filter, err := subjects.CommandsFilter("", "", w.Namespace, w.Name, subjects.Deploy)
	if err != nil {
		return w, exitWith(exitUsage, err)
	}
	stream, err := b.js.Stream(ctx, subjects.StreamCommands)
	if err != nil {
		return w, fmt.Errorf("find %s: %w", w.ID(), explain(err))
	}
	msg, err := stream.GetLastMsgForSubject(ctx, filter)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return w, exitf(exitNotFound, "there is no workload %s; name its backend with --backend to send the command anyway", w.ID())
	}
	if err != nil {
		return w, fmt.Errorf("find %s: %w", w.ID(), explain(err))
	}
	s, err := subjects.Parse(msg.Subject)
	if err != nil {
		return w, fmt.Errorf("find %s: %w", w.ID(), err)
	}
	w.Backend = s.Workload.Backend
	return w, nil
}

// completeWorkloads offers the IDs of the workloads that are there. It gives up quickly:
// a shell waits for it.
func (a *app) completeWorkloads(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
	defer cancel()
	b, err := a.connect(ctx)
	if err != nil {
		return nil, none
	}
	defer b.close()
	statuses, err := b.statuses(ctx, "", "", "")
	if err != nil {
		return nil, none
	}
	var ids []string
	for _, s := range statuses {
		ids = append(ids, cobra.CompletionWithDesc(s.ID, fmt.Sprintf("%s on %s/%s", s.Phase, s.Backend, s.Node)))
	}
	return ids, none
}
