package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
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
	values   [][]byte
	env      []string
	archives []secretArchive
}

// secretArchive is a tar of secrets that are files, to be unpacked in a directory of
// the container.
type secretArchive struct {
	dir string
	tar []byte
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
	byDir := make(map[string][]secretFile)
	for _, f := range files {
		dir := secretDir(spec, f.path)
		byDir[dir] = append(byDir[dir], f)
	}
	for _, dir := range slices.Sorted(maps.Keys(byDir)) {
		archive, err := archiveSecrets(dir, byDir[dir])
		if err != nil {
			return secretSet{}, err
		}
		set.archives = append(set.archives, secretArchive{dir: dir, tar: archive})
	}
	return set, nil
}

// secretDir is where the archive with a secret file is unpacked. It is the root, so
// that the engine makes missing directories, unless the root is read-only: then the
// engine writes to volumes only.
func secretDir(spec *drivers.WorkloadSpec, file string) string {
	if spec.Security.ReadOnlyRoot {
		return path.Dir(path.Clean(file))
	}
	return "/"
}

// secretMounts are the directories that need an anonymous volume to take secret files,
// because the root file system is read-only and they are on no volume already.
func secretMounts(spec *drivers.WorkloadSpec) []string {
	if !spec.Security.ReadOnlyRoot {
		return nil
	}
	var dirs []string
	for _, s := range spec.Secrets {
		if s.File == "" {
			continue
		}
		dir := secretDir(spec, s.File)
		onVolume := slices.ContainsFunc(spec.Volumes, func(v drivers.Volume) bool {
			return v.Type != drivers.VolumeTmpfs && !v.ReadOnly && (dir == v.Target || strings.HasPrefix(dir, v.Target+"/"))
		})
		if !onVolume && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return dirs
}

type secretFile struct {
	path     string
	mode     int64
	uid, gid int
	value    []byte
}

// archiveSecrets makes a tar to be unpacked in dir. It holds no directories: those the
// image has keep their mode, and missing ones are made by the engine.
func archiveSecrets(dir string, files []secretFile) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		name := strings.TrimPrefix(strings.TrimPrefix(path.Clean(f.path), dir), "/")
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
	ctx, cancel := d.callContext(ctx)
	defer cancel()
	for _, a := range set.archives {
		err := d.cli.CopyToContainer(ctx, id, a.dir, bytes.NewReader(a.tar), container.CopyToContainerOptions{})
		if err != nil {
			return set.scrub(classify("write secret files to "+a.dir, err))
		}
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
