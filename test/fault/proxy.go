package fault

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// dialTimeout is how long the broker may take to accept.
	dialTimeout = 5 * time.Second
	// linger is how long the ends of a connection that was cut may take to close.
	linger = time.Second
	// reopening is how long the port is tried again after it was closed.
	reopening = 10 * time.Second
)

// Proxy passes connections on to a broker.
type Proxy struct {
	upstream string
	address  string
	plan     Plan

	tasks  sync.WaitGroup
	closed chan struct{}

	mu    sync.Mutex
	ln    net.Listener // nil while connections are refused
	pause time.Duration
	shut  bool
	live  map[*link]struct{}
	stats Stats
}

// Stats are counts since Listen.
type Stats struct {
	// Connections that were accepted.
	Connections int
	// Up and Down are the bytes that were passed on; what was sent twice counts
	// twice.
	Up, Down int64
	// Faults that happened, by their kind. Proxy.Cut's are among them.
	Faults map[Kind]int
	// Errors are what went wrong in the proxy itself: a broker that it could not
	// reach, a port that it could not open again.
	Errors []error
}

// Listen opens a free port of the loopback and passes its connections on to the
// broker, such as tcp://127.0.0.1:1883 or only host and port. A nil plan passes
// everything through. Whoever calls it calls Close.
func Listen(upstream string, plan Plan) (*Proxy, error) {
	if plan == nil {
		plan = Script()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &Proxy{
		upstream: strings.TrimPrefix(upstream, "tcp://"), address: ln.Addr().String(), plan: plan,
		closed: make(chan struct{}), ln: ln, live: map[*link]struct{}{}, stats: Stats{Faults: map[Kind]int{}},
	}
	p.tasks.Go(p.accept)
	return p, nil
}

// URL is the address to connect to, tcp://127.0.0.1:PORT.
func (p *Proxy) URL() string { return "tcp://" + p.address }

// Cut cuts all connections that there are now, see the Kind Cut, and tells how
// many.
func (p *Proxy) Cut() int { return p.each(func(l *link) { l.end(Cut, 0) }) }

// Reset is Cut with the Kind Reset.
func (p *Proxy) Reset() int { return p.each(func(l *link) { l.end(Reset, 0) }) }

// Stats tells the counts.
func (p *Proxy) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stats
	s.Faults = make(map[Kind]int, len(p.stats.Faults))
	for k, n := range p.stats.Faults {
		s.Faults[k] = n
	}
	s.Errors = append([]error(nil), p.stats.Errors...)
	return s
}

// Close ends the proxy and all connections, and waits until nothing of it runs.
func (p *Proxy) Close() error {
	p.mu.Lock()
	if !p.shut {
		p.shut = true
		close(p.closed)
		if p.ln != nil {
			p.ln.Close()
		}
	}
	p.mu.Unlock()
	p.each((*link).drop)
	p.tasks.Wait()
	return nil
}

// each calls f for all live connections and tells how many they were.
func (p *Proxy) each(f func(*link)) int {
	p.mu.Lock()
	all := make([]*link, 0, len(p.live))
	for l := range p.live {
		all = append(all, l)
	}
	p.mu.Unlock()
	for _, l := range all {
		f(l)
	}
	return len(all)
}

// accept takes connections until Close.
func (p *Proxy) accept() {
	ln := p.ln
	for {
		c, err := ln.Accept()
		if err == nil {
			p.take(c.(*net.TCPConn))
			continue
		}
		p.mu.Lock()
		shut, pause := p.shut, p.pause
		p.mu.Unlock()
		if shut || !p.wait(pause) {
			return
		}
		if ln, err = p.reopen(); err != nil {
			return
		}
	}
}

// reopen opens the port again; an error is noted, unless the proxy is closed.
// Another program may have been given the port in between: it is tried for a
// while.
func (p *Proxy) reopen() (net.Listener, error) {
	for late := time.Now().Add(reopening); ; {
		ln, err := net.Listen("tcp", p.address)
		p.mu.Lock()
		if err == nil && p.shut {
			ln.Close()
			err = net.ErrClosed
		}
		if err == nil {
			p.ln = ln
			p.mu.Unlock()
			return ln, nil
		}
		shut := p.shut
		p.mu.Unlock()
		if shut {
			return nil, err
		}
		if time.Now().After(late) {
			p.failed(fmt.Errorf("open the port again: %w", err))
			return nil, err
		}
		if !p.wait(10 * time.Millisecond) {
			return nil, net.ErrClosed
		}
	}
}

// take begins a connection.
func (p *Proxy) take(client *net.TCPConn) {
	p.mu.Lock()
	n := p.stats.Connections
	p.stats.Connections++
	l := &link{p: p, client: client, over: make(chan struct{})}
	l.flows = [2]flow{
		{link: l, n: n, dir: Up, src: client, over: make(chan struct{})},
		{link: l, n: n, dir: Down, dst: client, over: make(chan struct{})},
	}
	shut := p.shut
	if !shut {
		p.live[l] = struct{}{}
		p.tasks.Go(l.run)
	}
	p.mu.Unlock()
	if shut {
		client.Close()
	}
}

// refuse closes the port for a while.
func (p *Proxy) refuse(pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil && !p.shut {
		p.pause = pause
		p.ln.Close()
		p.ln = nil
	}
}

// wait waits; false: the proxy was closed.
func (p *Proxy) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.closed:
		return false
	}
}

func (p *Proxy) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.stats.Errors) < 100 {
		p.stats.Errors = append(p.stats.Errors, err)
	}
}

func (p *Proxy) happened(k Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Faults[k]++
}

func (p *Proxy) passed(d Direction, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d == Up {
		p.stats.Up += int64(n)
	} else {
		p.stats.Down += int64(n)
	}
}

// link is one connection of a client, with the one to the broker.
type link struct {
	p      *Proxy
	client *net.TCPConn
	flows  [2]flow
	over   chan struct{} // its end has begun: nothing is passed on any more

	mu     sync.Mutex
	ended  bool
	broker *net.TCPConn // nil until it is there
}

// run is the connection's life.
func (l *link) run() {
	defer func() {
		l.p.mu.Lock()
		delete(l.p.live, l)
		l.p.mu.Unlock()
	}()
	// What is to happen before the first byte happens before the broker knows.
	for d := range l.flows {
		f := l.p.plan(l.flows[d].n, Direction(d), 0)
		if f.At == 0 && (f.Kind == Cut || f.Kind == Reset || f.Kind == Refuse) {
			l.end(f.Kind, f.Pause)
		}
	}
	if !l.connect() {
		l.finish()
		return
	}
	var both sync.WaitGroup
	for d := range l.flows {
		both.Go(l.flows[d].run)
	}
	both.Wait()
	l.close()
}

// connect reaches the broker; false: the connection is over.
func (l *link) connect() bool {
	select {
	case <-l.over:
		return false
	default:
	}
	c, err := net.DialTimeout("tcp", l.p.upstream, dialTimeout)
	if err != nil {
		l.p.failed(fmt.Errorf("reach the broker: %w", err))
		l.drop()
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		c.Close()
		return false
	}
	l.broker = c.(*net.TCPConn)
	l.flows[Up].dst, l.flows[Down].src = l.broker, l.broker
	return true
}

// end ends the connection as the fault says. It does not wait.
func (l *link) end(k Kind, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	close(l.over)
	if l.p.happened(k); k == Refuse {
		l.p.refuse(pause)
	}
	l.leave(k == Reset)
}

// fade ends a connection of which one direction is at its end and the other will
// never come to it.
func (l *link) fade() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.over)
		l.leave(false)
	}
}

// leave closes both ends, or begins to.
func (l *link) leave(torn bool) {
	for _, c := range l.ends() {
		if torn {
			abort(c)
			continue
		}
		// Both ends learn of the end behind the last byte, and what they still send
		// is read: a socket closed with something unread in it sends RST.
		c.CloseWrite()
		c.SetDeadline(time.Now().Add(linger))
	}
}

// drop ends the connection with RST, and is no fault.
func (l *link) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.over)
	}
	l.leave(true)
}

// finish reads what the client still sends and closes it.
func (l *link) finish() {
	drain(l.client)
	l.close()
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.ends() {
		c.Close()
	}
}

// ends are the sockets.
func (l *link) ends() []*net.TCPConn {
	if l.broker == nil {
		return []*net.TCPConn{l.client}
	}
	return []*net.TCPConn{l.client, l.broker}
}

// abort closes with RST.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// drain reads to the end, or the deadline.
func drain(c *net.TCPConn) {
	b := make([]byte, 4<<10)
	for {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}
