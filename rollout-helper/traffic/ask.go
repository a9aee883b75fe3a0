package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/units"
)

// ask makes one connection in each of the groups that are on the plan's port (0: in
// each group), by dial. With a health path it makes one request there, which must be answered
// by 2xx or 3xx.
func ask(ctx context.Context, groups []sockets.Group, dial func(context.Context, sockets.Group) (net.Conn, error), plan units.Plan) error {
	for _, group := range groups {
		if plan.Port != 0 && int(group.Addr.Port()) != plan.Port {
			continue
		}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, group) }
		if plan.HealthPath == "" {
			conn, err := dial(ctx, "", "")
			if err != nil {
				return fmt.Errorf("does not take a connection on %s: %w", group, plain(err))
			}
			conn.Close()
			continue
		}
		if err := get(ctx, dial, group.Addr.Port(), plan.HealthPath, plan.HealthHost); err != nil {
			return fmt.Errorf("%w on %s", err, group)
		}
	}
	return nil
}

// get makes one request on a connection of its own. A host is for its Host header.
func get(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), port uint16, path, host string) error {
	client := http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://localhost:%d%s", port, path), nil)
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
