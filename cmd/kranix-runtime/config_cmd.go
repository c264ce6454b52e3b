package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check and show the configuration",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configValidateCommand(), a.configPrintCommand())
	return cmd
}

func (a *app) configValidateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate [-f FILE]",
		Short: "Check the configuration and report every fault",
		Long: `Validate checks the configuration as run would read it: the file, and the environment variables over
it. Every fault is reported with its line or variable. Exit code 2 when there is one.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := a.load(nil)
			if err != nil {
				return err
			}
			a.warn(l.Warnings)
			_, err = fmt.Fprintf(a.stdout, "%s is valid\n", first(l.File, "the configuration (defaults and environment, no file)"))
			return err
		},
	}
	a.configFileFlag(cmd)
	return cmd
}

func (a *app) configPrintCommand() *cobra.Command {
	var sources bool
	var output string
	cmd := &cobra.Command{
		Use:   "print [-f FILE]",
		Short: "Show the effective configuration",
		Long:  "Print shows every key with the value that is in effect, as YAML that can be used again. Secrets are masked.",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := a.load(nil)
			if err != nil {
				return err
			}
			a.warn(l.Warnings)
			if output == formatJSON {
				return writeValue(a.stdout, output, l.Values())
			}
			return l.Write(a.stdout, sources)
		},
	}
	a.configFileFlag(cmd)
	cmd.Flags().BoolVar(&sources, "sources", false, "say where each value came from: default, file and line, or variable")
	outputFlag(cmd, &output, formatYAML, formatJSON)
	return cmd
}

func (a *app) configFileFlag(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&a.configFile, "file", "f", "", "configuration file (the same as --config)")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml") // fails for unknown flags only
}

func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(a.stderr, "warning: "+oneLine(w))
	}
}
