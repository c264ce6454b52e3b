package telemetry

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/kranix-io/kranix-runtime/subjects"
)

// The encoder is written by hand, so it is held against the contract's type.
func TestEntryDecodesAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Custom(func(t *rapid.T) []byte { return []byte(rapid.String().Draw(t, "text")) })).Draw(t, "piece")
		stream := rapid.IntRange(0, 1).Draw(t, "stream")
		at := time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "at")).UTC()
		truncated := rapid.Bool().Draw(t, "truncated")
		raw := appendEntry(nil, at, stream, piece, truncated)
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		var got subjects.LogEntry
		if err := dec.Decode(&got); err != nil {
			t.Fatalf("decode %s: %v", raw, err)
		}
		if !got.Time.Equal(at) || got.Stream != streamNames[stream] || got.Truncated != truncated {
			t.Fatalf("got %+v", got)
		}
		if utf8.Valid(piece) {
			if got.Line != string(piece) || got.Base64 != nil {
				t.Fatalf("got %q and %q, want %q", got.Line, got.Base64, piece)
			}
		} else if !bytes.Equal(got.Base64, piece) || got.Line == "" {
			t.Fatalf("got %q and %q, want %q", got.Line, got.Base64, piece)
		}
		if limit := len(piece)*worstExpansion/8 + entryOverhead; len(raw) > limit {
			t.Fatalf("%d bytes for a piece of %d, want at most %d", len(raw), len(piece), limit)
		}
	})
}

func TestEntryHasEveryField(t *testing.T) {
	var names []string
	for f := range reflect.TypeFor[subjects.LogEntry]().Fields() {
		names = append(names, f.Name)
	}
	// appendEntry writes these; a new field needs a line there.
	if want := []string{"Time", "Stream", "Line", "Base64", "Truncated"}; !reflect.DeepEqual(names, want) {
		t.Errorf("LogEntry has %v, the encoder writes %v", names, want)
	}
}

func TestCutPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := []byte(rapid.StringN(0, 60, -1).Draw(t, "line"))
		limit := rapid.IntRange(4, 20).Draw(t, "limit")
		n, rest := 0, line
		var joined []byte
		for {
			cut := cutPiece(rest, limit)
			if cut > limit || cut == 0 && len(rest) > 0 {
				t.Fatalf("cut at %d of %d", cut, len(rest))
			}
			if !utf8.Valid(rest[:cut]) {
				t.Fatalf("%q is cut within a character", line)
			}
			joined, rest = append(joined, rest[:cut]...), rest[cut:]
			n++
			if len(rest) == 0 {
				break
			}
		}
		if !bytes.Equal(joined, line) || n != countPieces(line, limit) {
			t.Fatalf("%d pieces, counted %d", n, countPieces(line, limit))
		}
	})
}

func TestPieceSizeFitsTheMessage(t *testing.T) {
	for _, budget := range []int{4 << 10, 56 << 10, 1<<20 - envelope, 8 << 20} {
		size := pieceSize(budget)
		if size < 1 || size > maxPiece || size*worstExpansion/8+entryOverhead > budget {
			t.Errorf("budget %d: pieces of %d", budget, size)
		}
	}
	if size := pieceSize(1<<20 - envelope); size != maxPiece {
		t.Errorf("with the default limits pieces have %d bytes, want %d", size, maxPiece)
	}
}
