package telemetry

import "sync"

// buffers lends the memory of segments. It belongs to the shipper and not to a lane,
// since of thousands of workloads only a few print at a time.
type buffers struct{ pool sync.Pool }

func (b *buffers) get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return nil
}

func (b *buffers) put(buf []byte) {
	if cap(buf) > 0 {
		b.pool.Put(&buf)
	}
}
