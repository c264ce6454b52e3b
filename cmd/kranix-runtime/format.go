package main

import (
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// age is how long ago t was, in one unit: "12s", "5m", "3h", "2d".
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return strconv.Itoa(int(d.Seconds())) + "s"
	case d < 2*time.Hour:
		return strconv.Itoa(int(d.Minutes())) + "m"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + "h"
	default:
		return strconv.Itoa(int(d.Hours()/24)) + "d"
	}
}

// seconds writes a duration for people: "0.34s", "12.3s", "4m5s".
func seconds(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 2, 64) + "s"
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	default:
		return d.Round(time.Second).String()
	}
}

// byteCount writes bytes with a binary unit: "12.5 MiB".
func byteCount(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, suffix := float64(n), ""
	for _, s := range []string{"KiB", "MiB", "GiB", "TiB"} {
		value /= unit
		suffix = s
		if value < unit {
			break
		}
	}
	return strconv.FormatFloat(value, 'f', 1, 64) + " " + suffix
}

// portText writes a published port as engines do: "http 127.0.0.1:8080->80/tcp".
func portText(p drivers.PublishedPort) string {
	host := p.HostAddress
	if host == "" {
		host = "0.0.0.0"
	}
	s := fmt.Sprintf("%s->%d/%s", net.JoinHostPort(host, strconv.Itoa(p.HostPort)), p.ContainerPort, p.Protocol)
	if p.Name != "" {
		s = p.Name + " " + s
	}
	return s
}

func portsText(ports []drivers.PublishedPort) string {
	seen := map[string]bool{}
	var parts []string
	for _, p := range ports {
		if t := portText(p); !seen[t] {
			seen[t] = true
			parts = append(parts, t)
		}
	}
	sort.Strings(parts)
	return strings.Join(parts, ", ")
}

// short cuts an engine's identifier to what people compare.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	if len(id) > 12 {
		return id[:12]
	}
	return id
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + one + "s"
}

// clock is a time of day in the reader's zone, to the millisecond, with the date when
// it was not today.
func clock(t, now time.Time) string {
	t = t.Local()
	if y, m, d := t.Date(); !sameDay(now.Local(), y, m, d) {
		return t.Format("2006-01-02 15:04:05.000")
	}
	return t.Format("15:04:05.000")
}

func sameDay(t time.Time, y int, m time.Month, d int) bool {
	ty, tm, td := t.Date()
	return ty == y && tm == m && td == d
}

// instant reads --since and its like: an RFC 3339 time, or a duration back from now.
func instant(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, exitf(exitUsage, "want a duration such as \"10m\" or a time such as \"2026-01-02T15:04:05Z\", got %q", s)
	}
	return now.Add(-d), nil
}
