package broker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/packet"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// childEnv is set in a process that apart has made.
const childEnv = "MYELIN_TEST_APART"

// apart runs a test in a process of its own; false: the process has run, and this
// is not it. It is for a test that has the disk fail: what works on the disk then
// stays where it is until its process ends.
func apart(t *testing.T) bool {
	if os.Getenv(childEnv) != "" {
		return true
	}
	var pattern []string
	for _, name := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(name)+"$")
	}
	c := exec.Command(os.Args[0], "-test.run="+strings.Join(pattern, "/"), "-test.v", "-test.timeout=5m")
	c.Env = append(os.Environ(), childEnv+"=1")
	out, err := c.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// each runs a test on every connection layer.
func each(t *testing.T, f func(t *testing.T, io string)) {
	for _, io := range []string{"reactor", "goroutine"} {
		t.Run(io, func(t *testing.T) { f(t, io) })
	}
}

// logs collects what the broker logs.
type logs struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// running is a broker under test.
type running struct {
	*Broker
	t    testing.TB
	addr string
	logs *logs
	stop func() // ends Serve and waits for it
}

// start serves a broker on a free port until the test ends.
func start(t testing.TB, o Options) *running {
	t.Helper()
	r, err := tryStart(t, o)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	return r
}

// tryStart is start of a broker that may not come up.
func tryStart(t testing.TB, o Options) (*running, error) {
	t.Helper()
	r := &running{t: t, logs: new(logs)}
	o.NoListeners = true
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(r.logs, nil))
	}
	if onDisk() && o.DataDir == "" { // the same tests, with what the disk does to time
		o.DataDir, o.dataFS = "data", vfs.NewMem()
	}
	b, err := New(o)
	if err != nil {
		return nil, err
	}
	r.Broker = b
	url, err := b.Listen(Listener{URL: "tcp://127.0.0.1:0"})
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	r.addr = strings.TrimPrefix(url, "tcp://")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("serve: %v", err)
			}
		case <-time.After(2 * patience):
			t.Error("serve did not return")
		}
	})
	t.Cleanup(r.stop)
	return r, nil
}

// onDisk: the tests run with the store on disk (in memory): all but those that
// count on a store that is done at once.
func onDisk() bool { return os.Getenv("MYELIN_TEST_STORE") == "disk" }

// atOnce is for a test that needs a store that is done at once.
func atOnce(t testing.TB) {
	if onDisk() {
		t.Skip("the store on disk is not done at once")
	}
}

// peer is a client that speaks packets.
type peer struct {
	t   testing.TB
	c   net.Conn
	v   packet.Version
	buf []byte
}

func (r *running) dial(v packet.Version) *peer {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatalf("dial: %v", err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &peer{t: r.t, c: c, v: v}
}

// connect connects and expects success.
func (r *running) connect(c packet.Connect) (*peer, *packet.Connack) {
	r.t.Helper()
	if c.Version == 0 {
		c.Version = packet.V5
	}
	p := r.dial(c.Version)
	p.send(&c)
	a := expect[*packet.Connack](p)
	if a.Code != packet.Success {
		r.t.Fatalf("CONNACK: %v", a.Code)
	}
	return p, a
}

// client is connect with a clean session and version 5.
func (r *running) client(id string) *peer {
	r.t.Helper()
	p, _ := r.connect(packet.Connect{ClientID: id, CleanStart: true, RequestProblemInfo: true})
	return p
}

func (p *peer) raw(b []byte) {
	p.t.Helper()
	if _, err := p.c.Write(b); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

func (p *peer) send(all ...packet.Packet) {
	p.t.Helper()
	var b []byte
	for _, x := range all {
		b = x.Append(b, p.v)
	}
	p.raw(b)
}

// errClosed is what read returns when the broker closed the connection.
var errClosed = errors.New("closed")

// read returns the next packet.
func (p *peer) read() (packet.Packet, error) {
	for {
		x, n, err := packet.Parse(p.buf, 0, p.v)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			p.buf = p.buf[n:]
			return x, nil
		}
		chunk := make([]byte, 64<<10)
		p.c.SetReadDeadline(time.Now().Add(patience))
		k, err := p.c.Read(chunk)
		p.buf = append(p.buf, chunk[:k]...)
		if k == 0 && err != nil {
			if errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset") {
				return nil, errClosed
			}
			return nil, err
		}
	}
}

func (p *peer) next() packet.Packet {
	p.t.Helper()
	x, err := p.read()
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return x
}

// expect reads a packet of one kind.
func expect[T packet.Packet](p *peer) T {
	p.t.Helper()
	x := p.next()
	y, ok := x.(T)
	if !ok {
		p.t.Fatalf("got %v, want %T", x, *new(T))
	}
	return y
}

// closed expects the end of the connection.
func (p *peer) closed() {
	p.t.Helper()
	if x, err := p.read(); err != errClosed {
		p.t.Fatalf("got %v, %v; want the connection closed", x, err)
	}
}

// quiet expects that nothing waits but the answer to a ping.
func (p *peer) quiet() {
	p.t.Helper()
	p.send(&packet.Pingreq{})
	expect[*packet.Pingresp](p)
}

// subscribe subscribes to one filter and expects that it is granted.
func (p *peer) subscribe(filter string, o packet.SubOptions) {
	p.t.Helper()
	p.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: filter, Options: o}}})
	if a := expect[*packet.Suback](p); a.Codes[0].Failed() {
		p.t.Fatalf("SUBACK for %q: %v", filter, a.Codes[0])
	}
}

// message makes a PUBLISH; id is 0 at QoS 0.
func message(topic, payload string, q packet.QoS, id uint16) *packet.Publish {
	m := packet.Message{Topic: topic, Payload: []byte(payload), QoS: q}
	return pub(m, id)
}

func pub(m packet.Message, id uint16) *packet.Publish {
	p, err := packet.NewPublish(&m, 0)
	if err != nil {
		panic(err)
	}
	b := packet.AppendPublish(nil, p, packet.V5, packet.PublishOpts{QoS: m.QoS, Retain: m.Retain, ID: id, Expiry: m.Expiry})
	x, _, err := packet.Parse(b, 0, packet.V5)
	if err != nil {
		panic(err)
	}
	return x.(*packet.Publish)
}

// eventually waits until a condition holds that another goroutine brings about.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// quiet tells whether no connection has word waiting for it: loops wake each
// other, and a ping alone does not prove that they are through.
func (r *running) quiet() bool {
	var all []*session
	for i := range r.registry.shards {
		sh := &r.registry.shards[i]
		sh.mu.Lock()
		for x := range sh.sessions.All() {
			if x.owner == nil {
				continue
			}
			if x.owner.signals.Load() != 0 || len(sh.lines) > 0 {
				sh.mu.Unlock()
				return false
			}
			all = append(all, x)
		}
		sh.mu.Unlock()
	}
	for _, x := range all {
		x.mu.Lock()
		word := x.active != nil && (x.ready.Load() || x.late.Load())
		x.mu.Unlock()
		if word {
			return false
		}
	}
	return true
}
