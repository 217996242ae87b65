package ws

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

const request = "GET /mqtt HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n"

func TestUpgrade(t *testing.T) {
	for _, x := range []struct {
		name     string
		old, new string // replaced in request
		path     string
		status   int
	}{
		{"good", "", "", "/mqtt", 101},
		{"lists and case", "Upgrade: websocket\r\nConnection: Upgrade", "upgrade: h2c, WebSocket\r\nconnection: keep-alive, UPGRADE", "/mqtt", 101},
		{"several protocols", "Protocol: mqtt", "Protocol: mqttv3.1, mqtt", "/mqtt", 101},
		{"protocols on two lines", "Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: mqtt", "/mqtt", 101},
		{"query", "/mqtt ", "/mqtt?x=1 ", "/mqtt", 101},
		{"other path", "", "", "/other", 404},
		{"POST", "GET", "POST", "/mqtt", 405},
		{"HTTP/1.0", "HTTP/1.1", "HTTP/1.0", "/mqtt", 400},
		{"garbage", "HTTP/1.1\r\nHost", "HTTP/1.1\r\n\x00Host", "/mqtt", 400},
		{"no upgrade", "Upgrade: websocket\r\n", "", "/mqtt", 426},
		{"no connection", "Connection: Upgrade\r\n", "", "/mqtt", 426},
		{"version 8", "Version: 13", "Version: 8", "/mqtt", 426},
		{"no version", "Sec-WebSocket-Version: 13\r\n", "", "/mqtt", 426},
		{"no protocol", "Sec-WebSocket-Protocol: mqtt\r\n", "", "/mqtt", 400},
		{"protocol of 3.1", "Protocol: mqtt", "Protocol: mqttv3.1", "/mqtt", 101},
		{"other protocol", "Protocol: mqtt", "Protocol: mqttv9", "/mqtt", 400},
		{"protocol is case-sensitive", "Protocol: mqtt", "Protocol: MQTT", "/mqtt", 400},
		{"no key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", "/mqtt", 400},
		{"short key", "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", "/mqtt", 400},
		{"two keys", "Sec-WebSocket-Key: ", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: ", "/mqtt", 400},
		{"body", "Host:", "Content-Length: 5\r\nHost:", "/mqtt", 400},
		{"chunks", "Host:", "Transfer-Encoding: chunked\r\nHost:", "/mqtt", 400},
		{"long head", "Host: ", "Host: " + strings.Repeat("x", MaxHead), "/mqtt", 431},
	} {
		t.Run(x.name, func(t *testing.T) {
			in := []byte(strings.Replace(request, x.old, x.new, 1))
			rest := []byte("frames")
			reply, used, err := Upgrade(append(bytes.Clone(in), rest...), x.path)
			if x.name != "POST" {
				for n := range min(len(in), MaxHead) {
					if _, used, _ := Upgrade(in[:n], x.path); used != 0 {
						t.Fatalf("an answer to %d of %d bytes", n, len(in))
					}
				}
			}
			resp, rerr := http.ReadResponse(bufio.NewReader(bytes.NewReader(reply)), nil)
			if rerr != nil {
				t.Fatal(rerr)
			}
			if resp.StatusCode != x.status {
				t.Errorf("status %d, want %d", resp.StatusCode, x.status)
			}
			if x.status == 101 {
				if err != nil || used != len(in) {
					t.Errorf("used %d of %d, %v", used, len(in), err)
				}
				if a := resp.Header.Get("Sec-Websocket-Accept"); a != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
					t.Errorf("accept is %s", a)
				}
				if p := resp.Header.Get("Sec-Websocket-Protocol"); p != "mqtt" && !(p == "mqttv3.1" && x.name == "protocol of 3.1") {
					t.Errorf("protocol is %s", p)
				}
				return
			}
			var e *UpgradeError
			if !errors.As(err, &e) || e.Status != x.status || !strings.Contains(err.Error(), e.Text) {
				t.Errorf("error: %v", err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != e.Text+"\n" {
				t.Errorf("body: %q, %v", body, err)
			}
		})
	}
}

func FuzzUpgrade(f *testing.F) {
	f.Add([]byte(request))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, used, err := Upgrade(b, "/mqtt")
		if used > len(b) || (used == 0) != (reply == nil) && len(b) > 0 || used == 0 && err != nil && len(b) > 0 {
			t.Fatalf("%q, %d, %v", reply, used, err)
		}
	})
}
