package telemetry

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/kranix-io/kranix-runtime/drivers"
)

const (
	stdout = 0
	stderr = 1
)

// streamNames are the output streams of an instance, by index.
var streamNames = [...]string{stdout: "stdout", stderr: "stderr"}

func streamIndex(name string) int {
	if name == streamNames[stderr] {
		return stderr
	}
	return stdout
}

const (
	// maxPiece is the most bytes of a line that go into one entry.
	maxPiece = 64 << 10
	// worstExpansion bounds how much longer an entry is than its piece, in eighths: a
	// control character takes six bytes ("\u0001") and, when the piece is not UTF-8, four
	// thirds of a byte more in base64.
	worstExpansion = 60
	// entryOverhead is what an entry has besides its text, generously.
	entryOverhead = 256
)

// pieceSize is the most bytes of a line in one entry when a message may carry budget
// bytes of entries. It depends on the server's limits only, so that a restarted shipper
// cuts a line at the same places.
func pieceSize(budget int) int {
	size := maxPiece
	for size > 1 && size*worstExpansion/8+entryOverhead > budget {
		size /= 2
	}
	return size
}

// cutPiece is where a line longer than limit is cut: at limit, or up to three bytes
// before it so that no character is cut in two.
func cutPiece(line []byte, limit int) int {
	if len(line) <= limit {
		return len(line)
	}
	for back := 0; back < utf8.UTFMax && back < limit; back++ {
		if utf8.RuneStart(line[limit-back]) {
			return limit - back
		}
	}
	return limit
}

// countPieces is how many entries a line becomes.
func countPieces(line []byte, limit int) int {
	n := 1
	for len(line) > limit {
		line = line[cutPiece(line, limit):]
		n++
	}
	return n
}

// appendEntry appends a subjects.LogEntry as JSON. It is written by hand because it is
// done for every line: encoding/json takes five times as long and escapes '<' and '&',
// of which logs are full.
func appendEntry(dst []byte, at time.Time, stream int, piece []byte, truncated bool) []byte {
	dst = append(dst, `{"time":"`...)
	dst = at.AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","stream":"`...)
	dst = append(dst, streamNames[stream]...)
	dst = append(dst, `","line":`...)
	dst, valid := appendString(dst, piece)
	if !valid {
		dst = append(dst, `,"base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, piece)
		dst = append(dst, '"')
	}
	if truncated {
		dst = append(dst, `,"truncated":true`...)
	}
	return append(dst, '}')
}

// appendString appends s as a JSON string (RFC 8259, section 7) and says whether s is
// UTF-8; bytes that are not are replaced by U+FFFD.
func appendString(dst, s []byte) (out []byte, valid bool) {
	const hex = "0123456789abcdef"
	valid = true
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
			valid = false
			dst = append(append(dst, s[start:i]...), "\uFFFD"...)
		} else {
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\t':
				dst = append(dst, '\\', 't')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
			}
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"'), valid
}

// lineTime is the engine's timestamp as it is compared and written.
func lineTime(line drivers.LogLine) time.Time { return line.Time.UTC().Round(0) }
