//go:build !linux

package rig

import (
	"context"
	"runtime"
)

func (r *Rig) startDocker(_ context.Context, why error) (*Engine, error) {
	return nil, withAdvice(why, "this is "+runtime.GOOS+", where the rig starts no daemon")
}

// Down stops the daemon the rig has started; here it never starts one.
func (r *Rig) Down(context.Context) error { return nil }
