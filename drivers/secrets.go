package drivers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// MaxSecretBytes is the largest secret a SecretStore returns.
const MaxSecretBytes = 1 << 20

// SecretEnvPrefix starts the names of the environment variables that hold secrets.
const SecretEnvPrefix = "KRANIX_SECRET_"

// SecretStore resolves secrets from a directory and from the environment of the
// runtime. A namespace sees its own secrets only. It reads them anew each time and
// keeps none.
type SecretStore struct {
	// Dir holds a folder per namespace. Symbolic links are followed inside that folder
	// and nowhere else. Empty refuses file references.
	Dir string
	// LookupEnv is os.LookupEnv in the runtime. nil refuses env references.
	LookupEnv func(string) (string, bool)
}

var _ SecretResolver = (*SecretStore)(nil)

// ResolveSecret implements SecretResolver. The value is returned byte for byte, the line
// end of a file included: see SecretText for where one is in the way. Errors:
// ErrInvalidSpec, ErrNotFound, ErrDenied; they name the reference, never the value.
func (s *SecretStore) ResolveSecret(ctx context.Context, namespace string, ref SecretRef) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	op := fmt.Sprintf("resolve secret %s of namespace %q", ref, namespace)
	if !IsLabel(namespace) {
		return nil, &Error{Class: ErrInvalidSpec, Op: op, Err: errors.New("the namespace is not a DNS-1123 label")}
	}
	var faults faults
	faults.secretRef("ref", ref)
	if err := faults.err(ErrInvalidSpec); err != nil {
		return nil, &Error{Class: ErrInvalidSpec, Op: op, Err: err}
	}
	if ref.Env != "" {
		return s.fromEnv(op, namespace, ref.Env)
	}
	value, err := s.fromFile(namespace, ref.File)
	if err != nil {
		return nil, secretError(op, namespace, ref.File, err)
	}
	return value, nil
}

// SecretEnvName is the environment variable a reference of a namespace means. A '-' of
// the namespace is two underscores: with one, namespace "a" could name the secrets of
// "a-b".
func SecretEnvName(namespace, name string) string {
	return SecretEnvPrefix + strings.ToUpper(strings.ReplaceAll(namespace, "-", "__")) + "_" + name
}

func (s *SecretStore) fromEnv(op, namespace, name string) ([]byte, error) {
	variable := SecretEnvName(namespace, name)
	missing := &Error{Class: ErrNotFound, Op: op, Hint: "set " + variable + " in the runtime's environment on the node"}
	if s.LookupEnv == nil {
		return nil, missing
	}
	value, ok := s.LookupEnv(variable)
	if !ok {
		return nil, missing
	}
	if len(value) > MaxSecretBytes {
		return nil, &Error{Class: ErrDenied, Op: op, Err: errSecretSize}
	}
	return []byte(value), nil
}

var (
	errSecretSize    = fmt.Errorf("larger than %d bytes", MaxSecretBytes)
	errSecretRegular = errors.New("not a regular file")
	errSecretFolder  = errors.New("the namespace's folder is a symbolic link or no folder")
	errSecretDir     = errors.New("the node has no secrets directory")
)

func (s *SecretStore) fromFile(namespace, name string) (_ []byte, err error) {
	if s.Dir == "" {
		return nil, errSecretDir
	}
	root, err := os.OpenRoot(s.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// A link here would let one namespace stand in for another.
	if info, err := root.Lstat(namespace); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, errSecretFolder
	}
	folder, err := root.OpenRoot(namespace)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	// Asked before it is opened: opening a FIFO would wait for a writer.
	info, err := folder.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errSecretRegular
	}
	f, err := folder.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, MaxSecretBytes+1))
	if err != nil {
		return nil, err
	}
	if len(value) > MaxSecretBytes {
		return nil, errSecretSize
	}
	return value, nil
}

// secretError classifies err. Everything but absence is a refusal: a link that leads
// out, a mode that forbids reading, a folder where a file should be.
func secretError(op, namespace, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSecretDir) {
		return &Error{Class: ErrNotFound, Op: op, Err: err,
			Hint: fmt.Sprintf("put it at %s/%s in the node's secrets directory", namespace, name)}
	}
	return &Error{Class: ErrDenied, Op: op, Err: err}
}

// String names the reference for people; it is no secret.
func (r SecretRef) String() string {
	if r.Env != "" {
		return fmt.Sprintf("env %q", r.Env)
	}
	return fmt.Sprintf("file %q", r.File)
}

// SecretText is a secret's value where text is needed, in an environment variable or as
// a password: without the one line end that editors put at the end of a file. Errors:
// ErrInvalidSpec for a value with a NUL byte, which no environment variable can hold.
func SecretText(value []byte) (string, error) {
	if bytes.IndexByte(value, 0) >= 0 {
		return "", &Error{Class: ErrInvalidSpec, Op: "use secret as text",
			Err: errors.New("it holds a NUL byte"), Hint: "hand it in as a file"}
	}
	text, cut := strings.CutSuffix(string(value), "\n")
	if cut {
		text = strings.TrimSuffix(text, "\r")
	}
	return text, nil
}
