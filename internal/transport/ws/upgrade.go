package ws

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/textproto"
	"strings"
)

// MaxHead is how long the head of an upgrade request may be, in bytes.
const MaxHead = 8 << 10

// Protocol is the WebSocket subprotocol of MQTT.
const Protocol = "mqtt"

// Protocol31 is the subprotocol that clients of MQTT 3.1 offer.
const Protocol31 = "mqttv3.1"

// Upgrade looks for the head of an upgrade request at the front of b and answers it. used is 0 as long as the head is not
// whole. path is the only one that is served. On an error reply is the refusal, after which the connection ends.
func Upgrade(b []byte, path string) (reply []byte, used int, err error) {
	head := b[:min(len(b), MaxHead)]
	i := bytes.Index(head, []byte("\r\n\r\n"))
	if i < 0 {
		if len(b) < MaxHead && plausible(b) {
			return nil, 0, nil
		}
		err = &UpgradeError{Status: http.StatusBadRequest, Text: "not an HTTP request"}
		if len(b) >= MaxHead {
			err = &UpgradeError{Status: http.StatusRequestHeaderFieldsTooLarge, Text: "request head is too long"}
		}
		return refusal(err.(*UpgradeError)), len(b), err
	}
	used = i + 4
	key, protocol, fault := check(head[:used], path)
	if fault != nil {
		return refusal(fault), used, fault
	}
	reply = append(reply, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	reply = append(reply, accept(key)...)
	// [MQTT-6.0.0-4] it is mqtt where that is offered
	reply = append(reply, "\r\nSec-WebSocket-Protocol: "+protocol+"\r\n\r\n"...)
	return reply, used, nil
}

// UpgradeError is why an upgrade was refused. Status is that of the HTTP reply.
type UpgradeError struct {
	Status int
	Text   string
}

// Error implements error.
func (e *UpgradeError) Error() string {
	return fmt.Sprintf("websocket upgrade: %s (%d)", e.Text, e.Status)
}

// plausible says whether b may become a GET, so that a client of another protocol is not waited for.
func plausible(b []byte) bool {
	const get = "GET "
	n := min(len(b), len(get))
	return string(b[:n]) == get[:n]
}

// check judges a whole head and returns its key and the subprotocol to select.
func check(head []byte, path string) (key, protocol string, fault *UpgradeError) {
	bad := func(status int, text string) (string, string, *UpgradeError) {
		return "", "", &UpgradeError{Status: status, Text: text}
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	switch {
	case err != nil:
		return bad(http.StatusBadRequest, "malformed request")
	case r.Method != http.MethodGet:
		return bad(http.StatusMethodNotAllowed, "method is not GET")
	case !r.ProtoAtLeast(1, 1):
		return bad(http.StatusBadRequest, "HTTP version is below 1.1")
	case r.URL.EscapedPath() != path:
		return bad(http.StatusNotFound, "unknown path")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return bad(http.StatusBadRequest, "request has a body")
	case !has(r.Header, "Connection", "upgrade", true) || !has(r.Header, "Upgrade", "websocket", true):
		return bad(http.StatusUpgradeRequired, "not a WebSocket upgrade")
	case r.Header.Get("Sec-Websocket-Version") != "13":
		return bad(http.StatusUpgradeRequired, "WebSocket version is not 13")
	}
	switch {
	case has(r.Header, "Sec-Websocket-Protocol", Protocol, false):
		protocol = Protocol
	case has(r.Header, "Sec-Websocket-Protocol", Protocol31, false):
		protocol = Protocol31
	default: // [MQTT-6.0.0-3]
		return bad(http.StatusBadRequest, "subprotocol mqtt is not offered")
	}
	keys := r.Header["Sec-Websocket-Key"]
	if len(keys) != 1 {
		return bad(http.StatusBadRequest, "want one key")
	}
	if raw, err := base64.StdEncoding.DecodeString(keys[0]); err != nil || len(raw) != 16 {
		return bad(http.StatusBadRequest, "key is not 16 bytes in base64")
	}
	return keys[0], protocol, nil
}

// has says whether one of the values of a header that is a list is the token.
func has(h http.Header, name, token string, fold bool) bool {
	for _, v := range h[textproto.CanonicalMIMEHeaderKey(name)] {
		for t := range strings.SplitSeq(v, ",") {
			if t = strings.Trim(t, " \t"); t == token || fold && strings.EqualFold(t, token) {
				return true
			}
		}
	}
	return false
}

// accept computes the answer to a key. [RFC 6455 4.2.2]
func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func refusal(e *UpgradeError) []byte {
	b := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n",
		e.Status, http.StatusText(e.Status), len(e.Text)+1)
	switch e.Status {
	case http.StatusUpgradeRequired:
		b = append(b, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"...)
	case http.StatusMethodNotAllowed:
		b = append(b, "Allow: GET\r\n"...)
	}
	return append(b, "\r\n"+e.Text+"\n"...)
}
