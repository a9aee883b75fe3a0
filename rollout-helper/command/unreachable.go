package command

import (
	"context"

	"app-rollout/rollout-helper/systemd"
)

// unreachable is a systemd that does not answer. Without a bus daemon only root
// can reach systemd. Each method says why.
type unreachable struct{ why error }

func (u unreachable) List(context.Context, ...string) ([]systemd.Unit, error)    { return nil, u.why }
func (u unreachable) Units(context.Context, ...string) ([]systemd.Unit, error)   { return nil, u.why }
func (u unreachable) Refresh(context.Context, ...string) ([]systemd.Unit, error) { return nil, u.why }
func (u unreachable) Start(context.Context, string) (string, error)              { return "", u.why }
func (u unreachable) Stop(context.Context, string) (string, error)               { return "", u.why }
func (u unreachable) Restart(context.Context, string) (string, error)            { return "", u.why }
func (u unreachable) ResetFailed(context.Context, string) error                  { return u.why }
func (u unreachable) Reload(context.Context) error                               { return u.why }
func (u unreachable) Stopping(context.Context) (bool, error)                     { return false, u.why }
