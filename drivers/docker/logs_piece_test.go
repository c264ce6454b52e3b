package docker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// at is t0 and n nanoseconds.
func at(n int) time.Time { return t0.Add(time.Duration(n)) }

func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05.000000000Z07:00") + " " }

// frame is a frame as the engine sends it.
func frame(kind byte, body string) []byte {
	b := make([]byte, frameHeader, frameHeader+len(body))
	b[0] = kind
	binary.BigEndian.PutUint32(b[4:], uint32(len(body)))
	return append(b, body...)
}

// readPieces reads to the end.
func readPieces(r pieceReader) ([]piece, error) {
	var got []piece
	for {
		p, err := r.next()
		if err != nil {
			return got, err
		}
		p.text = bytes.Clone(p.text)
		got = append(got, p)
	}
}

func equalPieces(a, b []piece) bool {
	return slices.EqualFunc(a, b, func(x, y piece) bool {
		return x.stream == y.stream && x.time.Equal(y.time) && string(x.text) == string(y.text) && x.last == y.last
	})
}

func TestFrameReader(t *testing.T) {
	big := strings.Repeat("x", readBuffer+1)
	tests := []struct {
		name string
		in   []byte
		want []piece
		err  error
	}{
		{"nothing", nil, nil, io.EOF},
		{"a line", frame(1, stamp(at(0))+"hello\n"), []piece{{stdout, at(0), []byte("hello"), true}}, io.EOF},
		{"an empty line", frame(2, stamp(at(0))+"\n"), []piece{{stderr, at(0), nil, true}}, io.EOF},
		{"a part", frame(1, stamp(at(0))+"hel"), []piece{{stdout, at(0), []byte("hel"), false}}, io.EOF},
		{"spaces and returns stay", frame(1, stamp(at(0))+"  a b \r\n"), []piece{{stdout, at(0), []byte("  a b \r"), true}}, io.EOF},
		{"two streams", slices.Concat(frame(2, stamp(at(1))+"e\n"), frame(1, stamp(at(0))+"o\n")),
			[]piece{{stderr, at(1), []byte("e"), true}, {stdout, at(0), []byte("o"), true}}, io.EOF},
		{"larger than the buffer", frame(1, stamp(at(0))+big+"\n"), []piece{{stdout, at(0), []byte(big), true}}, io.EOF},
		{"cut in a header", frame(1, "")[:5], nil, io.ErrUnexpectedEOF},
		{"cut in a body", frame(1, stamp(at(0))+"hello\n")[:20], nil, io.ErrUnexpectedEOF},
		{"cut in a large body", frame(1, stamp(at(0))+big)[:readBuffer], nil, io.ErrUnexpectedEOF},
		{"unknown stream", frame(7, "x"), nil, errMalformedLog},
		{"standard input", frame(0, stamp(at(0))+"x"), nil, errMalformedLog},
		{"huge length", []byte{1, 0, 0, 0, 255, 255, 255, 255}, nil, errMalformedLog},
		{"no timestamp", frame(1, "hello\n"), nil, errMalformedLog},
		{"not a timestamp", frame(1, "hello world\n"), nil, errMalformedLog},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{"at once": bytes.NewReader(tt.in), "byte by byte": iotest.OneByteReader(bytes.NewReader(tt.in))} {
				got, err := readPieces(newFrameReader(r))
				if !errors.Is(err, tt.err) || !equalPieces(got, tt.want) {
					t.Errorf("%s: got %+v, %v, want %+v, %v", how, got, err, tt.want, tt.err)
				}
			}
		})
	}
	_, err := readPieces(newFrameReader(bytes.NewReader(frame(3, "Error grabbing logs: disk on fire\n"))))
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("an error of the engine: %v", err)
	}
}

func TestTTYReader(t *testing.T) {
	chunk := strings.Repeat("x", 16384)
	tests := []struct {
		name string
		in   string
		want []piece
		err  error
	}{
		{"nothing", "", nil, io.EOF},
		{"lines", stamp(at(0)) + "a b\r\n" + stamp(at(1)) + "\r\n", []piece{{stdout, at(0), []byte("a b"), true}, {stdout, at(1), nil, true}}, io.EOF},
		{"split line", stamp(at(0)) + chunk + stamp(at(0)) + "end\r\n" + stamp(at(1)) + "b\r\n",
			[]piece{{stdout, at(0), []byte(chunk), false}, {stdout, at(0), []byte("end"), true}, {stdout, at(1), []byte("b"), true}}, io.EOF},
		{"unfinished", stamp(at(0)) + "a", []piece{{stdout, at(0), []byte("a"), false}}, io.EOF},
		{"another line's time is text", stamp(at(0)) + "at " + stamp(at(1)) + "x\r\n", []piece{{stdout, at(0), []byte("at " + stamp(at(1)) + "x"), true}}, io.EOF},
		{"no timestamp", strings.Repeat("x", 100), nil, errMalformedLog},
		{"cut in a timestamp", stamp(at(0))[:10], nil, io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readPieces(newTTYReader(strings.NewReader(tt.in)))
			if !errors.Is(err, tt.err) || !equalPieces(got, tt.want) {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// Whatever an engine sends, reading it ends, and no piece is larger than what came.
func FuzzPieceReaders(f *testing.F) {
	f.Add(slices.Concat(frame(1, stamp(t0)+"a\n"), frame(2, stamp(t0)+"b")))
	f.Add([]byte(stamp(t0) + "a" + stamp(t0) + "b\r\n"))
	f.Add([]byte{1, 0, 0, 0, 0, 255, 0, 0, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, r := range []pieceReader{newFrameReader(bytes.NewReader(in)), newTTYReader(bytes.NewReader(in))} {
			pieces, err := readPieces(r)
			if err == nil {
				t.Fatal("no end")
			}
			size := 0
			for _, p := range pieces {
				size += len(p.text)
			}
			if size > len(in) {
				t.Fatalf("%d bytes became %d", len(in), size)
			}
		}
	})
}
