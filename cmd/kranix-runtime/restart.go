package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/subjects"
)

func (a *app) restartCommand() *cobra.Command {
	return a.operationCommand(subjects.Restart, &cobra.Command{
		Use:   "restart NAMESPACE/NAME",
		Short: "Stop and start a workload's instances, keeping their revision",
		Long: `Restart publishes a restart command and waits for its result. A restart waits behind a deploy that
is on its way and never replaces one. Without --backend the workload is looked up.`,
		Example: "  kranix-runtime restart shop/web",
	})
}

// deadlineFlag is how long a destroy or restart may take; a deploy has it in its spec.
type deadlineFlag struct{ value time.Duration }

func (d *deadlineFlag) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&d.value, "deadline", 0, "give the command up after this long (default: the runtime's)")
}

// data is the command's data; the types of both verbs have the same form.
func (d *deadlineFlag) data() any {
	if d.value <= 0 {
		return nil
	}
	return subjects.RestartData{Deadline: d.value.String()}
}
