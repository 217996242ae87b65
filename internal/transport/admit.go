package transport

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// Why a connection is refused before it says anything.
var (
	// ErrDenied refuses an address that Access.Deny names, or Allow does not.
	ErrDenied = errors.New("address is not allowed")
	// ErrTooManyOfAddress refuses a connection over MaxConnsPerAddr.
	ErrTooManyOfAddress = errors.New("too many connections from this address")
	// ErrTooFast refuses a connection over Rate or RatePerAddr.
	ErrTooFast = errors.New("connections come too fast")
)

// gate decides who may connect by a listener. IPv6 addresses count by their first 64 bits, which one host has to itself.
type gate struct {
	o *Access

	mu    sync.Mutex
	rate  bucket
	addrs map[netip.Addr]*origin
	swept time.Time
}

// origin is what is known of an address.
type origin struct {
	conns int
	rate  bucket
}

// maxOrigins bounds the addresses that are remembered beside those that have connections.
const maxOrigins = 1 << 16

// source is what of an address counts together.
func source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// allows says whether the address is one of those that may connect.
func (g *gate) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return !contains(g.o.Deny, a) && (len(g.o.Allow) == 0 || contains(g.o.Allow, a))
}

func contains(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// enter counts a connection from an address, unless it may not come.
func (g *gate) enter(a netip.Addr, now time.Time) error {
	if !g.allows(a) {
		return ErrDenied
	}
	if g.o.MaxConnsPerAddr <= 0 && g.o.RatePerAddr <= 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := source(a)
	x := g.addrs[key]
	if x == nil {
		if g.sweep(now); len(g.addrs) >= maxOrigins && g.o.MaxConnsPerAddr <= 0 {
			return nil // nothing but the rate is counted, and that of the listener holds
		}
		x = &origin{}
		if g.addrs == nil {
			g.addrs = map[netip.Addr]*origin{}
		}
		g.addrs[key] = x
	}
	switch {
	case g.o.MaxConnsPerAddr > 0 && x.conns >= g.o.MaxConnsPerAddr:
		return ErrTooManyOfAddress
	case !x.rate.take(g.o.RatePerAddr, now):
		return ErrTooFast
	}
	x.conns++
	return nil
}

// leave undoes enter.
func (g *gate) leave(a netip.Addr) {
	if g.o.MaxConnsPerAddr <= 0 && g.o.RatePerAddr <= 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	key := source(a)
	if x := g.addrs[key]; x != nil {
		if x.conns--; x.conns <= 0 && g.o.RatePerAddr <= 0 {
			delete(g.addrs, key)
		}
	}
}

// sweep forgets addresses that have no connections and a full bucket, now and then, and when there are too many.
func (g *gate) sweep(now time.Time) {
	if now.Sub(g.swept) < time.Second || len(g.addrs) < maxOrigins && now.Sub(g.swept) < time.Minute {
		return
	}
	g.swept = now
	for a, x := range g.addrs {
		if x.conns <= 0 && now.Sub(x.rate.at) > time.Duration(float64(time.Second)*burst(g.o.RatePerAddr)/g.o.RatePerAddr) {
			delete(g.addrs, a)
		}
	}
}

// fast says that the listener has had its share of new connections.
func (g *gate) fast(now time.Time) bool {
	if g.o.Rate <= 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.rate.take(g.o.Rate, now)
}

// bucket holds tokens: what it has not used, a rate gives it up to a second's worth.
type bucket struct {
	at   time.Time // zero: full
	have float64
}

// burst is what a bucket of a rate holds: that of a second, and at least 1.
func burst(rate float64) float64 { return max(rate, 1) }

// take takes a token if there is one. Without a rate there always is.
func (b *bucket) take(rate float64, now time.Time) bool {
	if rate <= 0 {
		return true
	}
	if b.at.IsZero() {
		b.have = burst(rate)
	} else if d := now.Sub(b.at); d > 0 {
		b.have = min(b.have+d.Seconds()*rate, burst(rate))
	}
	b.at = now
	if b.have < 1 {
		return false
	}
	b.have--
	return true
}
