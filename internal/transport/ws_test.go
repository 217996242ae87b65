package transport

import (
	"context"
	"encoding/binary"
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

const upgradeRequest = "GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: other, mqtt\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// clientFrame makes a masked frame; first is its first byte.
func clientFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78 ^ first}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}
