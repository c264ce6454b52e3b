package subjects

import (
	"errors"
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// mustEncode says which bytes of a header value are percent-encoded (CloudEvents NATS
// protocol binding, section 3.1.3.2): space, double quote, percent and everything
// outside U+0021 to U+007E. Bytes of a multi-byte character are all above U+007E.
func mustEncode(c byte) bool { return c <= ' ' || c > '~' || c == '"' || c == '%' }

// encodeValue encodes an attribute for a header.
func encodeValue(s string) string {
	n := 0
	for i := 0; i < len(s); i++ {
		if mustEncode(s[i]) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	b := make([]byte, 0, len(s)+2*n)
	for i := 0; i < len(s); i++ {
		if c := s[i]; mustEncode(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

// decodeValue decodes a header into an attribute: the quotes of a quoted string
// (RFC 7230, section 3.2.6) and then one round of percent-decoding. A '%' that is not
// followed by two hexadecimal digits stands for itself, because senders exist that do
// not encode. What is then not UTF-8 is refused, as the binding demands.
func decodeValue(s string) (string, error) {
	s = unquote(s)
	if strings.IndexByte(s, '%') >= 0 {
		b := make([]byte, 0, len(s))
		for i := 0; i < len(s); i++ {
			if s[i] == '%' && i+2 < len(s) {
				high, okHigh := unhex(s[i+1])
				low, okLow := unhex(s[i+2])
				if okHigh && okLow {
					b = append(b, high<<4|low)
					i += 2
					continue
				}
			}
			b = append(b, s[i])
		}
		s = string(b)
	}
	if !utf8.ValidString(s) {
		return "", errors.New("the value is not UTF-8")
	}
	return s, nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unquote removes the quotes and escapes of a value that is one whole quoted string;
// any other value is returned as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	inner := s[1 : len(s)-1]
	if strings.IndexByte(inner, '"') < 0 && strings.IndexByte(inner, '\\') < 0 {
		return inner
	}
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		switch inner[i] {
		case '"':
			return s
		case '\\':
			i++
			if i == len(inner) {
				return s
			}
		}
		b = append(b, inner[i])
	}
	return string(b)
}
