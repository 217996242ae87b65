//go:build linux

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// hold is a run of a load that only holds connections and subscriptions.
type hold struct {
	*loop
	load    Load
	left    []int32 // SUBACKs to come, by the index of a connection
	next    []int32 // the next filter to subscribe to
	open    int     // connections that are not done
	waiting int     // connections without CONNACK
	latest  int64   // when something last came
}

// perPacket is how many filters a SUBSCRIBE has at most.
const perPacket = 100

func newHold(load Load) (*hold, error) {
	l, err := newLoop()
	if err != nil {
		return nil, err
	}
	return &hold{loop: l, load: load}, nil
}

// grow opens connections until there are n, with all their subscriptions.
func (h *hold) grow(addr netip.AddrPort, n int, stall time.Duration) error {
	for i := len(h.conns); i < n; i++ {
		c, err := h.loop.open(addr, h.load.Version, fmt.Sprintf("hold%d", i))
		if err != nil {
			return err
		}
		h.next, h.left = append(h.next, 0), append(h.left, 0)
		h.open++
		h.waiting++
		c.out = appendConnect(c.out, c.version, c.name, false)
		h.touch(c)
		if err := h.until(stall, func() bool { return h.waiting < together }); err != nil {
			return err
		}
	}
	return h.until(stall, func() bool { return h.open == 0 })
}

// until takes turns until ok.
func (h *hold) until(stall time.Duration, ok func() bool) error {
	h.latest = h.clock()
	for {
		if err := h.flush(); err != nil {
			return err
		}
		if ok() {
			return nil
		}
		if err := h.turn(h, 100*time.Millisecond); err != nil {
			return err
		}
		if h.clock()-h.latest > int64(stall) {
			return fmt.Errorf("%d connections have had no answer for %v", h.open, stall)
		}
	}
}

func (h *hold) packet(c *conn, b []byte, hdr int) error {
	h.latest = h.now
	if err := refusal(b, hdr, c.version); err != nil {
		return err
	}
	switch b[0] & 0xf0 {
	case connack:
		h.waiting--
		h.subscribe(c)
	case suback:
		if h.left[c.index]--; h.left[c.index] < 0 {
			return errors.New("a second answer to one request")
		}
		if int(h.next[c.index]) == h.load.Filters {
			h.open--
			// What served to subscribe is of no use any more.
			c.out, c.tail = nil, nil
		} else {
			h.subscribe(c)
		}
	default:
		return fmt.Errorf("unexpected packet %#x", b[0])
	}
	return nil
}

// subscribe sends the connection's next SUBSCRIBE.
func (h *hold) subscribe(c *conn) {
	first := int(h.next[c.index])
	last := min(first+perPacket, h.load.Filters)
	filters := make([]string, 0, last-first)
	for k := first; k < last; k++ {
		filters = append(filters, h.filter(c.index, k))
	}
	h.next[c.index] = int32(last)
	h.left[c.index]++
	c.out = appendSubscribe(c.out, c.version, uint16(first+1), 0, filters...)
	h.touch(c)
}

// filter is subscription k of client c.
func (h *hold) filter(c, k int) string {
	return fmt.Sprintf(h.load.Filter, c, k)
}
