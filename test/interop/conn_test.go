package interop

import (
	"net"
	"sync"
	"time"
)

// calm is a connection whose Close lets the other side finish: it waits (briefly) until the client's own reader has
// seen the end of what the broker sends. A broker that has closed has also dealt with the DISCONNECT before, so what
// the test does next cannot overtake it. To cut a connection, close the one inside.
type calm struct {
	net.Conn
	once  sync.Once
	ended chan struct{} // the reader got an error
}

const calmWait = time.Second

func newCalm(c net.Conn) *calm { return &calm{Conn: c, ended: make(chan struct{})} }

func (c *calm) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() { close(c.ended) })
	}
	return n, err
}

func (c *calm) Close() error {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	select {
	case <-c.ended:
	case <-time.After(calmWait):
	}
	return c.Conn.Close()
}
