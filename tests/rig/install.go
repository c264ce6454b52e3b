package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// need is a program and the Debian package that has it.
type need struct{ program, pkg, why string }

func dockerNeeds() []need {
	return []need{
		{"dockerd", "docker.io", "no Docker engine answers and none is installed"},
		{"iptables", "iptables", "the engine publishes ports with it"},
	}
}

// install installs the packages that are missing for an engine and says whether it
// did.
func (r *Rig) install(ctx context.Context, why error) (bool, error) {
	missing := missingOf(dockerNeeds(), lookPath)
	if len(missing) == 0 {
		return false, nil
	}
	release, err := os.ReadFile("/etc/os-release")
	if err != nil || !isDebian(string(release)) || !lookPath("apt-get") {
		return false, withAdvice(why, "the rig installs packages on Debian and Ubuntu only")
	}
	if r.NoInstall {
		return false, withAdvice(why, "it was told not to install packages")
	}
	return true, r.aptInstall(ctx, missing)
}

func (r *Rig) aptInstall(ctx context.Context, missing []need) error {
	var pkgs []string
	for _, n := range missing {
		r.say("installing package %s: %s", n.pkg, n.why)
		pkgs = append(pkgs, n.pkg)
	}
	// The package lists of a fresh machine are empty or old.
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends"}, pkgs...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, lastLines(string(out), 15))
		}
	}
	return nil
}

func missingOf(needs []need, has func(string) bool) []need {
	return slices.DeleteFunc(needs, func(n need) bool { return has(n.program) })
}

func lookPath(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

// isDebian reads os-release(5).
func isDebian(release string) bool {
	for line := range strings.Lines(release) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for _, id := range strings.Fields(strings.Trim(value, `"'`)) {
			if id == "debian" || id == "ubuntu" {
				return true
			}
		}
	}
	return false
}

// withAdvice adds to an ErrNoEngine why the rig could not help and what a person can do.
func withAdvice(why error, obstacle string) error {
	return fmt.Errorf("%w; none can be started: %s. Do one of these and try again:\n"+
		"  start Docker:           sudo systemctl start docker\n"+
		"  install it (Debian):    sudo apt-get update && sudo apt-get install docker.io\n"+
		"  may you use it?         sudo usermod -aG docker \"$USER\", then log in again\n"+
		"  it listens elsewhere:   export DOCKER_HOST=unix:///path/to/docker.sock", why, obstacle)
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}

// InstallImageSources installs what the test images are made from: a static busybox.
// Where that is not possible it says so and goes on; BusyboxImage then fails by name.
func (r *Rig) InstallImageSources(ctx context.Context) error {
	if _, err := busybox(); err == nil {
		return nil
	}
	if os.Geteuid() != 0 || r.NoInstall || !lookPath("apt-get") {
		r.say("busybox-static is missing; install it for the tests whose image has a shell")
		return nil
	}
	return r.aptInstall(ctx, []need{{"busybox", "busybox-static", "test images with a shell are made from it"}})
}
