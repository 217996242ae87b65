//go:build linux

package bench

import (
	"bufio"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// retainer is a broker with retained messages: it sends all of them to who subscribes to "#", and others to who has
// their very topic.
type retainer struct {
	addr  netip.AddrPort
	spoil func(all [][]byte) [][]byte // what leaves instead of the retained messages

	mu   sync.Mutex
	all  [][]byte
	subs map[string]net.Conn
}

func startRetainer(t *testing.T) *retainer {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &retainer{addr: l.Addr().(*net.TCPAddr).AddrPort(), subs: map[string]net.Conn{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				for {
					b, err := readPacket(r)
					if err != nil {
						return
					}
					k.mu.Lock()
					k.handle(c, b)
					k.mu.Unlock()
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return k
}

func (k *retainer) handle(c net.Conn, b []byte) {
	_, hdr, _ := frame(b)
	switch b[0] & 0xf0 {
	case connect:
		_, _ = c.Write([]byte{connack, 2, 0, 0})
	case subscribe:
		filter := string(b[hdr+4 : len(b)-1])
		_, _ = c.Write([]byte{suback, 3, b[hdr], b[hdr+1], 0})
		if filter != "#" {
			k.subs[filter] = c
			return
		}
		all := slices.Clone(k.all)
		if k.spoil != nil {
			all = k.spoil(all)
		}
		_, _ = c.Write(slices.Concat(all...))
	case publish:
		at := hdr + 2 + int(b[hdr+1])
		if b[0]&1 == 0 {
			if to := k.subs[string(b[hdr+2:at])]; to != nil {
				_, _ = to.Write(b)
			}
			return
		}
		k.all = append(k.all, b)
		_, _ = c.Write(appendAck(nil, puback, id(b, at)))
	}
}

func TestRetaining(t *testing.T) {
	for _, c := range []struct {
		what  string
		spoil func(all [][]byte) [][]byte
		text  string // of the error; "": none
	}{
		{what: "all"},
		{what: "a loss", spoil: func(all [][]byte) [][]byte { return all[:len(all)-1] }, text: "299 of 300 retained messages have arrived"},
		{what: "a copy", spoil: func(all [][]byte) [][]byte { return append(all, all[7])[1:] }, text: "retained message 7 came twice"},
	} {
		t.Run(c.what, func(t *testing.T) {
			k := startRetainer(t)
			k.mu.Lock()
			k.spoil = c.spoil
			k.mu.Unlock()
			r, err := newRetaining(Load{Version: v311, QoS: 1, Payload: 32, Window: 10, Total: 300})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(r.close)
			const stall = 300 * time.Millisecond
			if r.filler.c, err = r.join(k.addr, whoFiller, 10*stall); err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{3, 300} {
				err := r.fill(n, 10*stall)
				k.mu.Lock()
				had := len(k.all)
				k.mu.Unlock()
				if err != nil || had != n {
					t.Fatalf("%d are retained, %v", had, err)
				}
			}
			x := &trial{p: &process{addr: k.addr}, t: Timing{Measure: 50 * time.Millisecond, Stall: stall}, got: map[string]float64{}}
			x.p.run.Store(&running{cmd: &exec.Cmd{Process: self(t)}})
			err = x.late(r)
			if c.text == "" && err != nil || c.text != "" && (err == nil || !strings.Contains(err.Error(), c.text)) {
				t.Fatalf("got error %v, want one with %q", err, c.text)
			}
			if c.text == "" && (r.had != 300 || x.got["alone"] <= 0 || x.got["beside"] <= 0 || r.arrived == 0) {
				t.Errorf("%d arrived, %d live ones, %v", r.had, r.arrived, x.got)
			}
		})
	}
}
