package check

import (
	"testing"

	"github.com/myelin-mqtt/myelin/broker"
)

// TestOwnBroker: our broker keeps every promise.
func TestOwnBroker(t *testing.T) {
	for _, f := range judged(t, options(t, serve(t, broker.Options{}))) {
		if f.Status == Broken || f.Status == Unknown {
			t.Errorf("%s: %s: %s", f.Name, f.Status, f.Detail)
		}
	}
}
