package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

func (a *app) lsCommand() *cobra.Command {
	var t target
	var output string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list", "ps"},
		Short:   "List workloads",
		Long: `Ls lists the workloads that are observed, of all namespaces unless one is named. -o json prints a
list of drivers.WorkloadStatus.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			defer b.close()
			statuses, err := b.statuses(cmd.Context(), t.backend, t.namespace, "")
			if err != nil {
				return err
			}
			if output != formatTable {
				return writeValue(a.stdout, output, statuses)
			}
			if len(statuses) == 0 {
				fmt.Fprintln(a.stderr, "no workloads")
				return nil
			}
			now := time.Now()
			rows := make([][]cell, len(statuses))
			for i, s := range statuses {
				rows[i] = []cell{
					text(s.ID), text(s.Backend), text(s.Node), word(string(s.Phase)),
					text(strconv.Itoa(s.Ready) + "/" + strconv.Itoa(s.Desired)), text(s.Image), text(age(s.ObservedAt, now)),
				}
			}
			return table(a.stdout, a.painter(a.stdout), []string{"WORKLOAD", "BACKEND", "NODE", "PHASE", "READY", "IMAGE", "OBSERVED"}, rows)
		},
	}
	cmd.Flags().StringVarP(&t.namespace, "namespace", "n", "", "only this namespace")
	cmd.Flags().StringVar(&t.backend, "backend", "", "only this backend")
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(subjects.Backends(), cobra.ShellCompDirectiveNoFileComp)) // fails for unknown flags only
	outputFlag(cmd, &output, formatTable, formatJSON, formatYAML)
	return cmd
}
