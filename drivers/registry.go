package drivers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
)

// Factory opens a driver. settings is the driver's own configuration; its type is
// documented by the driver ("docker.Config").
type Factory func(ctx context.Context, env Environment, settings any) (RuntimeDriver, error)

// Environment is what every driver is given.
type Environment struct {
	// Node is the name of the node the driver works for; everything it creates carries
	// it as LabelNode.
	Node string
	// Secrets resolves references; nil refuses them all.
	Secrets SecretResolver
	// Logger is never nil when the runtime opens a driver.
	Logger *slog.Logger
}

// SecretResolver resolves secrets on the node.
type SecretResolver interface {
	// ResolveSecret returns a secret's value for a workload of the namespace. Errors:
	// ErrNotFound, ErrDenied; they name the reference, never the value.
	ResolveSecret(ctx context.Context, namespace string, ref SecretRef) ([]byte, error)
}

// Registry opens drivers by name. The zero value is ready to use; fill it before use,
// Register is not safe to call concurrently with Open.
type Registry struct {
	factories map[string]Factory
}

// Register adds a driver. Errors: ErrAlreadyExists.
func (r *Registry) Register(name string, f Factory) error {
	if _, ok := r.factories[name]; ok {
		return &Error{Class: ErrAlreadyExists, Op: fmt.Sprintf("register driver %q", name)}
	}
	if r.factories == nil {
		r.factories = make(map[string]Factory)
	}
	r.factories[name] = f
	return nil
}

// Open makes a driver. Errors: ErrUnsupported for an unknown name, naming the known
// ones, and those of the factory.
func (r *Registry) Open(ctx context.Context, name string, env Environment, settings any) (RuntimeDriver, error) {
	f, ok := r.factories[name]
	if !ok {
		return nil, &Error{Class: ErrUnsupported, Op: fmt.Sprintf("open driver %q", name),
			Err: fmt.Errorf("this build has %s", strings.Join(r.Names(), ", "))}
	}
	d, err := f(ctx, env, settings)
	if err != nil {
		return nil, fmt.Errorf("open driver %q: %w", name, err)
	}
	return d, nil
}

// Names lists the registered drivers in order.
func (r *Registry) Names() []string { return slices.Sorted(maps.Keys(r.factories)) }
