package fault

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/myelin-mqtt/myelin/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// bed is a proxy between a client's socket and a broker's.
type bed struct {
	t  *testing.T
	p  *Proxy
	ln net.Listener
}

func listen(t *testing.T, plan Plan) *bed {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Listen("tcp://"+ln.Addr().String(), plan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		ln.Close()
		for _, err := range p.Stats().Errors {
			t.Errorf("proxy: %v", err)
		}
	})
	return &bed{t, p, ln}
}

// dial makes the client's end.
func (b *bed) dial() *net.TCPConn {
	b.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(b.p.URL(), "tcp://"))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.patient(c)
}

// pair makes both ends.
func (b *bed) pair() (client, broker *net.TCPConn) {
	b.t.Helper()
	return b.dial(), b.accept()
}

// accept takes the broker's end.
func (b *bed) accept() *net.TCPConn {
	b.t.Helper()
	if err := b.ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		b.t.Fatal(err)
	}
	c, err := b.ln.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.patient(c)
}

func (b *bed) patient(c net.Conn) *net.TCPConn {
	b.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		b.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// ends makes both ends: the sender and the receiver of a direction.
func (b *bed) ends(d Direction) (from, to *net.TCPConn) {
	b.t.Helper()
	client, broker := b.pair()
	if d == Up {
		return client, broker
	}
	return broker, client
}

func send(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// get reads n bytes.
func get(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("read %d bytes: %v", n, err)
	}
	return b
}

// all reads to the end, which must be in order.
func all(t *testing.T, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("read to the end: %v", err)
	}
	return b
}

// silent: nothing comes.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	defer c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read %d bytes, %v, want silence", n, err)
	}
}

// message is a PUBLISH of 5.0 with a payload of this size.
func message(t *testing.T, size int) []byte {
	t.Helper()
	p, err := packet.NewPublish(&packet.Message{Topic: "t", Payload: bytes.Repeat([]byte{'x'}, size), QoS: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return packet.AppendPublish(nil, p, packet.V5, packet.PublishOpts{QoS: 1, ID: 7})
}

func each(t *testing.T, f func(t *testing.T, d Direction)) {
	for _, d := range []Direction{Up, Down} {
		t.Run(d.String(), func(t *testing.T) { f(t, d) })
	}
}

func TestPassThrough(t *testing.T) {
	b := listen(t, nil)
	client, broker := b.pair()
	up, down := make([]byte, 1<<20), make([]byte, 1<<20+1)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(up)
	r.Read(down)
	for c, out := range map[*net.TCPConn][]byte{client: up, broker: down} {
		go func() {
			c.Write(out)
			c.CloseWrite()
		}()
	}
	gotUp := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(broker)
		gotUp <- b
	}()
	if got := all(t, client); !bytes.Equal(got, down) {
		t.Errorf("down came %d bytes, not the %d that were sent", len(got), len(down))
	}
	if got := <-gotUp; !bytes.Equal(got, up) {
		t.Errorf("up came %d bytes, not the %d that were sent", len(got), len(up))
	}
	b.p.Close()
	s := b.p.Stats()
	if s.Connections != 1 || s.Up != int64(len(up)) || s.Down != int64(len(down)) || len(s.Faults) != 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestResetPassesOn(t *testing.T) {
	each(t, func(t *testing.T, d Direction) {
		from, to := listen(t, nil).ends(d)
		send(t, from, []byte("x"))
		get(t, to, 1)
		abort(from)
		if _, err := to.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the other end got %v, want a reset", err)
		}
	})
}

func TestCutAtEachByte(t *testing.T) {
	const most = 70
	each(t, func(t *testing.T, d Direction) {
		var steps []Step
		for i := range most {
			steps = append(steps, Step{i, d, Fault{Kind: Cut, At: int64(i)}})
		}
		b := listen(t, Script(steps...))
		long := append(message(t, 20), message(t, 50)...)
		for i := range most {
			if i == 0 {
				if got := all(t, b.dial()); len(got) != 0 {
					t.Errorf("got %d bytes", len(got))
				}
				continue
			}
			from, to := b.ends(d)
			send(t, from, long)
			if got := all(t, to); !bytes.Equal(got, long[:i]) {
				t.Fatalf("%d bytes came of a connection cut after %d", len(got), i)
			}
			if got := all(t, from); len(got) != 0 {
				t.Fatalf("the sender got %d bytes", len(got))
			}
			from.Close()
			to.Close()
		}
		if n := b.p.Stats().Faults[Cut]; n != most {
			t.Errorf("%d cuts, want %d", n, most)
		}
	})
}

func TestReset(t *testing.T) {
	each(t, func(t *testing.T, d Direction) {
		b := listen(t, Script(Step{0, d, Fault{Kind: Reset, At: 5}}))
		from, to := b.ends(d)
		send(t, from, []byte("0123456789"))
		got, err := io.ReadAll(to)
		if !errors.Is(err, syscall.ECONNRESET) || !strings.HasPrefix("01234", string(got)) {
			t.Errorf("the receiver got %q, %v, want a reset", got, err)
		}
		if _, err := from.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the sender got %v, want a reset", err)
		}
	})
}

func TestRefuse(t *testing.T) {
	b := listen(t, Script(Step{0, Up, Fault{Kind: Refuse, At: 3, Pause: 100 * time.Millisecond}}))
	first, broker := b.pair()
	send(t, first, []byte("abcdef"))
	if got := all(t, broker); string(got) != "abc" {
		t.Errorf("came %q, want abc", got)
	}
	var client net.Conn
	refused := 0
	for late := time.Now().Add(patience); ; {
		var err error
		if client, err = net.Dial("tcp", strings.TrimPrefix(b.p.URL(), "tcp://")); err == nil {
			break
		}
		if refused++; !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(late) {
			t.Fatalf("connect: %v", err)
		}
	}
	if refused == 0 {
		t.Error("no connection was refused")
	}
	send(t, client, []byte("again"))
	get(t, b.accept(), 5)
	client.Close()
}

func TestDelay(t *testing.T) {
	const pause = 60 * time.Millisecond
	each(t, func(t *testing.T, d Direction) {
		b := listen(t, Script(Step{0, d, Fault{Kind: Delay, At: 4, Pause: pause}}))
		from, to := b.ends(d)
		start := time.Now()
		send(t, from, []byte("01234567"))
		if got := get(t, to, 4); string(got) != "0123" {
			t.Errorf("came %q first", got)
		}
		if got := get(t, to, 4); string(got) != "4567" || time.Since(start) < pause {
			t.Errorf("came %q after %v, want it after %v", got, time.Since(start), pause)
		}
	})
}

// A direction that stalls is silent, its end included, while the other one goes
// on, and both end with it.
func TestStall(t *testing.T) {
	each(t, func(t *testing.T, d Direction) {
		b := listen(t, Script(Step{0, d, Fault{Kind: Stall, At: 4}}))
		from, to := b.ends(d)
		send(t, from, []byte("01234567"))
		if got := get(t, to, 4); string(got) != "0123" {
			t.Errorf("came %q", got)
		}
		send(t, to, []byte("back"))
		get(t, from, 4)
		from.CloseWrite()
		silent(t, to)
		send(t, to, []byte("more"))
		get(t, from, 4)
		to.CloseWrite()
		if got := all(t, from); len(got) != 0 {
			t.Errorf("at the end came %q", got)
		}
		if got := all(t, to); len(got) != 0 {
			t.Errorf("at the end came %q", got)
		}
	})
}

func TestHalve(t *testing.T) {
	each(t, func(t *testing.T, d Direction) {
		b := listen(t, Script(
			Step{0, d, Fault{Kind: Halve, At: 3, Pause: 20 * time.Millisecond}},
			Step{0, d, Fault{Kind: Halve, At: 10, Size: 3, Pause: 20 * time.Millisecond}}))
		from, to := b.ends(d)
		send(t, from, []byte("0123456789abcdef"))
		from.CloseWrite()
		var pieces []string
		buf := make([]byte, 100)
		for {
			n, err := to.Read(buf)
			if err != nil {
				break
			}
			pieces = append(pieces, string(buf[:n]))
		}
		if got := strings.Join(pieces, ""); got != "0123456789abcdef" {
			t.Errorf("came %q", got)
		}
		if len(pieces) < 5 || pieces[0] != "012" {
			t.Errorf("came in the pieces %q", pieces)
		}
	})
}

// A packet is sent twice however it comes, and whichever of its bytes is meant.
func TestDuplicate(t *testing.T) {
	first, second, third := message(t, 3), message(t, 9), message(t, 200)
	want := bytes.Join([][]byte{first, second, second, third}, nil)
	stream := bytes.Join([][]byte{first, second, third}, nil)
	for at := range len(second) {
		b := listen(t, Script(Step{0, Up, Fault{Kind: Duplicate, At: int64(len(first) + at)}}))
		client, broker := b.pair()
		send(t, client, stream[:2*at])
		get(t, broker, min(2*at, len(first)))
		send(t, client, stream[2*at:])
		client.CloseWrite()
		rest := all(t, broker)
		if got := append(want[:min(2*at, len(first)):min(2*at, len(first))], rest...); !bytes.Equal(got, want) {
			t.Fatalf("byte %d: came %d bytes\n%x\nwant\n%x", at, len(got), got, want)
		}
		if n := b.p.Stats().Faults[Duplicate]; n != 1 {
			t.Errorf("%d duplicates", n)
		}
		b.p.Close()
	}
}

// What is no packet passes, and is not sent twice.
func TestNoPackets(t *testing.T) {
	for _, head := range []string{"", string(message(t, 5)), string(message(t, 5)[:6])} {
		b := listen(t, Script(Step{0, Up, Fault{Kind: Duplicate, At: 30}}))
		client, broker := b.pair()
		text := head + strings.Repeat("\x00no packet at all", 5)
		send(t, client, []byte(text))
		client.CloseWrite()
		if got := all(t, broker); string(got) != text {
			t.Errorf("came %q", got)
		}
		b.p.Close()
	}
}

func TestCorrupt(t *testing.T) {
	each(t, func(t *testing.T, d Direction) {
		b := listen(t, Script(Step{0, d, Fault{Kind: Corrupt, At: 0, Mask: 1}}, Step{0, d, Fault{Kind: Corrupt, At: 7}}))
		from, to := b.ends(d)
		send(t, from, []byte("0123456789"))
		if got := get(t, to, 10); string(got) != "1123456\xC889" {
			t.Errorf("came %q", got)
		}
	})
}

func TestCutNow(t *testing.T) {
	b := listen(t, nil)
	client, broker := b.pair()
	send(t, client, []byte("x"))
	get(t, broker, 1)
	if n := b.p.Cut(); n != 1 {
		t.Errorf("cut %d connections", n)
	}
	all(t, client)
	all(t, broker)
	client, broker = b.pair()
	send(t, client, []byte("x"))
	get(t, broker, 1)
	b.p.Reset()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

// Close ends what stalls, waits and refuses.
func TestClose(t *testing.T) {
	b := listen(t, Script(
		Step{0, Up, Fault{Kind: Stall, At: 1}}, Step{0, Down, Fault{Kind: Stall}},
		Step{1, Up, Fault{Kind: Delay, At: 1, Pause: time.Hour}},
		Step{2, Up, Fault{Kind: Halve, At: 1, Size: 9, Pause: time.Hour}},
		Step{3, Up, Fault{Kind: Refuse, At: 1, Pause: time.Hour}}))
	for range 4 {
		client, broker := b.pair()
		send(t, client, []byte("0123456789"))
		get(t, broker, 1)
	}
	start := time.Now()
	b.p.Close()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("close took %v", d)
	}
}

func TestNoBroker(t *testing.T) {
	b := listen(t, nil)
	b.ln.Close()
	c, err := net.Dial("tcp", strings.TrimPrefix(b.p.URL(), "tcp://"))
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	b.p.Close()
	if s := b.p.Stats(); len(s.Errors) != 1 {
		t.Errorf("errors are %v", s.Errors)
	}
	b.p.stats.Errors = nil
}

func TestSeeded(t *testing.T) {
	m := Mix{Kinds: []Kind{Cut, Reset, Refuse, Delay, Stall, Halve, Duplicate, Corrupt}, Every: 1000, Pause: time.Second, Spare: 30}
	plan, again, other := Seeded(1, m), Seeded(1, m), Seeded(2, m)
	kinds := map[Kind]int{}
	same, faults, bytes := 0, 0, int64(0)
	for conn := range 200 {
		for _, d := range []Direction{Up, Down} {
			last := int64(-1)
			for at := int64(0); at < 20_000; {
				f := plan(conn, d, at)
				if f.At < at || f.At < m.Spare || f.At <= last || f.Pause > m.Pause {
					t.Fatalf("connection %d %v from %d: %+v", conn, d, at, f)
				}
				if again(conn, d, at) != f || plan(conn, d, f.At) != f {
					t.Fatalf("connection %d %v from %d: another answer", conn, d, at)
				}
				if other(conn, d, at) == f {
					same++
				}
				kinds[f.Kind]++
				faults++
				at, last = f.At+1, f.At
			}
			bytes += 20_000
		}
	}
	if len(kinds) != len(m.Kinds) {
		t.Errorf("kinds are %v", kinds)
	}
	if same > faults/20 {
		t.Errorf("%d of %d faults are the same with another seed", same, faults)
	}
	if mean := bytes / int64(faults); mean < m.Every/4 || mean > m.Every*4 {
		t.Errorf("one fault in %d bytes, want about %d", mean, m.Every)
	}
	if f := Seeded(1, Mix{})(0, Up, 0); f.Kind != None {
		t.Errorf("nothing is to happen, and %+v does", f)
	}
}
