package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
	"app-rollout/rollout-helper/systemd"
	"app-rollout/units"
)

// dialer connects to one instance through a group.
type dialer func(context.Context, sockets.Group) (net.Conn, error)

// Ask asks one unit whether it answers. With a health path that is an HTTP request on
// the plan's port, which must be answered by 2xx or 3xx. Without one a process of the
// unit must accept a connection: on the plan's port and in each of the shared groups
// or, with neither, in every group of the unit's that is steered.
//
// In a group that is steered, the connection goes to the unit and to nobody else.
// Elsewhere Ask connects until the kernel picks a listener of the unit's.
func (k *Kernel) Ask(ctx context.Context, app string, v *sockets.View, u systemd.Unit, shared []sockets.Group, plan units.Plan) error {
	own, err := reachable(v, u)
	if err != nil {
		return err
	}
	ids, err := v.Cgroups(u.ControlGroup)
	if err != nil {
		return err
	}
	l := k.app(app)
	steered := l.steering.Groups()
	dial := func(ctx context.Context, g sockets.Group) (net.Conn, error) {
		if slices.Contains(steered, g) {
			return l.steering.Dial(ctx, g, u.ControlGroup)
		}
		return reach(ctx, g, ids)
	}
	where := asked(own, shared, steered, plan)
	if plan.HealthPath == "" {
		return l.accepts(ctx, v, u, where, dial)
	}
	for _, g := range where {
		err := steadily(ctx, v, u, g, func() error { return get(ctx, g, dial, plan.HealthPath, plan.HealthHost) })
		if err != nil {
			return fmt.Errorf("%w on %s", err, g)
		}
	}
	return nil
}

// steadily asks a unit in a group until all of its listeners there have stood from before
// it was asked until it has answered: else the answer may be another instance's, see unlock.
// A server that replaces its workers does not fail for that.
func steadily(ctx context.Context, v *sockets.View, u systemd.Unit, g sockets.Group, ask func() error) error {
	for {
		listeners, err := listenersIn(v, u, g)
		if err != nil {
			return err
		}
		if len(listeners) == 0 {
			return errors.New("does not listen any more")
		}
		if err := ask(); err != nil {
			return err
		}
		if stand, _, err := standing(cookies(listeners)); err != nil || stand {
			return err
		}
		if v, err = sockets.Look(); err != nil {
			return err
		}
	}
}

func cookies(listeners []sockets.Listener) map[uint64]bool {
	all := make(map[uint64]bool, len(listeners))
	for _, l := range listeners {
		all[l.Cookie] = true
	}
	return all
}

// asked are those of a unit's own groups in which it is asked; see Ask.
func asked(own, shared, steered []sockets.Group, plan units.Plan) []sockets.Group {
	return slices.DeleteFunc(slices.Clone(own), func(g sockets.Group) bool {
		switch {
		case plan.Port != 0 && int(g.Addr.Port()) == plan.Port:
			return false
		case plan.HealthPath != "":
			return true // others may not speak HTTP
		case plan.Port == 0 && len(shared) == 0:
			return !slices.Contains(steered, g)
		}
		return !slices.Contains(shared, g)
	})
}

// reachable returns the groups of a unit that can be reached from here, each once.
// If it has groups, but none of them can, the error is a steering.Unavailable.
func reachable(v *sockets.View, u systemd.Unit) ([]sockets.Group, error) {
	all, err := v.Groups(u.ControlGroup)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		elsewhere, err := v.Elsewhere(u.ControlGroup)
		if err == nil && elsewhere {
			err = &steering.Unavailable{Reason: "it listens in another network namespace"}
		}
		return nil, err
	}
	near := slices.DeleteFunc(slices.Clone(all), func(g sockets.Group) bool { return g.Device != 0 })
	if len(near) == 0 {
		return nil, &steering.Unavailable{Reason: "the listener on " + all[0].String() + " is tied to a network interface"}
	}
	return near, nil
}

const (
	// dialTime is far more than a handshake on this machine takes, and far less
	// than until a client repeats itself to a listener whose queue is full.
	dialTime = 200 * time.Millisecond
	// redial is the pause between two tries, so that the other instances are not
	// kept busy.
	redial = 3 * time.Millisecond
	// vague is how many connections may have no owner that the kernel tells
	// before one of them is used all the same. With TCP_DEFER_ACCEPT none has
	// one, until something is said on it.
	vague = 5
)

// reach connects until the kernel picks a listener in one of these control groups.
// The other instances get connections on which nothing is said. Where the kernel
// cannot tell whose a connection is, it is used, whoever has it.
func reach(ctx context.Context, g sockets.Group, ids map[uint64]bool) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1, Timeout: dialTime}
	for nobodys := 0; ; {
		conn, err := dialer.DialContext(ctx, "tcp", steering.Target(g).String())
		switch {
		case err == nil:
			owner, found, err := sockets.Server(conn)
			if err != nil {
				conn.Close()
				return nil, err
			}
			if !found {
				nobodys++
			}
			if found && ids[owner] || nobodys == vague {
				return conn, nil
			}
			conn.Close()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(redial):
		}
	}
}

// get makes one request on a connection of its own. A host is for its Host header.
func get(ctx context.Context, group sockets.Group, dial dialer, path, host string) error {
	client := http.Client{
		Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, group) },
			DisableKeepAlives: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://localhost:%d%s", group.Addr.Port(), path), nil)
	if err != nil {
		return err
	}
	if host != "" {
		request.Host = host
	}
	request.Header.Set("User-Agent", "app-rollout")
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("does not answer GET %s: %w", path, plain(err))
	}
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 399 {
		return fmt.Errorf("answers GET %s with status %d", path, response.StatusCode)
	}
	return nil
}

// plain returns an error in words that are the same whatever the addresses were.
func plain(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, unix.ECONNREFUSED):
		return errors.New("connection refused")
	case errors.Is(err, unix.ECONNRESET):
		return errors.New("connection reset")
	}
	return err
}
