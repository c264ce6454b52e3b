package drivers

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// Redacted stands where a secret value was.
const Redacted = "[redacted]"

// minRedact is the shortest value Redact looks for. Shorter ones occur by chance all
// over a text; blanking them would garble it and, by the gaps, give the value away.
const minRedact = 4

// Redact blanks the given secret values in s: as they are, without the line end a
// file has, and as JSON, URLs and base64 write them. Values below 4 bytes are not
// looked for. A driver passes every text of an engine or a registry through it that
// may quote what the driver sent.
func Redact(s string, secrets ...[]byte) string {
	var forms []string
	for _, secret := range secrets {
		forms = append(forms, redactForms(secret)...)
		forms = append(forms, redactForms(bytes.TrimRight(secret, "\r\n"))...)
	}
	// The longest first, so that no form is broken up by a shorter one inside it.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, f := range forms {
		s = strings.ReplaceAll(s, f, Redacted)
	}
	return s
}

func redactForms(secret []byte) []string {
	if len(secret) < minRedact {
		return nil
	}
	text := string(secret)
	forms := []string{
		text, url.QueryEscape(text), url.PathEscape(text),
		strings.TrimPrefix(url.UserPassword("", text).String(), ":"),
		base64.StdEncoding.EncodeToString(secret), base64.RawStdEncoding.EncodeToString(secret),
		base64.URLEncoding.EncodeToString(secret), base64.RawURLEncoding.EncodeToString(secret),
	}
	if quoted, err := json.Marshal(text); err == nil {
		forms = append(forms, string(quoted[1:len(quoted)-1]))
	}
	return forms
}
