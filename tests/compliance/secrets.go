package compliance

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kranix-io/kranix-runtime/drivers"
)

func secretCases() []Case {
	return []Case{
		{"EnvironmentArrives", "variables and secrets, as variables and as files, reach the process", environment},
		{"SecretsAreNotShown", "a secret's value is in no label, name, argument, status or error", secretsHidden},
		{"MissingSecretIsNotFound", "a reference to nothing is ErrNotFound and leaves nothing", missingSecret},
	}
}

const canary = "hunter2-canary-4711"

func environment(r *run) {
	s := r.h.Workloads.ShowsEnv("web", []string{"COLOUR", "PASSWORD"}, []string{"/run/secrets/token"})
	if s.Env == nil {
		s.Env = map[string]string{}
	}
	s.Env["COLOUR"] = "green $HOME 'quoted' \"twice\""
	s.Secrets = []drivers.SecretUse{
		{Ref: r.secrets.put("db/password", canary), Env: "PASSWORD"},
		{Ref: r.secrets.put("token", "t0ken"), File: "/run/secrets/token"},
	}
	s = r.spec(s)
	r.deploy(s)
	r.wantLines(s.ID(), nil, "COLOUR=green $HOME 'quoted' \"twice\"", "PASSWORD="+canary, "/run/secrets/token=t0ken")
}

func secretsHidden(r *run) {
	use := func(s *drivers.WorkloadSpec) *drivers.WorkloadSpec {
		s.Secrets = []drivers.SecretUse{
			{Ref: r.secrets.put("db/password", canary), Env: "PASSWORD"},
			{Ref: r.secrets.put("db/password", canary), File: "/run/secrets/password"},
		}
		return r.spec(s)
	}
	hidden := func(where, text string) {
		r.Helper()
		if strings.Contains(text, canary) {
			r.Errorf("the secret is in %s: %s", where, text)
		}
	}
	good := use(r.h.Workloads.Sleeper("web", 1))
	cmd := r.command()
	st, err := r.d.Deploy(cmd.on(r.timed()), good)
	if err != nil {
		r.Fatalf("deploy: %v", explain(err))
	}
	hidden("the status", fmt.Sprintf("%+v", st))
	hidden("the progress", fmt.Sprintf("%+v", cmd.steps))
	for _, text := range r.h.Texts(r.T, r.ns) {
		hidden("the engine's objects", text)
	}
	// A workload that prints its secret and dies must not carry it into the error.
	bad := r.h.Workloads.ShowsEnv("web", []string{"PASSWORD"}, []string{"/run/secrets/password"})
	bad = use(r.h.Workloads.WithHook(bad, 1))
	_, err = r.tryDeploy(bad)
	if err == nil {
		r.Fatalf("want the hook's failure")
	}
	hidden("the error", explain(err))
	loud := r.h.Workloads.ShowsEnv("loud", []string{"PASSWORD"}, []string{"/run/secrets/password"})
	_, err = r.tryDeploy(use(r.h.Workloads.NeverHealthy(loud)))
	fault := r.wantRollout("a workload that prints its secret", err, "Unhealthy")
	if len(fault.LastLogs) == 0 {
		r.Errorf("want the last lines, got %+v", fault)
	}
	hidden("the last lines", explain(err))
	var text strings.Builder
	for e := err; e != nil; e = errors.Unwrap(e) {
		fmt.Fprintf(&text, "%+v", e)
	}
	hidden("the error's causes", text.String())
}

func missingSecret(r *run) {
	s := r.h.Workloads.Sleeper("web", 1)
	s.Secrets = []drivers.SecretUse{{Ref: drivers.SecretRef{File: "nowhere"}, Env: "PASSWORD"}}
	s = r.spec(s)
	_, err := r.tryDeploy(s)
	r.wantClass("deploy", err, drivers.ErrNotFound)
	if err != nil && !strings.Contains(err.Error(), "nowhere") {
		r.Errorf("want the reference named, got %v", err)
	}
	r.wantGone(s.ID())
	r.wantNothingLeft()
}
