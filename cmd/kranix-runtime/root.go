package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
)

// app is one invocation: where it reads and writes, and the flags every command has.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	host           config.Host

	configFile string
	natsURL    string
	creds      string
	noColor    bool

	// parsed says that the command line was understood: what fails from then on is no
	// wrong usage.
	parsed bool
}

// execute runs one command line and returns the exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	code := codeOf(err)
	if !a.parsed && code == exitError {
		code = exitUsage
		err = fmt.Errorf("%w\nSee: %s --help", err, cmd.CommandPath())
	}
	var e *codedError
	if errors.As(err, &e) && e.err == nil {
		return code
	}
	if code == exitInterrupted && errors.Is(err, context.Canceled) {
		return code
	}
	fmt.Fprintln(a.stderr, "kranix-runtime: "+plainText(err.Error()))
	return code
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "kranix-runtime",
		Short: "Carry out deploy, destroy and restart commands from NATS on the engines of this machine",
		Long: "kranix-runtime takes deploy, destroy and restart commands from NATS JetStream, carries them out on\n" +
			"the engines of this machine, and publishes what happens.\n\n" +
			"`run` is the runtime; the other commands are a client of it.\n\n" + exitCodesHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.parsed = true
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.configFile, "config", "", "configuration file (default $KRANIX_CONFIG, else "+config.DefaultFile+" if there is one)")
	f.BoolVar(&a.noColor, "no-color", false, "print no colours (also: the variable NO_COLOR)")
	root.AddGroup(
		&cobra.Group{ID: "runtime", Title: "The runtime:"},
		&cobra.Group{ID: "workloads", Title: "Workloads:"},
		&cobra.Group{ID: "history", Title: "What happened:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("runtime", a.runCommand(), a.configCommand())
	add("workloads", a.client(a.deployCommand()), a.client(a.destroyCommand()), a.client(a.restartCommand()),
		a.client(a.statusCommand()), a.client(a.lsCommand()))
	add("history", a.client(a.eventsCommand()), a.client(a.logsCommand()), a.client(a.deadLettersCommand()), a.client(a.redriveCommand()))
	root.AddCommand(a.versionCommand())
	return root
}

// client adds the flags of commands that connect.
func (a *app) client(cmd *cobra.Command) *cobra.Command {
	f := cmd.PersistentFlags()
	f.StringVar(&a.natsURL, "nats-url", "", "NATS server (default $KRANIX_NATS_URL, else what the configuration says)")
	f.StringVar(&a.creds, "creds", "", "NATS credentials file (default $KRANIX_CREDS, else what the configuration says)")
	return cmd
}

// load reads the configuration for run and config. A fault of it is wrong usage.
func (a *app) load(overrides []config.Override) (*config.Loaded, error) {
	l, err := config.Load(config.Options{File: a.configFile, Host: a.host, Overrides: overrides})
	if err != nil {
		var faults *config.Error
		if errors.As(err, &faults) {
			return nil, exitf(exitUsage, "the configuration is not valid:\n%w", err)
		}
		return nil, exitWith(exitUsage, err)
	}
	return l, nil
}

// loadForClient reads the configuration for a client, which can do without: the
// system's file may be readable by the runtime's user only.
func (a *app) loadForClient() (*config.Loaded, error) {
	l, err := a.load(nil)
	if errors.Is(err, fs.ErrPermission) && a.configFile == "" && a.host.Getenv("KRANIX_CONFIG") == "" {
		return config.Load(config.Options{NoFile: true, Host: a.host})
	}
	return l, err
}

// exactArgs wants n arguments and says which.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("%s is missing", names[len(args)])
		case len(args) > len(names):
			return fmt.Errorf("there is no use for %q: want %s", args[len(names)], strings.Join(names, " "))
		}
		return nil
	}
}
