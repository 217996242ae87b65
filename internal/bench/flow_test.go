//go:build linux

package bench

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// fake is a broker of the least kind: exact filters, and "+" and shares in the way that the loads use them.
type fake struct {
	addr  netip.AddrPort
	qos   byte
	spoil func(n int, packet []byte) [][]byte // what leaves instead of delivery n; nil: as it is
	mute  bool                                // nothing is acknowledged

	mu        sync.Mutex
	subs      map[string][]io.Writer
	delivered int
	last      map[io.Writer][]byte
}

func startFake(t *testing.T, qos byte) *fake {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{addr: l.Addr().(*net.TCPAddr).AddrPort(), qos: qos, subs: map[string][]io.Writer{}, last: map[io.Writer][]byte{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				f.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return f
}

func (f *fake) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		b, err := readPacket(r)
		if err != nil {
			return
		}
		f.mu.Lock()
		f.handle(c, b)
		f.mu.Unlock()
	}
}

func readPacket(r *bufio.Reader) ([]byte, error) {
	for n := 2; ; n++ {
		head, err := r.Peek(n)
		if err != nil {
			return nil, err
		}
		if length, used, err := varint(head[1:]); err == nil {
			b := make([]byte, 1+used+length)
			_, err := io.ReadFull(r, b)
			return b, err
		}
	}
}

func (f *fake) handle(c net.Conn, b []byte) {
	_, hdr, _ := frame(b)
	switch b[0] & 0xf0 {
	case connect:
		_, _ = c.Write([]byte{connack, 2, 0, 0})
	case subscribe:
		filter := string(b[hdr+4 : len(b)-1])
		f.subs[filter] = append(f.subs[filter], c)
		_, _ = c.Write([]byte{suback, 3, b[hdr], b[hdr+1], f.qos})
	case publish:
		if !f.mute {
			switch f.qos {
			case 1:
				_, _ = c.Write(appendAck(nil, puback, f.id(b, hdr)))
			case 2:
				_, _ = c.Write(appendAck(nil, pubrec, f.id(b, hdr)))
			}
		}
		f.deliver(string(b[hdr+2:hdr+2+int(b[hdr+1])]), b)
	case pubrel:
		_, _ = c.Write(appendAck(nil, pubcomp, id(b, hdr)))
	case pubrec:
		_, _ = c.Write(appendAck(nil, pubrel|2, id(b, hdr)))
	}
}

func (f *fake) id(b []byte, hdr int) uint16 {
	at := hdr + 2 + int(b[hdr+1])
	return uint16(b[at])<<8 | uint16(b[at+1])
}

func (f *fake) deliver(topic string, b []byte) {
	parts := strings.Split(topic, "/")
	for _, filter := range []string{topic, strings.Join(parts[:len(parts)-1], "/") + "/+"} {
		for _, w := range f.subs[filter] {
			f.send(w, b)
		}
	}
	if group := f.subs["$share/bench/bench/in/#"]; len(group) > 0 {
		f.send(group[f.delivered%len(group)], b)
	}
}

func (f *fake) send(w io.Writer, b []byte) {
	out := [][]byte{b}
	if f.spoil != nil {
		out = f.spoil(f.delivered, b)
	}
	f.delivered++
	for _, p := range out {
		_, _ = w.Write(p)
	}
}

// drive runs a load against f for a short time.
func drive(t *testing.T, f *fake, l Load) (*flow, error) {
	t.Helper()
	fl, err := newFlow(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fl.close)
	stall := 300 * time.Millisecond
	if err := fl.connect(f.addr, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := fl.begin(); err != nil {
		t.Fatal(err)
	}
	fl.record = 1
	errRun := fl.run(50*time.Millisecond, 5*time.Second)
	if errRun != nil {
		return fl, errRun
	}
	return fl, fl.drain(stall)
}

func small(shape Shape, qos byte) Load {
	l := Load{Version: v311, QoS: qos, Shape: shape, Pubs: 3, Subs: 3, Payload: 64, Window: 4}
	if shape == Spread || shape == Shared {
		l.Pubs, l.Subs, l.Window = 6, 2, 1
	}
	return l
}

func TestFlow(t *testing.T) {
	for name, shape := range map[string]Shape{"pairs": Pairs, "all": All, "spread": Spread, "shared": Shared} {
		for qos := byte(0); qos <= 2; qos++ {
			t.Run(name+"-q"+string('0'+rune(qos)), func(t *testing.T) {
				f := startFake(t, qos)
				fl, err := drive(t, f, small(shape, qos))
				if err != nil {
					t.Fatal(err)
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				if fl.delivered == 0 || fl.delivered != uint64(f.delivered) {
					t.Errorf("counted %d deliveries, the broker made %d", fl.delivered, f.delivered)
				}
			})
		}
	}
}

func TestFlowFindsFaults(t *testing.T) {
	const at = 50 // enough for the windows to have gone round
	var held []byte
	for _, c := range []struct {
		what  string
		spoil func(n int, b []byte) [][]byte
		mute  bool
		want  faults
		text  string
	}{
		{what: "a loss", spoil: func(n int, b []byte) [][]byte {
			if n == at {
				return nil
			}
			return [][]byte{b}
		}, want: faults{Lost: 1}, text: "1 messages lost"},
		{what: "a copy", spoil: func(n int, b []byte) [][]byte {
			if n == at {
				return [][]byte{b, b}
			}
			return [][]byte{b}
		}, want: faults{Duplicated: 1}, text: "1 duplicated"},
		{what: "a swap", spoil: func(n int, b []byte) [][]byte {
			switch {
			case n == at:
				held = append([]byte(nil), b...)
				return nil
			case held != nil:
				h := held
				held = nil
				return [][]byte{b, h}
			}
			return [][]byte{b}
		}, want: faults{Reordered: 1}, text: "1 out of order"},
		{what: "silence", mute: true, text: "acknowledgements have not come"},
		{what: "another's message", spoil: func(n int, b []byte) [][]byte {
			if n == at {
				b = append([]byte(nil), b...)
				b[len(b)-64] = 99 // the publisher in the stamp
			}
			return [][]byte{b}
		}, text: "a message that nobody sent"},
	} {
		t.Run(c.what, func(t *testing.T) {
			f := startFake(t, 1)
			f.mu.Lock()
			f.spoil, f.mute = c.spoil, c.mute
			f.mu.Unlock()
			// One pair: what the broker holds back is then overtaken by the next of the same publisher.
			fl, err := drive(t, f, Load{Version: v311, QoS: 1, Shape: Pairs, Pubs: 1, Subs: 1, Payload: 64, Window: 4})
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got error %v, want one with %q", err, c.text)
			}
			if fl.faults != c.want {
				t.Errorf("got %+v, want %+v", fl.faults, c.want)
			}
		})
	}
}

func TestFlowPaced(t *testing.T) {
	for qos := byte(0); qos <= 1; qos++ {
		f := startFake(t, qos)
		l := small(Pairs, qos)
		l.Window, l.Rate = 0, 2000
		fl, err := drive(t, f, l)
		if err != nil {
			t.Fatal(err)
		}
		// 50 ms at 2000/s; a machine that stalls sends the rest late, but never more than is due.
		if fl.sentPaced == 0 || fl.sentPaced > uint64(fl.clock()/int64(time.Millisecond)*2+1) {
			t.Errorf("sent %d messages in %v", fl.sentPaced, time.Duration(fl.clock()))
		}
		if n := uint64(fl.hist.TotalCount()); n == 0 || n > fl.delivered {
			t.Errorf("%d latencies of %d deliveries", n, fl.delivered)
		}
	}
}

func TestLatency(t *testing.T) {
	f, err := newFlow(small(Pairs, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for i := int64(1); i <= 1000; i++ {
		if err := f.hist.RecordValue(i * 1000); err != nil {
			t.Fatal(err)
		}
	}
	l := f.latency()
	for _, c := range []struct{ got, want float64 }{{l.P50, 500}, {l.P90, 900}, {l.P99, 990}, {l.P999, 999}, {l.Max, 1000}} {
		if c.got < c.want*0.998 || c.got > c.want*1.002 {
			t.Errorf("got %v, want %v in %+v", c.got, c.want, l)
		}
	}
}

func TestHold(t *testing.T) {
	f := startFake(t, 0)
	h, err := newHold(Load{Version: v311, Conns: 70, Filters: 1, Filter: "bench/%d/%d"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for _, n := range []int{3, 70} {
		if err := h.grow(f.addr, n, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.subs) != 70 || len(f.subs["bench/69/0"]) != 1 {
		t.Errorf("the broker has %d filters", len(f.subs))
	}
}
