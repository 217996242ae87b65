package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

const (
	// stagger is how long an address is tried alone, RFC 8305, section 5.
	stagger = 250 * time.Millisecond
	// maxAddresses is how many addresses of a name are tried.
	maxAddresses = 16
)

// ErrSlower is the error of an attempt at an address while which another
// address answered.
var ErrSlower = errors.New("another address was faster")

// connect makes the connection below TLS and WebSocket.
func (t Target) connect(ctx context.Context, o Options) (net.Conn, error) {
	network := o.Network
	if network == "" {
		network = "tcp"
	}
	if t.Scheme == "unix" {
		network = "unix"
	}
	if o.Dial == nil && network != "unix" {
		addresses, err := t.resolve(ctx, o, network)
		if err != nil {
			return nil, err
		}
		// Its zero value has Nagle's algorithm off, and keep-alive on.
		var d net.Dialer
		return race(ctx, network, addresses, d.DialContext, o.Phase)
	}
	dial := o.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	return race(ctx, network, []string{t.Address()}, dial, o.Phase)
}

// resolve gives the addresses and ports to try, in this order.
func (t Target) resolve(ctx context.Context, o Options, network string) ([]string, error) {
	var ips []netip.Addr
	if ip, err := netip.ParseAddr(t.Host); err == nil {
		ips = []netip.Addr{ip}
	} else {
		r := o.Resolver
		if r == nil {
			r = &net.Resolver{Dial: ending(new(net.Dialer).DialContext)}
		}
		begin := time.Now()
		ips, err = r.LookupNetIP(ctx, "ip"+network[len("tcp"):], t.Host)
		if err == nil && len(ips) == 0 {
			err = &net.DNSError{Err: "no addresses", Name: t.Host, IsNotFound: true}
		}
		o.tell(DNS, begin, t.Host, nil, err)
		if err != nil {
			return nil, fail(ctx, DNS, t.Host, err)
		}
	}
	port, err := strconv.ParseUint(t.Port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number from 1 to 65535", t.Port)
	}
	var all []string
	for _, ip := range interleave(ips) {
		ip = ip.Unmap()
		if len(all) < maxAddresses && (network == "tcp" || ip.Is4() == (network == "tcp4")) {
			all = append(all, netip.AddrPortFrom(ip, uint16(port)).String())
		}
	}
	if len(all) == 0 {
		return nil, &Error{Phase: TCP, Address: t.Address(), Err: fmt.Errorf("it has no address for %s", network)}
	}
	return all, nil
}

// ending has connections end with the context they were made in. The resolver
// would leave a question that nobody waits for to its timeout.
func ending(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
		}
		return c, err
	}
}

// interleave has the families of addresses take turns, beginning with the
// first, and keeps the order within each: RFC 8305, section 4. The resolver has
// sorted them by RFC 6724.
func interleave(ips []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, ip := range ips {
		if ip.Unmap().Is4() == ips[0].Unmap().Is4() {
			first = append(first, ip)
		} else {
			second = append(second, ip)
		}
	}
	all := make([]netip.Addr, 0, len(ips))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			all = append(all, first[i])
		}
		if i < len(second) {
			all = append(all, second[i])
		}
	}
	return all
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// race tries the addresses one after the other, the next when one has failed or
// taken stagger, and returns the first connection. When it returns no attempt
// is under way any more.
func race(ctx context.Context, network string, addresses []string, dial dialFunc, tell func(Event)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		e    Event
	}
	attempts, stop := context.WithCancel(ctx)
	defer stop()
	results := make(chan result)
	begun, running := 0, 0
	next := func() {
		a := addresses[begun]
		begun, running = begun+1, running+1
		go func() {
			begin := time.Now()
			conn, err := dial(attempts, network, a)
			if err == nil && conn == nil {
				err = errors.New("dial gave neither a connection nor an error")
			}
			results <- result{conn, Event{Phase: TCP, Begin: begin, End: time.Now(), Address: a, Err: err}}
		}()
	}
	next()
	wait := time.NewTimer(stagger)
	defer wait.Stop()
	var won net.Conn
	var failed failures
	for running > 0 {
		select {
		case r := <-results:
			running--
			switch {
			case r.e.Err == nil && won == nil:
				won = r.conn
				stop()
			case r.e.Err == nil:
				_ = r.conn.Close()
				r.e.Err = ErrSlower
			case won != nil:
				r.e.Err = ErrSlower
			default:
				failed = append(failed, failure{r.e.Address, r.e.Err})
			}
			if tell != nil {
				tell(r.e)
			}
		case <-wait.C:
		}
		if won == nil && begun < len(addresses) && ctx.Err() == nil {
			next()
			wait.Reset(stagger)
		}
	}
	if won != nil {
		return won, nil
	}
	if len(failed) == 1 {
		return nil, fail(ctx, TCP, failed[0].address, failed[0].err)
	}
	return nil, fail(ctx, TCP, addresses[0], failed)
}
