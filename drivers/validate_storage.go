package drivers

import (
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// storage checks volumes and secrets, which share the container's paths and the
// environment.
func (f *faults) storage(s *WorkloadSpec) {
	targets := map[string]string{}
	f.volumes(s.Volumes, targets)
	files := f.secrets(s, targets)
	for _, target := range sortedKeys(targets) {
		for dir := path.Dir(target); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if file, ok := files[dir]; ok {
				f.add(targets[target], "%s lies below the file of %s", quote(target), file)
			}
		}
	}
	for _, file := range sortedKeys(files) {
		for dir := path.Dir(file); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if volume, ok := targets[dir]; ok && strings.HasPrefix(volume, "volumes") {
				f.add(files[file]+".file", "%s lies on %s, which would hide it or keep it longer than the workload: choose a path on no volume",
					quote(file), strings.TrimSuffix(volume, ".target"))
			}
		}
	}
}

// claim records that a field mounts something at a path.
func (f *faults) claim(targets map[string]string, field, target string) {
	if other, ok := targets[target]; ok {
		f.add(field, "%s is the target of %s already", quote(target), other)
		return
	}
	targets[target] = field
}

func (f *faults) volumes(volumes []Volume, targets map[string]string) {
	if !within(f, "volumes", len(volumes), 0, maxEntries) {
		return
	}
	named := map[string]int{}
	for i, v := range volumes {
		field := IndexPath("volumes", i)
		switch v.Type {
		case "", VolumeNamed:
			if !IsLabel(v.Source) {
				f.add(field+".source", "want the volume's name, a DNS-1123 label, got %s (a host path needs type bind)", quote(v.Source))
			} else if first, ok := named[v.Source]; ok {
				if o := volumes[first]; o.External != v.External || o.Retain != v.Retain {
					f.add(field, "volume %s is mounted by volumes[%d] too, and retain or external differ", quote(v.Source), first)
				}
			} else {
				named[v.Source] = i
			}
		case VolumeBind:
			if v.Source == "" {
				f.add(field+".source", "is required: the host's absolute path")
			} else {
				f.absolute(field+".source", v.Source)
			}
		case VolumeTmpfs:
			if v.Source != "" {
				f.add(field+".source", "a tmpfs has none")
			}
		default:
			f.oneOf(field+".type", string(v.Type), string(VolumeNamed), string(VolumeBind), string(VolumeTmpfs))
			f.plain(field+".source", v.Source, maxPath)
		}
		f.volumeOptions(field, v)
		f.target(field+".target", v.Target, targets)
	}
}

func (f *faults) volumeOptions(field string, v Volume) {
	isNamed := v.Type == "" || v.Type == VolumeNamed
	if v.Retain && (!isNamed || v.External) {
		f.add(field+".retain", "is for named volumes the workload owns")
	}
	if v.External && !isNamed {
		f.add(field+".external", "is for named volumes")
	}
	if v.Size != nil {
		if v.Type != VolumeTmpfs {
			f.add(field+".size", "is for tmpfs")
		}
		f.bytes(field+".size", v.Size, 1, maxBytes)
	}
}

func (f *faults) target(field, target string, targets map[string]string) {
	if target == "" {
		f.add(field, "is required: the absolute path in the container")
		return
	}
	if !f.absolute(field, target) {
		return
	}
	switch {
	case target == "/":
		f.add(field, "cannot be the container's root")
	case target == "/proc" || strings.HasPrefix(target, "/proc/"):
		f.add(field, "cannot be in /proc")
	default:
		f.claim(targets, field, target)
	}
}

// secrets returns the paths at which secrets are files, with their fields.
func (f *faults) secrets(s *WorkloadSpec, targets map[string]string) map[string]string {
	files, names := map[string]string{}, map[string]int{}
	if !within(f, "secrets", len(s.Secrets), 0, maxEntries) {
		return files
	}
	for i, u := range s.Secrets {
		field := IndexPath("secrets", i)
		f.secretRef(field+".ref", u.Ref)
		if (u.Env == "") == (u.File == "") {
			f.add(field, "want exactly one of env and file")
		}
		if u.Env != "" {
			f.envName(field+".env", u.Env)
			if first, ok := names[u.Env]; ok {
				f.add(field+".env", "%s is set by secrets[%d] already", quote(u.Env), first)
			} else if _, ok := s.Env[u.Env]; ok {
				f.add(field+".env", "%s is set by env already", quote(u.Env))
			}
			names[u.Env] = i
		}
		if u.File != "" {
			f.target(field+".file", u.File, targets)
			files[u.File] = field
		}
		f.secretFile(field, u)
	}
	return files
}

func (f *faults) secretFile(field string, u SecretUse) {
	if u.File == "" {
		if u.Mode != "" || u.UID != 0 || u.GID != 0 {
			f.add(field, "mode, uid and gid are for secrets that are files")
		}
		return
	}
	if u.Mode != "" {
		if _, err := ParseMode(u.Mode); err != nil {
			f.add(field+".mode", "want permission bits in octal, such as \"0400\", got %s", quote(u.Mode))
		}
	}
	within(f, field+".uid", u.UID, 0, maxID)
	within(f, field+".gid", u.GID, 0, maxID)
}

// ParseMode reads a file's permission bits in octal, as SecretUse.Mode has them.
func ParseMode(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > uint64(fs.ModePerm) || len(s) < 3 || len(s) > 4 {
		return 0, strconv.ErrSyntax
	}
	return fs.FileMode(n), nil
}

// secretRef never repeats what it refuses: it may be the secret itself, in the wrong
// place.
func (f *faults) secretRef(field string, ref SecretRef) {
	if (ref.File == "") == (ref.Env == "") {
		f.add(field, "want exactly one of file and env")
	}
	if ref.Env != "" && !isSecretName(ref.Env) {
		f.add(field+".env", "want letters, digits and '_', beginning with a letter")
	}
	if ref.File != "" && f.plain(field+".file", ref.File, maxPath) &&
		(!fs.ValidPath(ref.File) || ref.File == "." || strings.Contains(ref.File, `\`)) {
		f.add(field+".file", "want a path inside the namespace's folder of secrets, without \"..\", \".\" or '/' at either end")
	}
}

// isSecretName holds SecretEnvName's side of the bargain: what begins with a letter
// cannot be taken for the end of a namespace.
func isSecretName(s string) bool {
	for i, c := range []byte(s) {
		if !isAlnum(c) && c != '_' || i == 0 && (c == '_' || c <= '9') {
			return false
		}
	}
	return len(s) <= maxName
}
