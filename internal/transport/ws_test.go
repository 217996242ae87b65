package transport

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
)

// dialWS upgrades nc and returns it as a stream of binary messages.
func dialWS(t testing.TB, nc net.Conn) net.Conn {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nc, nil }}
	wc, _, err := websocket.Dial(ctx, "ws://"+nc.RemoteAddr().String()+"/mqtt", &websocket.DialOptions{
		HTTPClient:   &http.Client{Transport: tr},
		Subprotocols: []string{"mqtt"},
	})
	if err != nil {
		t.Fatal(err)
	}
	wc.SetReadLimit(-1)
	t.Cleanup(func() {
		_ = wc.CloseNow()
		cancel()
		tr.CloseIdleConnections()
	})
	return websocket.NetConn(ctx, wc, websocket.MessageBinary)
}
