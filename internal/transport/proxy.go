package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrProxy ends a connection of a proxy that does not begin with a PROXY header.
var ErrProxy = errors.New("no PROXY header")

// proxyConn is the PROXY layer of a connection until its header has come.
type proxyConn struct{ head []byte }

const (
	proxyV2   = "\r\n\r\n\x00\r\nQUIT\n"
	maxProxy1 = 107     // bytes of a header of version 1, with its line end
	maxProxy2 = 4 << 10 // and of version 2, as far as it is taken
)

// proxyHeader reads the header at the front of b: n is its length, 0 if it is not whole, and from whose address the
// connection comes, not valid where the header says that it is the proxy's own or does not know.
func proxyHeader(b []byte) (from netip.AddrPort, n int, err error) {
	switch {
	case bytes.HasPrefix(b, []byte(proxyV2)[:min(len(b), len(proxyV2))]):
		return proxyHeader2(b)
	case bytes.HasPrefix(b, []byte("PROXY ")[:min(len(b), 6)]):
		return proxyHeader1(b)
	}
	return from, 0, ErrProxy
}

// proxyHeader1 reads such as `PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883`.
func proxyHeader1(b []byte) (from netip.AddrPort, n int, err error) {
	end := bytes.Index(b[:min(len(b), maxProxy1)], []byte("\r\n"))
	if end < 0 {
		if len(b) >= maxProxy1 {
			return from, 0, ErrProxy
		}
		return from, 0, nil
	}
	f := strings.Split(string(b[:end]), " ")
	if len(f) >= 2 && f[1] == "UNKNOWN" {
		return from, end + 2, nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return from, 0, ErrProxy
	}
	for _, s := range f[2:4] {
		if a, err := netip.ParseAddr(s); err != nil || a.Is4() != (f[1] == "TCP4") || a.Zone() != "" {
			return from, 0, ErrProxy
		}
	}
	var ports [2]uint16
	for i, s := range f[4:] {
		p, err := strconv.ParseUint(s, 10, 16)
		if err != nil || s != strconv.FormatUint(p, 10) {
			return from, 0, ErrProxy
		}
		ports[i] = uint16(p)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(f[2]), ports[0]), end + 2, nil
}

func proxyHeader2(b []byte) (from netip.AddrPort, n int, err error) {
	const fixed = 16
	if len(b) < fixed {
		return from, 0, nil
	}
	n = fixed + int(binary.BigEndian.Uint16(b[14:]))
	command, family := b[12], b[13]
	if command>>4 != 2 || command&15 > 1 || n > maxProxy2 {
		return from, 0, ErrProxy
	}
	if len(b) < n {
		return from, 0, nil
	}
	body := b[fixed:n]
	switch {
	case command&15 == 0: // LOCAL: the proxy looks whether somebody is there
		return from, n, nil
	case family == 0x11 && len(body) >= 12: // TCP over IPv4
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(body)), binary.BigEndian.Uint16(body[8:])), n, nil
	case family == 0x21 && len(body) >= 36: // TCP over IPv6
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(body)), binary.BigEndian.Uint16(body[32:])), n, nil
	case family == 0x11 || family == 0x21:
		return from, 0, ErrProxy
	}
	return from, n, nil // what it is, is not known: as LOCAL
}

func (c *Conn) px() *proxyConn {
	if c.x == nil {
		return nil
	}
	return c.x.px
}

// proxyReadable is readable while the PROXY header has not come.
func (c *Conn) proxyReadable(t *Turn) after {
	raw := t.rawBuffer()
	n, err := c.l.s.drv.read(c, raw[:readSize-maxProxy2])
	switch {
	case err == syscall.EAGAIN:
		return drained
	case err != nil:
		c.fail(t, err)
		return stopped
	case n == 0:
		c.eof = true
		c.end(t, io.EOF)
		return stopped
	}
	t.in += uint64(n)
	p := c.x.px
	b := raw[:n]
	if len(p.head) > 0 {
		b = append(p.head, b...)
	}
	from, k, err := proxyHeader(b)
	switch {
	case err != nil:
		c.end(t, err)
		return stopped
	case k == 0: // it is short: proxyHeader has seen to that
		p.head = append([]byte(nil), b...)
		return more
	}
	c.x.px = nil
	if from.IsValid() {
		if err := c.comesFrom(from); err != nil {
			c.end(t, err)
			return stopped
		}
	}
	c.firstInput(t, b[k:])
	if poison {
		spoil(raw[:n])
	}
	if c.pause != running || c.ended {
		return stopped
	}
	return more
}

// comesFrom sets the address that a proxy has told, if it may connect.
func (c *Conn) comesFrom(from netip.AddrPort) error {
	c.addr, c.port = from.Addr().As16(), from.Port()
	err := c.lis.gate.enter(from.Addr(), time.Now())
	c.counted = err == nil
	return err
}

// firstInput passes what came behind the header to the next layer.
func (c *Conn) firstInput(t *Turn, b []byte) {
	if len(b) == 0 {
		return
	}
	if l := c.tls(); l != nil {
		l.feedHandshake(t, b)
		return
	}
	buf := t.buffer() // which is longer
	c.input(t, buf[:copy(buf, b)], 0)
}
