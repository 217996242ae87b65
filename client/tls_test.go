package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/internal/dial"
)

// TestHint: errors of files and of connections are told apart, and what to try.
func TestHint(t *testing.T) {
	_, err := LoadTLS(TLSFiles{CAs: []string{"no such file"}})
	if h := Hint(err); !strings.Contains(h, "path") {
		t.Errorf("%v: hint %q", err, h)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = dial.Target{Scheme: "unix", Path: "/no/such/socket"}.Dial(ctx, dial.Options{})
	if e, ok := errors.AsType[*DialError](err); !ok || e.Phase != PhaseTCP || Hint(err) == "" {
		t.Errorf("%v: hint %q", err, Hint(err))
	}
}
