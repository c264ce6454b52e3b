package drivers

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// The parts of a reference that are implied.
const (
	defaultRegistry = "docker.io"
	// legacyRegistry is an older name of it, under which credentials are still kept.
	legacyRegistry = "index.docker.io"
	// officialPrefix is where the default registry keeps names without a '/'.
	officialPrefix = "library/"
)

// maxRepository is the longest repository name, registry included.
const maxRepository = 255

// imageRef is a parsed image reference.
type imageRef struct {
	registry   string // "docker.io", "localhost:5000"
	repository string // "library/nginx"
	tag        string // may be empty
	digest     string // "sha256:...", may be empty
}

// parseImage reads a reference as Docker writes them; the grammar is that of the
// distribution project's reference package. Its errors do not repeat the reference,
// which may hold a password where a user took it for a URL.
func parseImage(image string) (imageRef, error) {
	switch {
	case image == "":
		return imageRef{}, errors.New("is required")
	case strings.Contains(image, "://"):
		return imageRef{}, errors.New("want a reference without a scheme, such as registry.example.com/app:1.0")
	case isHex(image, 64):
		return imageRef{}, errors.New("want a name, not an image ID (name@sha256:... pins an image)")
	}
	var ref imageRef
	name, digest, pinned := strings.Cut(image, "@")
	if pinned {
		if err := checkDigest(digest); err != nil {
			return imageRef{}, err
		}
		ref.digest = digest
	}
	// A ':' after the last '/' begins the tag; before it, it belongs to the registry.
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, ref.tag = name[:i], name[i+1:]
		if !isTag(ref.tag) {
			return imageRef{}, errors.New("want a tag of 1 to 128 letters, digits, '_', '.' and '-', beginning with none of '.' and '-'")
		}
	}
	ref.registry, ref.repository = splitRegistry(name)
	if err := checkRegistry(ref.registry); err != nil {
		return imageRef{}, err
	}
	for part := range strings.SplitSeq(ref.repository, "/") {
		if err := checkComponent(part); err != nil {
			return imageRef{}, err
		}
	}
	if len(ref.repository) > maxRepository {
		return imageRef{}, fmt.Errorf("want a name of at most %d bytes", maxRepository)
	}
	return ref, nil
}

// splitRegistry takes the first component for a registry when it could not be a
// user's name: it has a '.', a ':' or an upper-case letter, or is "localhost".
func splitRegistry(name string) (registry, repository string) {
	first, rest, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first {
		registry, repository = defaultRegistry, name
	} else {
		registry, repository = first, rest
	}
	if registry == legacyRegistry {
		registry = defaultRegistry
	}
	if registry == defaultRegistry && !strings.Contains(repository, "/") {
		repository = officialPrefix + repository
	}
	return registry, repository
}

func checkRegistry(registry string) error {
	host, port := registry, ""
	if strings.HasPrefix(registry, "[") {
		end := strings.IndexByte(registry, ']')
		if end < 0 {
			return errors.New("want a ']' after the registry's IPv6 address")
		}
		if a, err := netip.ParseAddr(registry[1:end]); err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" {
			return errors.New("the registry is not a valid IPv6 address")
		}
		host, port = "", registry[end+1:]
	} else if i := strings.IndexByte(registry, ':'); i >= 0 {
		host, port = registry[:i], registry[i:]
	}
	if port != "" {
		n, ok := digits(strings.TrimPrefix(port, ":"))
		if port[0] != ':' || !ok || n < 1 || n > maxPort {
			return errors.New("the registry's port is not a number from 1 to 65535")
		}
	}
	if host == "" && strings.HasPrefix(registry, "[") {
		return nil
	}
	if !isHostname(strings.ToLower(host), 253) {
		return errors.New("the registry is not a host name or an IP address")
	}
	return nil
}

// checkComponent checks one part of a repository's name: lower-case letters and
// digits, with '.', '_', "__" or any number of '-' between them.
func checkComponent(part string) error {
	bad := errors.New("want lower-case letters and digits in each part of the name, separated by one '.', one or two '_', or '-'")
	isWord := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
	if part == "" {
		return errors.New("a part of the name is empty")
	}
	if !isWord(part[0]) || !isWord(part[len(part)-1]) {
		return bad
	}
	for i := 0; i < len(part); i++ {
		if isWord(part[i]) {
			continue
		}
		end := i
		for !isWord(part[end]) {
			end++
		}
		switch sep := part[i:end]; {
		case sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
		default:
			return bad
		}
		i = end
	}
	return nil
}

func isTag(tag string) bool {
	if tag == "" || len(tag) > 128 || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	for _, c := range []byte(tag) {
		if !isAlnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func checkDigest(digest string) error {
	algorithm, hex, _ := strings.Cut(digest, ":")
	length := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	if length == 0 || !isHex(hex, length) {
		return errors.New("want a digest such as sha256: and 64 lower-case hexadecimal digits after the '@'")
	}
	return nil
}

func isHex(s string, length int) bool {
	if len(s) != length {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// isHostname says whether s is one or more DNS-1123 labels joined by '.', of at most
// limit bytes.
func isHostname(s string, limit int) bool {
	if len(s) > limit {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if !IsLabel(label) {
			return false
		}
	}
	return true
}
