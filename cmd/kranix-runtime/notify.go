package main

import (
	"fmt"
	"net"

	"github.com/kranix-io/kranix-runtime/cmd/kranix-runtime/internal/config"
)

// notify tells systemd, if it started this process with Type=notify, about a change of
// state (sd_notify(3)): one datagram to the socket it named.
func notify(h config.Host, state string) error {
	name := h.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] == '@' {
		name = "\x00" + name[1:] // the abstract namespace
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
