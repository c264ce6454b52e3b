package main

import (
	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

func (a *app) destroyCommand() *cobra.Command {
	return a.operationCommand(subjects.Destroy, &cobra.Command{
		Use:     "destroy NAMESPACE/NAME",
		Aliases: []string{"rm"},
		Short:   "Stop a workload and remove everything it owns",
		Long: `Destroy publishes a destroy command and waits for its result. Named volumes go with the workload
unless its spec retains them. Without --backend the workload is looked up.`,
		Example: "  kranix-runtime destroy shop/web",
	})
}

// operationCommand completes a command whose only argument is a workload and that
// publishes a command without data.
func (a *app) operationCommand(verb subjects.Verb, cmd *cobra.Command) *cobra.Command {
	var f commandFlags
	var t target
	var deadline deadlineFlag
	cmd.Args = exactArgs("NAMESPACE/NAME")
	cmd.ValidArgsFunction = a.completeWorkloads
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		w, err := t.parse(args[0])
		if err != nil {
			return err
		}
		b, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer b.close()
		if w, err = b.resolve(cmd.Context(), w); err != nil {
			return err
		}
		return a.carryOut(cmd.Context(), b, []command{f.command(a, w, verb, deadline.data())}, &f)
	}
	t.add(cmd)
	f.add(cmd)
	deadline.add(cmd)
	return cmd
}
