package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"app-rollout/rollout-helper/sockets"
	"app-rollout/rollout-helper/steering"
)

// ask asks one unit in every steered group of the port that it listens in.
func ask(ctx context.Context, s *steering.Steering, unit string, own []sockets.Group, port int, path string) error {
	for _, group := range s.Groups() {
		if !slices.Contains(own, group) || port != 0 && int(group.Addr.Port()) != port {
			continue
		}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx, group, unit) }
		if path == "" {
			conn, err := dial(ctx, "", "")
			if err != nil {
				return fmt.Errorf("does not take a connection on %s: %w", group, plain(err))
			}
			conn.Close()
			continue
		}
		if err := get(ctx, dial, group.Addr.Port(), path); err != nil {
			return fmt.Errorf("%w on %s", err, group)
		}
	}
	return nil
}

// get makes one request on a connection of its own.
func get(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), port uint16, path string) error {
	client := http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://localhost:%d%s", port, path), nil)
	if err != nil {
		return err
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

// plain is an error without the addresses that it happened between.
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
