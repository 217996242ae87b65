//go:build conformance

package conformance

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// The opcodes of RFC 6455 that are used here.
const (
	wsText   byte = 1
	wsBinary byte = 2
	wsClose  byte = 8
	wsPing   byte = 9
	wsPong   byte = 10
)

// wsConn carries a stream in binary frames, as a client.
type wsConn struct {
	*net.TCPConn
	r      *bufio.Reader
	rest   int    // of the frame that is being read
	code   uint16 // of the close frame that arrived, 0 for none
	header http.Header
}

// dialWS opens a WebSocket to host:port/path, offering the subprotocols.
func dialWS(url string, protocols ...string) (*wsConn, error) {
	host, path, _ := strings.Cut(url, "/")
	nc, err := net.DialTimeout("tcp", host, patience)
	if err != nil {
		return nil, err
	}
	offer := ""
	if len(protocols) > 0 {
		offer = "Sec-WebSocket-Protocol: " + strings.Join(protocols, ", ") + "\r\n"
	}
	nc.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(nc, "GET /%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", path, host, offer)
	w := &wsConn{TCPConn: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	w.header = res.Header
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		nc.Close()
		return nil, fmt.Errorf("upgrade: status %d, header %v", res.StatusCode, res.Header)
	}
	nc.SetDeadline(time.Time{})
	return w, nil
}

// Write sends b as one binary frame.
func (w *wsConn) Write(b []byte) (int, error) {
	if _, err := w.TCPConn.Write(wsFrame(wsBinary, true, b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// wsFrame is a masked frame.
func wsFrame(opcode byte, fin bool, payload []byte) []byte {
	first := opcode
	if fin {
		first |= 0x80
	}
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 65536:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i&3])
	}
	return b
}

// Read gives the bytes of the binary frames, answers pings, and ends at a close frame.
func (w *wsConn) Read(p []byte) (int, error) {
	for w.rest == 0 {
		if err := w.nextFrame(); err != nil {
			return 0, err
		}
	}
	n, err := w.r.Read(p[:min(len(p), w.rest)])
	w.rest -= n
	return n, err
}

// nextFrame reads a frame's header, and the whole frame if it is a control frame.
func (w *wsConn) nextFrame() error {
	head, err := w.r.Peek(2)
	if err != nil {
		return err
	}
	first, n := head[0], int(head[1])
	w.r.Discard(2)
	long := map[int]int{126: 2, 127: 8}[n]
	if long > 0 {
		ext := make([]byte, 8)
		if _, err := io.ReadFull(w.r, ext[8-long:]); err != nil {
			return err
		}
		n = int(binary.BigEndian.Uint64(ext))
	}
	switch op := first & 15; op {
	case 0, wsBinary:
		w.rest = n
		return nil
	case wsPing, wsPong, wsClose:
		body := make([]byte, n&0x7f)
		if _, err := io.ReadFull(w.r, body); err != nil {
			return err
		}
		return w.control(op, body)
	default:
		return fmt.Errorf("frame with the first byte %#x", first)
	}
}

func (w *wsConn) control(op byte, body []byte) error {
	switch op {
	case wsPing:
		_, err := w.TCPConn.Write(wsFrame(wsPong, true, body))
		return err
	case wsClose:
		if len(body) >= 2 {
			w.code = binary.BigEndian.Uint16(body)
		}
		w.TCPConn.Write(wsFrame(wsClose, true, body))
		return errClosedByFrame
	}
	return nil
}

var errClosedByFrame = errors.New("closed by a close frame")
