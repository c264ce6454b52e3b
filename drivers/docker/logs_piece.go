package docker

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// stream tells a container's outputs apart.
type stream uint8

const (
	stdout stream = iota
	stderr
	streams
)

func (s stream) String() string {
	if s == stderr {
		return "stderr"
	}
	return "stdout"
}

// piece is one message of an engine's log: a line, or a part of a line that was longer
// than the engine's buffer (16 KiB). All parts of a line have the time of the first.
type piece struct {
	stream stream
	time   time.Time
	// text is without the line end, and valid until the next call of next.
	text []byte
	// last says that the piece ends a line.
	last bool
}

// pieceReader reads the answer to a logs request that asked for timestamps.
type pieceReader interface {
	// next returns io.EOF at the end.
	next() (piece, error)
	// ready says whether next would return without waiting for the engine.
	ready() bool
}

// The format of a multiplexed answer (Docker Engine API, "ContainerAttach", "Stream
// format"): a header of 8 bytes, the first of which is the stream and the last four the
// big-endian length of what follows.
const (
	frameHeader      = 8
	frameStdout      = 1
	frameStderr      = 2
	frameSystemError = 3
	// frameMax is far above what an engine sends (16 KiB, thrice that when it replaced
	// invalid UTF-8); a larger length means that the answer is not what we take it for.
	frameMax = 16 << 20
)

const readBuffer = 64 << 10

var errMalformedLog = errors.New("malformed log stream")

// frameReader reads a multiplexed answer.
type frameReader struct {
	r     *bufio.Reader
	small []byte
	large bytes.Buffer
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, readBuffer), small: make([]byte, readBuffer)}
}

func (f *frameReader) next() (piece, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return piece{}, err // io.EOF only between frames
	}
	size := binary.BigEndian.Uint32(header[4:])
	if header[0] < frameStdout || header[0] > frameSystemError || size > frameMax {
		return piece{}, fmt.Errorf("%w: frame of stream %d with %d bytes", errMalformedLog, header[0], size)
	}
	body, err := f.body(int(size))
	if err != nil {
		return piece{}, err
	}
	if header[0] == frameSystemError {
		return piece{}, fmt.Errorf("engine: %s", strings.TrimSpace(string(body)))
	}
	p := piece{stream: stdout}
	if header[0] == frameStderr {
		p.stream = stderr
	}
	p.time, p.text, err = cutTime(body)
	if err != nil {
		return piece{}, err
	}
	p.text, p.last = bytes.CutSuffix(p.text, []byte{'\n'})
	return p, nil
}

// body reads the contents of a frame, growing with what really comes.
func (f *frameReader) body(size int) ([]byte, error) {
	if size <= len(f.small) {
		_, err := io.ReadFull(f.r, f.small[:size])
		return f.small[:size], noEOF(err)
	}
	f.large.Reset()
	_, err := io.CopyN(&f.large, f.r, int64(size))
	return f.large.Bytes(), noEOF(err)
}

func (f *frameReader) ready() bool {
	if f.r.Buffered() < frameHeader {
		return false
	}
	header, err := f.r.Peek(frameHeader)
	return err == nil && uint64(f.r.Buffered()) >= frameHeader+uint64(binary.BigEndian.Uint32(header[4:]))
}

// noEOF is for reads in the middle of something, where an end is not one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// cutTime splits a piece into its time and its text.
func cutTime(b []byte) (time.Time, []byte, error) {
	head, text, ok := bytes.Cut(b, []byte{' '})
	if !ok || len(head) > len(time.RFC3339Nano) {
		return time.Time{}, nil, fmt.Errorf("%w: no timestamp", errMalformedLog)
	}
	t, err := time.Parse(time.RFC3339Nano, string(head))
	if err != nil {
		return time.Time{}, nil, fmt.Errorf("%w: no timestamp", errMalformedLog)
	}
	return t.UTC(), text, nil
}

// ttyReader reads the answer for a container with a terminal: the pieces one after
// another, without headers, lines ending in "\r\n". Where the engine split a line, its
// timestamp stands again in the middle; a program cannot have printed that, since the
// time was not known yet.
type ttyReader struct {
	r *bufio.Reader
	// prefix is the timestamp, with its space, of the line that is being read, empty
	// between lines; time is the same parsed.
	prefix []byte
	time   time.Time
	text   []byte
}

// ttyChunk bounds the text of one piece.
const ttyChunk = 32 << 10

func newTTYReader(r io.Reader) *ttyReader {
	return &ttyReader{r: bufio.NewReaderSize(r, readBuffer)}
}

func (t *ttyReader) next() (piece, error) {
	if len(t.prefix) == 0 {
		if err := t.begin(); err != nil {
			return piece{}, err
		}
	}
	t.text = t.text[:0]
	for {
		b, err := t.r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && len(t.text) > 0 {
				return t.piece(false), nil
			}
			return piece{}, err
		}
		if b == '\n' {
			p := t.piece(true)
			p.text = bytes.TrimSuffix(p.text, []byte{'\r'})
			t.prefix = t.prefix[:0]
			return p, nil
		}
		t.text = append(t.text, b)
		if b == ' ' && bytes.HasSuffix(t.text, t.prefix) {
			t.text = t.text[:len(t.text)-len(t.prefix)]
			return t.piece(false), nil
		}
		// Only what cannot be the beginning of a timestamp is given out.
		if len(t.text) >= ttyChunk+len(t.prefix) && b == ' ' || len(t.text) >= 2*ttyChunk {
			return t.piece(false), nil
		}
	}
}

func (t *ttyReader) piece(last bool) piece {
	return piece{stream: stdout, time: t.time, text: t.text, last: last}
}

// begin reads the timestamp of a line.
func (t *ttyReader) begin() error {
	t.prefix = t.prefix[:0]
	for len(t.prefix) == 0 || t.prefix[len(t.prefix)-1] != ' ' {
		b, err := t.r.ReadByte()
		if err != nil {
			if len(t.prefix) > 0 {
				err = noEOF(err)
			}
			return err
		}
		if t.prefix = append(t.prefix, b); len(t.prefix) > len(time.RFC3339Nano)+1 {
			return fmt.Errorf("%w: no timestamp", errMalformedLog)
		}
	}
	at, _, err := cutTime(t.prefix)
	t.time = at
	return err
}

func (t *ttyReader) ready() bool {
	buffered, err := t.r.Peek(t.r.Buffered())
	return err == nil && bytes.IndexByte(buffered, '\n') >= 0
}
