package transport

import (
	"errors"
	"io"

	"github.com/myelin-mqtt/myelin/internal/transport/ws"
)

const (
	maxFrame   = 64 << 10 // payload of a frame that is sent: a receiver may hold it back until it is whole
	maxControl = 4 << 10  // bytes of pongs that wait for a peer who does not read; more are not answered
)

// wsConn is the WebSocket layer of one connection.
type wsConn struct {
	// The owner's.
	in        ws.Reader
	err       error // ends the connection once what is held was fed
	upgrading bool

	// Under the connection's mu.
	ctl []byte // the answer to the upgrade, pongs: to go out between the frames of the queue
	bye []byte // the close frame, to go out after everything else

	// The writer's.
	pre  []byte // what goes out first: control frames, the header of a frame
	left int    // bytes of the current frame's payload that are not sent yet
}

// wsInput opens what was read, buf from k on. It returns what is to be fed, which is nil if nothing is, and an error that
// ends the input after that.
func (c *Conn) wsInput(t *Turn, buf []byte, k int) ([]byte, error) {
	w := c.x.ws
	if w.upgrading {
		reply, used, err := ws.Upgrade(buf, c.lis.path)
		if used == 0 {
			c.keep(buf, 0)
			return nil, nil
		}
		c.dropTail() // it is shorter than tailCopied, so buf is the turn's
		c.control(t, reply)
		if err != nil {
			c.end(t, err)
			return nil, nil
		}
		w.upgrading = false
		buf, k = buf[used:], 0
	}
	n, err := w.in.Open(buf[k:], &t.ctl)
	if len(t.ctl) > 0 {
		c.control(t, t.ctl)
		t.ctl = t.ctl[:0]
	}
	if n == 0 && err == nil {
		return nil, nil
	}
	return buf[:k+n], err
}

// control queues p to go out between two frames.
func (c *Conn) control(t *Turn, p []byte) {
	w := c.x.ws
	c.mu.Lock()
	if !c.closed && len(w.ctl) < maxControl {
		w.ctl = append(w.ctl, p...)
		c.touch(t)
	}
	c.mu.Unlock()
}

// close queues the close frame. The caller holds the connection's mu.
func (w *wsConn) close(err error) {
	code := uint16(ws.StatusPolicy)
	var bad *ws.Error
	var end *ws.CloseError
	switch {
	case errors.As(err, &bad):
		code = bad.Code
	case errors.As(err, &end):
		code = end.Code // [RFC 6455 5.5.1] typically echoes the status
	case errors.Is(err, io.EOF):
		code = ws.StatusNormal
	case errors.Is(err, ErrServerClosed):
		code = ws.StatusGoingAway
	}
	w.bye = ws.AppendClose(nil, code)
}

func (w *wsConn) pending() bool { return len(w.ctl)+len(w.bye)+len(w.pre) > 0 }

// take moves what may go out next to pre; last says that nothing is queued behind it.
func (w *wsConn) take(last bool) {
	if w.left > 0 {
		return
	}
	w.pre = append(w.pre, w.ctl...)
	if w.ctl = w.ctl[:0]; cap(w.ctl) > 64 {
		w.ctl = nil
	}
	if last {
		w.pre = append(w.pre, w.bye...)
		w.bye = nil
	}
}

// begin appends to bufs what goes out before the n bytes that are queued, and starts a frame if there is none.
func (w *wsConn) begin(bufs [][]byte, n int) [][]byte {
	if w.left == 0 && n > 0 {
		w.left = min(n, maxFrame)
		w.pre = ws.AppendHeader(w.pre, w.left)
	}
	if len(w.pre) > 0 {
		bufs = append(bufs, w.pre)
	}
	return bufs
}

// sent takes n bytes as written and returns how many of them were payload.
func (w *wsConn) sent(n int) int {
	m := min(n, len(w.pre))
	w.pre = append(w.pre[:0], w.pre[m:]...)
	if len(w.pre) == 0 && cap(w.pre) > 64 {
		w.pre = nil
	}
	w.left -= n - m
	return n - m
}
