package transport

// wsConn is the WebSocket layer of one connection.
type wsConn struct {
	// The owner's.
	err       error // ends the connection once what is held was fed
	upgrading bool

	// Under the connection's mu.
	ctl []byte // frames to go out between those of the queue
	bye []byte // the close frame, to go out after everything else

	// The writer's.
	pre  []byte // what goes out first: control frames, the header of a frame
	left int    // bytes of the current frame's payload that are not sent yet
}

func (w *wsConn) pending() bool { return len(w.ctl)+len(w.bye)+len(w.pre) > 0 }

// take moves what may go out next to pre; last says that nothing is queued behind it.
func (w *wsConn) take(last bool) {
	if w.left > 0 {
		return
	}
	w.pre = append(w.pre, w.ctl...)
	w.ctl = nil
	if last {
		w.pre = append(w.pre, w.bye...)
		w.bye = nil
	}
}

// begin appends to bufs what goes out before the n bytes that are queued, and starts a frame if there is none.
func (w *wsConn) begin(bufs [][]byte, n int) [][]byte {
	if len(w.pre) > 0 {
		bufs = append(bufs, w.pre)
	}
	return bufs
}

// sent takes n bytes as written and returns how many of them were payload.
func (w *wsConn) sent(n int) int {
	m := min(n, len(w.pre))
	w.pre = append(w.pre[:0], w.pre[m:]...)
	w.left -= n - m
	return n - m
}

// close queues the close frame. The caller holds the connection's mu.
func (w *wsConn) close(err error) {}

func (c *Conn) wsInput(t *Turn, buf []byte, k int) ([]byte, error) { return buf, nil }
