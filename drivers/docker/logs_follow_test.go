package docker

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/kranix-io/kranix-runtime/drivers"
)

// vanishing is an engine with one container whose log can no longer be read once its
// follow stream has begun: as when it is removed with --force while it prints.
type vanishing struct {
	gone atomic.Bool
	// asked has an element when the log was asked for in vain.
	asked chan struct{}
}

func (v *vanishing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasSuffix(path, "/_ping"):
		w.Header().Set("Api-Version", "1.41")
	case strings.HasSuffix(path, "/info"):
		fmt.Fprint(w, `{"SystemTime":"2026-01-01T00:00:00Z"}`) //nolint:errcheck // a fake's answer
	case strings.HasSuffix(path, "/events"):
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case strings.HasSuffix(path, "/containers/json") && !v.gone.Load():
		fmt.Fprintf(w, `[{"Id":"c1","Names":["/x"],"State":"running","Labels":{%q:"a/b",%q:"instance",%q:"0"}}]`, //nolint:errcheck // a fake's answer
			drivers.LabelWorkload, drivers.LabelRole, drivers.LabelInstance)
	case strings.HasSuffix(path, "/containers/json"):
		fmt.Fprint(w, `[]`) //nolint:errcheck // a fake's answer
	case v.gone.Load():
		if strings.HasSuffix(path, "/logs") {
			select {
			case v.asked <- struct{}{}:
			default:
			}
		}
		http.Error(w, `{"message":"No such container: c1"}`, http.StatusNotFound)
	case strings.HasSuffix(path, "/c1/json"):
		fmt.Fprint(w, `{"Id":"c1","State":{"Running":true},"Config":{},"HostConfig":{"LogConfig":{"Type":"local"}}}`) //nolint:errcheck // a fake's answer
	case r.URL.Query().Get("follow") == "1":
		v.gone.Store(true)
		w.Write(slices.Concat(frame(1, stamp(at(1))+"one\n"), frame(2, stamp(at(2))+"two\n"))) //nolint:errcheck // a fake's answer
		w.(http.Flusher).Flush()
		select {
		case <-v.asked:
		case <-r.Context().Done():
		}
		w.Write(slices.Concat(frame(1, stamp(at(3))+"three\n"), frame(1, stamp(at(4))+"last words"))) //nolint:errcheck // a fake's answer
	}
}

func TestFollowDeliversTheStreamOfWhatIsGone(t *testing.T) {
	defer goleak.VerifyNone(t)
	server := httptest.NewServer(&vanishing{asked: make(chan struct{}, 1)})
	defer server.Close()
	d, err := New(t.Context(), drivers.Environment{Node: "n"}, Config{Host: "tcp://" + strings.TrimPrefix(server.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // the leak check would tell
	var got []string
	err = d.ReadLogs(t.Context(), "a/b", &drivers.LogOptions{Follow: true}, func(l drivers.LogLine) error {
		got = append(got, l.Stream+" "+string(l.Line))
		return nil
	})
	if want := []string{"stdout one", "stderr two", "stdout three", "stdout last words"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
