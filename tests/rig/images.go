package rig

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// LabelRig marks the images the rig imports; its value is the digest of what was
// imported.
const LabelRig = "io.kranix.rig"

// WebPath and BusyboxPath are where the images of WebImage and BusyboxImage keep their
// one binary.
const (
	WebPath     = "/web"
	BusyboxPath = "/bin/busybox"
)

// File is a file of a root file system.
type File struct {
	// Path is absolute; parents are made.
	Path string
	// Data is the content; Link, when set, makes a symbolic link instead.
	Data []byte
	Link string
	Mode int64
}

// RootFS returns a tar of a root file system with the files given, and /tmp.
func RootFS(files ...File) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	made := map[string]bool{"/": true}
	var mkdir func(dir string, mode int64) error
	mkdir = func(dir string, mode int64) error {
		if made[dir] {
			return nil
		}
		if err := mkdir(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		made[dir] = true
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir[1:] + "/", Mode: mode})
	}
	if err := mkdir("/tmp", 0o1777); err != nil {
		return nil, fmt.Errorf("pack root file system: %w", err)
	}
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.Path[1:], Mode: f.Mode, Size: int64(len(f.Data))}
		if f.Link != "" {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: f.Path[1:], Linkname: f.Link, Mode: 0o777}
		}
		err := errors.Join(mkdir(filepath.Dir(f.Path), 0o755), w.WriteHeader(h))
		if err == nil {
			_, err = w.Write(f.Data)
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack root file system: %w", err)
	}
	return buf.Bytes(), nil
}

// ImportImage makes an image of a root file system, under the reference ref
// ("kranix-rig/web:v1"). changes are Dockerfile instructions ("ENTRYPOINT [...]"). An
// image that was imported from the same is left as it is. It returns the image's ID.
func ImportImage(ctx context.Context, host, ref string, rootfs []byte, changes ...string) (id string, err error) {
	c, err := Client(host)
	if err != nil {
		return "", err
	}
	defer c.Close()
	digest := digestOf(rootfs, changes)
	have, err := c.ImageInspect(ctx, ref)
	switch {
	case err == nil && have.Config != nil && have.Config.Labels[LabelRig] == digest:
		return have.ID, nil
	case err != nil && !errdefs.IsNotFound(err):
		return "", fmt.Errorf("inspect image %s: %w", ref, err)
	}
	body, err := c.ImageImport(ctx, image.ImportSource{Source: bytes.NewReader(rootfs), SourceName: "-"}, ref,
		image.ImportOptions{Changes: append(changes, "LABEL "+LabelRig+"="+digest)})
	if err != nil {
		return "", fmt.Errorf("import image %s: %w", ref, err)
	}
	// Faults come in the body too, as JSON; the inspection below is what tells.
	said, err := io.ReadAll(body)
	body.Close()
	if err != nil {
		return "", fmt.Errorf("import image %s: %w", ref, err)
	}
	have, err = c.ImageInspect(ctx, ref)
	if err != nil {
		return "", fmt.Errorf("import image %s: engine said %s: %w", ref, bytes.TrimSpace(said), err)
	}
	return have.ID, nil
}

func digestOf(rootfs []byte, changes []string) string {
	h := sha256.New()
	h.Write(rootfs)
	for _, c := range changes {
		fmt.Fprintf(h, "|%d|%s", len(c), c)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// WebImage imports the web fixture as ref. Each of env ("WEB_VERSION=v1") is baked in.
func WebImage(ctx context.Context, host, ref string, env ...string) (id string, err error) {
	rootfs, err := WebRootFS(ctx)
	if err != nil {
		return "", err
	}
	return ImportWeb(ctx, host, ref, rootfs, env...)
}

// WebRootFS builds the web fixture and packs it: what several images can be made from.
func WebRootFS(ctx context.Context) ([]byte, error) {
	binary, err := WebBinary(ctx)
	if err != nil {
		return nil, err
	}
	return RootFS(File{Path: WebPath, Data: binary, Mode: 0o755})
}

// ImportWeb imports what WebRootFS returned as ref, with each of env baked in.
func ImportWeb(ctx context.Context, host, ref string, rootfs []byte, env ...string) (id string, err error) {
	changes := []string{`ENTRYPOINT ["` + WebPath + `"]`, "EXPOSE 8080"}
	for _, e := range env {
		changes = append(changes, "ENV "+e)
	}
	return ImportImage(ctx, host, ref, rootfs, changes...)
}

// BusyboxImage imports Debian's static busybox as ref: an image with a shell and the
// usual small programs.
func BusyboxImage(ctx context.Context, host, ref string) (id string, err error) {
	binary, err := busybox()
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		return "", fmt.Errorf("read busybox: %w", err)
	}
	names, err := exec.CommandContext(ctx, binary, "--list").Output()
	if err != nil {
		return "", fmt.Errorf("list busybox programs: %w", err)
	}
	files := []File{
		{Path: BusyboxPath, Data: data, Mode: 0o755},
		{Path: "/etc/passwd", Data: []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"), Mode: 0o644},
		{Path: "/etc/group", Data: []byte("root:x:0:\nnogroup:x:65534:\n"), Mode: 0o644},
	}
	for _, name := range bytes.Fields(names) {
		if string(name) != "busybox" {
			files = append(files, File{Path: "/bin/" + string(name), Link: BusyboxPath})
		}
	}
	rootfs, err := RootFS(files...)
	if err != nil {
		return "", err
	}
	return ImportImage(ctx, host, ref, rootfs, `ENV PATH=/bin`, `CMD ["/bin/sh"]`)
}

// busybox finds the static busybox.
func busybox() (string, error) {
	for _, path := range []string{"/usr/bin/busybox", "/bin/busybox"} {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: busybox is not installed: apt-get install busybox-static, or make engines-up as root", ErrNoEngine)
}

// RemoveImage removes an image by reference; one that is not there is no fault.
func RemoveImage(ctx context.Context, host, ref string) error {
	c, err := Client(host)
	if err != nil {
		return err
	}
	defer c.Close()
	return removeImage(ctx, c, ref)
}

func removeImage(ctx context.Context, c *client.Client, ref string) error {
	_, err := c.ImageRemove(ctx, ref, image.RemoveOptions{PruneChildren: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	return nil
}
