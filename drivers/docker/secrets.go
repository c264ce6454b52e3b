package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// secretSet is a spec's secrets, resolved. The values stay in memory, and pass through
// no label, name, argument or error.
type secretSet struct {
	values [][]byte
	env    []string
	// archive is a tar of the secrets that are files, nil when there are none.
	archive []byte
}

// resolveSecrets reads all secrets of a spec, before anything is made.
func (d *Driver) resolveSecrets(ctx context.Context, spec *drivers.WorkloadSpec) (secretSet, error) {
	var set secretSet
	var files []secretFile
	for i, use := range spec.Secrets {
		op := fmt.Sprintf("secrets[%d]: resolve %s", i, use.Ref)
		if d.env.Secrets == nil {
			return secretSet{}, &drivers.Error{Class: drivers.ErrDenied, Op: op,
				Err: errors.New("this node keeps no secrets")}
		}
		value, err := d.env.Secrets.ResolveSecret(ctx, spec.Namespace, use.Ref)
		if err != nil {
			return secretSet{}, fmt.Errorf("%s: %w", op, err)
		}
		set.values = append(set.values, value)
		if use.Env != "" {
			text, err := drivers.SecretText(value)
			if err != nil {
				return secretSet{}, fmt.Errorf("%s: %w", op, err)
			}
			set.env = append(set.env, use.Env+"="+text)
			continue
		}
		mode, err := strconv.ParseInt(use.Mode, 8, 32)
		if err != nil {
			return secretSet{}, &drivers.Error{Class: drivers.ErrInvalidSpec, Op: fmt.Sprintf("secrets[%d].mode", i),
				Err: fmt.Errorf("want octal digits, got %q", use.Mode)}
		}
		files = append(files, secretFile{path: use.File, mode: mode, uid: use.UID, gid: use.GID, value: value})
	}
	slices.Sort(set.env)
	if len(files) > 0 {
		archive, err := archiveSecrets(files)
		if err != nil {
			return secretSet{}, err
		}
		set.archive = archive
	}
	return set, nil
}

type secretFile struct {
	path     string
	mode     int64
	uid, gid int
	value    []byte
}

// archiveSecrets makes a tar to be unpacked at the container's root. Directories in it
// that the image has already keep the image's mode only if they are left out, and
// missing ones are made by the engine as root, 0755.
func archiveSecrets(files []secretFile) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		name := strings.TrimPrefix(path.Clean(f.path), "/")
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.mode, Uid: f.uid, Gid: f.gid,
			Size: int64(len(f.value)), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("archive secret file %s: %w", f.path, err)
		}
		if _, err := w.Write(f.value); err != nil {
			return nil, fmt.Errorf("archive secret file %s: %w", f.path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("archive secret files: %w", err)
	}
	return buf.Bytes(), nil
}

// copySecrets writes the secret files into a container that has not run yet. Doing it
// again is harmless.
func (d *Driver) copySecrets(ctx context.Context, id string, set secretSet) error {
	if set.archive == nil {
		return nil
	}
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	err := d.cli.CopyToContainer(ctx, id, "/", bytes.NewReader(set.archive), container.CopyToContainerOptions{})
	if err != nil {
		return classify("write secret files", set.scrub(err))
	}
	return nil
}

// scrub blanks the values in an error's text. The error keeps its class, and loses the
// rest of its identity only if it did quote a value.
func (s secretSet) scrub(err error) error {
	if err == nil || len(s.values) == 0 {
		return err
	}
	var rollout *drivers.RolloutError
	if errors.As(err, &rollout) {
		rollout.Message = s.text(rollout.Message)
		rollout.HealthOutput = s.text(rollout.HealthOutput)
		rollout.RollbackError = s.text(rollout.RollbackError)
		for i, line := range rollout.LastLogs {
			rollout.LastLogs[i] = s.text(line)
		}
	}
	clean := s.text(err.Error())
	if clean == err.Error() {
		return err
	}
	for _, class := range []error{drivers.ErrStale, drivers.ErrFailed, drivers.ErrNotFound, drivers.ErrInvalidSpec,
		drivers.ErrUnsupported, drivers.ErrUnavailable, drivers.ErrDenied, drivers.ErrConflict} {
		if errors.Is(err, class) {
			return &drivers.Error{Class: class, Op: "run workload", Err: errors.New(clean)}
		}
	}
	return errors.New(clean)
}

func (s secretSet) text(text string) string { return drivers.Redact(text, s.values...) }
