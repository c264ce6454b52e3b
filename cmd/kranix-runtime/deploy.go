package main

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

func (a *app) deployCommand() *cobra.Command {
	var f commandFlags
	var file, namespace string
	cmd := &cobra.Command{
		Use:   "deploy -f SPEC",
		Short: "Deploy the workloads of a spec file",
		Long: `Deploy publishes a deploy command for every spec of a file (YAML or JSON, several documents
allowed, "-" is standard input) and waits until each has its result. Specs are checked first: with a
fault in any of them nothing is deployed.

Progress goes to standard error, outcomes to standard output; -o json prints the result of each
command as one line.`,
		Example: `  kranix-runtime deploy -f web.yaml
  kranix-runtime deploy -f web.yaml --id release-42 --source ci   # safe to repeat
  kranix-runtime deploy -f - -o json < web.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return exitf(exitUsage, "name a spec file with -f (\"-\" is standard input)")
			}
			specs, err := a.readSpecs(file, namespace)
			if err != nil {
				return err
			}
			if f.id != "" && len(specs) > 1 {
				return exitf(exitUsage, "--id is for one command, but %s holds %d specs", file, len(specs))
			}
			b, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			commands := make([]command, len(specs))
			for i, s := range specs {
				w := subjects.Workload{Backend: s.backendOf(), Node: subjects.Any, Namespace: s.namespace, Name: s.spec.Name}
				commands[i] = f.command(a, w, subjects.Deploy, json.RawMessage(s.json))
			}
			return a.carryOut(cmd.Context(), b, commands, &f)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "spec file, - for standard input")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of specs that name none")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml", "json") // fails for unknown flags only
	f.add(cmd)
	return cmd
}
