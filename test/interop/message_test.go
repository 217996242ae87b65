package interop

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// message is what a client received, in the terms that all of them share.
type message struct {
	topic   string
	payload string
	qos     byte
	retain  bool
}

func (m message) String() string {
	return fmt.Sprintf("%s=%s q%d r%t", m.topic, m.payload, m.qos, m.retain)
}

// inbox collects messages in the order of their arrival.
type inbox[M any] chan M

// inboxSize is more than any test sends, so that a client's reader never waits for the test.
const inboxSize = 4096

func newInbox[M any]() inbox[M] { return make(inbox[M], inboxSize) }

// take returns the next n messages, or ends the test.
func (in inbox[M]) take(t *testing.T, n int) []M {
	t.Helper()
	late := time.After(patience)
	got := make([]M, 0, n)
	for len(got) < n {
		select {
		case m := <-in:
			got = append(got, m)
		case <-late:
			t.Fatalf("got %d of %d messages within %v: %v", len(got), n, patience, got)
		}
	}
	return got
}

// wait ends the test if c is not closed or filled in time.
func wait[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		panic("unreachable")
	}
}

// made counts the names that unique has given out.
var made atomic.Int64

// unique returns a name that no other test of this run uses, good as a topic level and as a client identifier of
// MQTT 3.1 (23 characters of letters and digits).
func unique(prefix string) string {
	return prefix + strconv.Itoa(os.Getpid()) + "n" + strconv.FormatInt(made.Add(1), 10)
}

// numbered returns n payloads that tell their place.
func numbered(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = "m" + strconv.Itoa(i)
	}
	return s
}

// equal compares what arrived with what was expected, in order.
func equal[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d, want %d:\ngot  %v\nwant %v", what, len(got), len(want), got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: number %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// alternating puts the even ones of numbered before the odd ones, and keeps the
// order of each: messages of two topics and two qualities of service, whose
// order among each other is open [MQTT-4.6.0-5].
func alternating(s []string) (out []string) {
	var odd []string
	for _, x := range s {
		if n, err := strconv.Atoi(strings.TrimPrefix(x, "m")); err == nil && n%2 == 1 {
			odd = append(odd, x)
		} else {
			out = append(out, x)
		}
	}
	return append(out, odd...)
}

func payloads(ms []message) []string {
	s := make([]string, len(ms))
	for i, m := range ms {
		s[i] = m.payload
	}
	return s
}

// split reads a line of fields that sep divides, the last of which may hold it too.
func split(line string, n int) ([]string, error) {
	f := strings.SplitN(line, "|", n)
	if len(f) != n {
		return nil, fmt.Errorf("line %q has %d fields, want %d", line, len(f), n)
	}
	return f, nil
}
