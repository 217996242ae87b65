//go:build linux

package bench

import (
	"bufio"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// keeper is a broker that keeps sessions: exact filters, one for each, QoS 1.
type keeper struct {
	addr  netip.AddrPort
	wg    sync.WaitGroup
	spoil func(n int, packet []byte) [][]byte // what is queued instead of message n; nil: as it is
	ack   func(id uint16) []uint16            // what is acknowledged then; nil: it

	mu       sync.Mutex
	sessions map[string]*kept // by client identifier
	messages int
}

type kept struct {
	filter string
	queue  [][]byte
	away   bool
}

func startKeeper(t *testing.T) *keeper {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{addr: l.Addr().(*net.TCPAddr).AddrPort(), sessions: map[string]*kept{}}
	k.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			k.wg.Go(func() {
				defer func() { _ = c.Close() }()
				k.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		k.wg.Wait()
	})
	return k
}

func (k *keeper) serve(c net.Conn) {
	r := bufio.NewReader(c)
	name := ""
	for {
		b, err := readPacket(r)
		if err != nil {
			return
		}
		_, hdr, _ := frame(b)
		k.mu.Lock()
		out, over := k.handle(&name, b, hdr)
		k.mu.Unlock()
		_, _ = c.Write(out)
		if over {
			return
		}
	}
}

func (k *keeper) handle(name *string, b []byte, hdr int) (out []byte, over bool) {
	switch b[0] & 0xf0 {
	case connect:
		*name = string(b[hdr+12:])
		s := k.sessions[*name]
		out = []byte{connack, 2, 0, 0}
		switch {
		case b[hdr+7]&2 != 0:
		case s == nil:
			k.sessions[*name] = new(kept)
		default:
			out[2], s.away = 1, false
			for _, m := range s.queue {
				out = append(out, m...)
			}
		}
	case subscribe:
		k.sessions[*name].filter = string(b[hdr+4 : len(b)-1])
		return []byte{suback, 3, b[hdr], b[hdr+1], 1}, false
	case publish:
		topic := string(b[hdr+2 : hdr+2+int(b[hdr+1])])
		for _, s := range k.sessions {
			if s.filter != topic || !s.away {
				continue
			}
			copies := [][]byte{b}
			if k.spoil != nil {
				copies = k.spoil(k.messages, b)
			}
			s.queue = append(s.queue, copies...)
		}
		k.messages++
		at := hdr + 2 + int(b[hdr+1])
		ids := []uint16{id(b, at)}
		if k.ack != nil {
			ids = k.ack(ids[0])
		}
		for _, id := range ids {
			out = appendAck(out, puback, id)
		}
	case disconnect:
		k.sessions[*name].away = true
		return nil, true
	}
	return out, false
}

// away publishes total messages against k, and has n sessions come back.
func away(t *testing.T, k *keeper, l Load, n int) (*offline, error) {
	t.Helper()
	o, err := newOffline(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.close)
	const stall = 5 * time.Second
	if err := o.settle(k.addr, stall); err != nil {
		t.Fatal(err)
	}
	if err := o.publishers(k.addr, stall); err != nil {
		t.Fatal(err)
	}
	o.send()
	if err := o.until(stall, func() bool { return o.acked == uint64(l.Total) }); err != nil {
		return o, err
	}
	o.abandon()
	if err := o.drain(k.addr, n, 300*time.Millisecond); err != nil {
		return o, err
	}
	return o, o.linger(10 * time.Millisecond)
}

func TestOffline(t *testing.T) {
	for name, shape := range map[string]Shape{"each": Each, "all": All} {
		t.Run(name, func(t *testing.T) {
			k := startKeeper(t)
			// More sessions than may be opened together, and a total that does not go round evenly.
			l := Load{Version: v311, QoS: 1, Shape: shape, Pubs: 3, Subs: 70, Payload: 32, Window: 4, Total: 300}
			o, err := away(t, k, l, 70)
			if err != nil {
				t.Fatal(err)
			}
			want := uint64(300)
			if shape == All {
				want *= 70
			}
			if o.arrived != want || o.present != 70 || o.missing != 0 || o.faults.any() {
				t.Errorf("%d of %d arrived at %d sessions, %d are missing, %+v", o.arrived, want, o.present, o.missing, o.faults)
			}
		})
	}
}

func TestOfflineOfSome(t *testing.T) {
	o, err := away(t, startKeeper(t), Load{Version: v311, QoS: 1, Shape: Each, Pubs: 3, Subs: 10, Payload: 32, Window: 4, Total: 300}, 4)
	if err != nil || o.arrived != 120 || o.faults.any() {
		t.Errorf("%d arrived, %+v, %v", o.arrived, o.faults, err)
	}
}

func TestOfflineFindsFaults(t *testing.T) {
	const at = 50
	var held []byte
	for _, c := range []struct {
		what  string
		spoil func(n int, b []byte) [][]byte
		ack   func(id uint16) []uint16
		want  faults
		text  string // of the error; "": none
	}{
		{what: "a loss", spoil: func(n int, b []byte) [][]byte {
			if n == at {
				return nil
			}
			return [][]byte{b}
		}, want: faults{Lost: 1}},
		{what: "a copy", spoil: func(n int, b []byte) [][]byte {
			if n == at {
				return [][]byte{b, b}
			}
			return [][]byte{b}
		}, want: faults{Duplicated: 1}, text: "1 messages duplicated"},
		{what: "a swap", spoil: func(n int, b []byte) [][]byte {
			switch {
			case n == at:
				held = b
				return nil
			case held != nil:
				h := held
				held = nil
				return [][]byte{b, h}
			}
			return [][]byte{b}
		}, want: faults{Reordered: 1}, text: "1 out of order"},
		{what: "an acknowledgement of another", ack: func(id uint16) []uint16 {
			if id == at {
				return []uint16{id + 1}
			}
			return []uint16{id}
		}, text: "when 50 was the next"},
		{what: "an acknowledgement too many", ack: func(id uint16) []uint16 { return []uint16{id, id} }, text: "an acknowledgement of 1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			k := startKeeper(t)
			k.mu.Lock()
			k.spoil, k.ack = c.spoil, c.ack
			k.mu.Unlock()
			o, err := away(t, k, Load{Version: v311, QoS: 1, Shape: Each, Pubs: 1, Subs: 1, Payload: 32, Window: 1, Total: 100}, 1)
			if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
				t.Errorf("got error %v, want one with %q", err, c.text)
			}
			if o.faults != c.want {
				t.Errorf("got %+v, want %+v", o.faults, c.want)
			}
		})
	}
}

func TestOfflineWithoutSessions(t *testing.T) {
	k := startKeeper(t)
	o, err := newOffline(Load{Version: v311, QoS: 1, Shape: Each, Pubs: 1, Subs: 3, Payload: 32, Window: 1, Total: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	// Nothing was made: to come back is to begin anew, and everything that was acknowledged is lost.
	o.pubs[0] = sender{sent: 3, acked: 3}
	from := time.Now()
	if err := o.drain(k.addr, 3, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := o.linger(time.Millisecond); err != nil || o.faults != (faults{Lost: 3}) || o.present != 0 {
		t.Errorf("got %+v, %d sessions, %v", o.faults, o.present, err)
	}
	if d := time.Since(from); d > 10*time.Second {
		t.Errorf("it waited %v for nothing", d)
	}
}

func TestAcknowledgedFor(t *testing.T) {
	o := &offline{load: Load{Subs: 7}, pubs: []sender{{acked: 20}, {acked: 3}, {acked: 0}}, stride: 7}
	for p := range o.pubs {
		want := make([]uint64, 7)
		for n := range o.pubs[p].acked {
			want[(o.offset(p)+n)%7]++
		}
		for s, w := range want {
			if got := o.acknowledgedFor(p, s); got != w {
				t.Errorf("publisher %d, session %d: got %d, want %d", p, s, got, w)
			}
		}
	}
}

// TestListener is no test: it is the program that TestKilledAndStarted starts.
func TestListener(t *testing.T) {
	addr := os.Getenv("BENCH_TEST_LISTEN")
	if addr == "" {
		t.Skip("started by another test only")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

func TestKilledAndStarted(t *testing.T) {
	b := Broker{Name: "listener", Command: func(s Setup) ([]string, error) {
		t.Setenv("BENCH_TEST_LISTEN", s.Addr.String())
		return []string{os.Args[0], "-test.run=^TestListener$"}, nil
	}}
	root := t.TempDir()
	p, err := launch(context.Background(), b, true, -1, root)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	first := p.pid()
	p.kill()
	if err := p.alive(); err == nil {
		t.Error("it lives on")
	}
	took, err := p.again(context.Background(), 10*time.Second)
	if err != nil || took <= 0 || p.pid() == first {
		t.Errorf("took %v, %v", took, err)
	}
	if err := p.alive(); err != nil {
		t.Error(err)
	}
	if n, err := p.peak(); err != nil || n == 0 {
		t.Errorf("peak %d, %v", n, err)
	}
	p.stop()
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestFigures(t *testing.T) {
	loads := []Load{{Name: "s", Title: "away", Trial: tryStore, Figures: []Figure{
		{"rate", "per second", AtLeast, 200_000}, {"cpu", "CPU", AtMost, 5}, {"lost", "lost", AtMost, 0}, {"made", "made", NoGoal, 0},
	}}}
	brokers := []Broker{{Name: product}, {Name: "other"}}
	rs := []Result{
		{Load: "s", Broker: product, Figures: map[string]float64{"rate": 300_000, "cpu": 6, "lost": 0, "made": 1}},
		{Load: "s", Broker: product, Figures: map[string]float64{"rate": 100_000, "cpu": 8, "lost": 0, "made": 1}},
		{Load: "s", Broker: "other", Figures: map[string]float64{"rate": 1000, "cpu": 6.25, "lost": 77}},
	}
	var b strings.Builder
	if err := Markdown(&b, Env{}, loads, brokers, rs); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| load | figure | myelin | other | goal for myelin |\n| --- | --- | --- | --- | --- |\n",
		"| away | per second | 300,000 (200,000) | 1,000 | at least 200,000, reached |\n",
		"| away | CPU | 6 (7) | 6.25 | at most 5, **missed** |\n",
		"| away | lost | 0 | 77 | at most 0, reached |\n",
		"| away | made | 1 | 0 | - |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing %q in\n%s", want, b.String())
		}
	}
	if s := Line(rs[0]); !strings.Contains(s, "cpu 6, lost 0, made 1, rate 300,000") {
		t.Errorf("got %q", s)
	}
}
