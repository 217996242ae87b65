package broker

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/disk"
	"github.com/myelin-mqtt/myelin/packet"
)

// million is how many sessions or retained messages the tests of memory hold:
// MYELIN_MEMORY; without it they do not run. They need the Go command and a
// few hundred MB of disk.
func million(t *testing.T) int {
	n, _ := strconv.Atoi(os.Getenv("MYELIN_MEMORY"))
	if n == 0 {
		t.Skip("MYELIN_MEMORY is not set")
	}
	return n
}

// TestMemorySessions: offline sessions with a subscription each, restarted by
// the real program.
func TestMemorySessions(t *testing.T) {
	n := million(t)
	for _, x := range []struct {
		name   string
		filter string
		expiry uint32
	}{
		{"exact", "site/%d/dev/%d/cmd", neverExpires},
		{"wildcard", "site/%d/dev/%d/#", neverExpires},
		{"expiring", "site/%d/dev/%d/cmd", 7 * 86400},
	} {
		t.Run(x.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			storeSessions(t, dir, n, func(i int) string { return fmt.Sprintf(x.filter, i%1000, i) }, x.expiry)
			p := serveProgram(t, dir)
			t.Logf("%d sessions: listening after %v and %.1f s of CPU, resident %d MB, at most %d MB until then", n, p.took.Round(10*time.Millisecond), float64(p.ticks())/100, p.status("VmRSS"), p.status("VmHWM"))
			p.rest()
			live := p.heap()
			t.Logf("at rest: resident %d MB, at most %d MB; live heap %d MB, %.0f bytes a session", p.status("VmRSS"), p.status("VmHWM"), live>>20, float64(live)/float64(n))
			if n < 1e6 {
				return
			}
			if got := p.status("VmRSS"); got > 400 {
				t.Errorf("%d MB resident, want at most 400", got)
			}
			if p.took > 5*time.Second {
				t.Errorf("listening after %v, want at most 5 s", p.took)
			}
		})
	}
}

// storeSessions makes a data directory with n sessions that are not connected.
func storeSessions(t *testing.T, dir string, n int, filter func(i int) string, expiry uint32) {
	t.Helper()
	e, err := disk.Open(disk.Options{Dir: dir, Durability: disk.Async})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	room := make(chan struct{}, 10000)
	for i := range n {
		room <- struct{}{}
		wg.Add(1)
		c := &enter{filter: filter(i), expiry: expiry, done: func() { <-room; wg.Done() }}
		e.Claim(store.ClaimReq{ClientID: fmt.Sprintf("device-%07d", i), Expiry: expiry}, c)
	}
	wg.Wait()
	closeEngine(t, e)
}

func closeEngine(t *testing.T, e store.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// enter subscribes and leaves as soon as its session is there.
type enter struct {
	filter string
	expiry uint32
	s      store.Session
	done   func()
}

func (c *enter) Claimed(s store.Session, _ *store.State, err error) {
	if err != nil {
		panic(err)
	}
	c.s = s
	if s.Subscribe([]store.Sub{{Filter: c.filter, Options: 1}}, c, 0) {
		c.Done(0, nil)
	}
}

func (c *enter) Ready() {}

func (c *enter) Done(_ uint64, err error) {
	if err != nil {
		panic(err)
	}
	c.s.Detach(c.expiry, false, nil, 0)
	c.done()
}

// program is the real program on a data directory.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	took  time.Duration // from its start to its first listener
	addr  string
	pprof string
}

// serveProgram starts the program, and ends it with the test.
func serveProgram(t *testing.T, dir string, flags ...string) *program {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "myelin")
	if out, err := exec.Command("go", "build", "-o", bin, "../cmd/myelin").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	p := &program{t: t, pprof: "127.0.0.1:" + freePort(t)}
	args := append([]string{"serve", "--data", dir, "--listen", "tcp://127.0.0.1:0", "--pprof", p.pprof}, flags...)
	p.cmd = exec.Command(bin, args...)
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MYELIN_") })
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		wg.Wait()
		p.cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for p.addr == "" && lines.Scan() {
		t.Log(lines.Text())
		if _, url, ok := strings.Cut(lines.Text(), "msg=listening url=tcp://"); ok {
			p.addr, p.took = url, time.Since(started)
		}
	}
	if p.addr == "" {
		t.Fatal("the program does not listen")
	}
	wg.Go(func() { io.Copy(io.Discard, out) })
	return p
}

func freePort(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// status is a size that the kernel knows of the program, in MB.
func (p *program) status(key string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, key+":"); ok {
			kb, _ := strconv.Atoi(strings.Fields(v)[0])
			return kb >> 10
		}
	}
	p.t.Fatalf("no %s", key)
	return 0
}

// ticks is the processor time that the program has used, in hundredths of a
// second.
func (p *program) ticks() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	sys, _ := strconv.Atoi(f[12])
	return user + sys
}

// rest waits until the program does next to nothing.
func (p *program) rest() {
	for last, quiet := p.ticks(), 0; quiet < 3; {
		time.Sleep(time.Second)
		now := p.ticks()
		if quiet++; now-last > 5 {
			quiet = 0
		}
		last = now
	}
}

// heap is the live heap after a collection; MYELIN_HEAP names a file for its
// profile.
func (p *program) heap() int {
	get := func(query string) []byte {
		r, err := http.Get("http://" + p.pprof + "/debug/pprof/heap" + query)
		if err != nil {
			p.t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			p.t.Fatal(err)
		}
		http.DefaultClient.CloseIdleConnections()
		return b
	}
	profile := get("?gc=1")
	if out := os.Getenv("MYELIN_HEAP"); out != "" {
		if err := os.WriteFile(out, profile, 0o600); err != nil {
			p.t.Error(err)
		}
	}
	for line := range strings.Lines(string(get("?debug=1&gc=1"))) {
		if v, ok := strings.CutPrefix(line, "# HeapAlloc = "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(v))
			return n
		}
	}
	p.t.Fatal("the profile does not tell the size of the heap")
	return 0
}

// TestMemoryRetained: retained messages, as the program reads them from the
// disk; all of them to one subscriber, while others talk.
func TestMemoryRetained(t *testing.T) {
	n := million(t)
	dir := filepath.Join(t.TempDir(), "data")
	empty := serveProgram(t, filepath.Join(t.TempDir(), "empty"))
	empty.rest()
	base := empty.heap()
	empty.cmd.Process.Kill()
	payload := storeRetained(t, dir, n)
	p := serveProgram(t, dir)
	t.Logf("%d retained messages: listening after %v, resident %d MB, at most %d MB until then", n, p.took.Round(10*time.Millisecond), p.status("VmRSS"), p.status("VmHWM"))
	p.rest()
	beyond := float64(p.heap()-base-payload) / float64(n)
	t.Logf("at rest: resident %d MB, %.0f bytes of heap each beyond the payload", p.status("VmRSS"), beyond)
	if beyond > 300 {
		t.Errorf("%.0f bytes each beyond the payload, want at most 300", beyond)
	}
	for _, q := range []packet.QoS{0, 1} {
		before := p.talk(3*time.Second, nil)
		all := make(chan struct{})
		var took time.Duration
		var got int
		go func() {
			defer close(all)
			started := time.Now()
			got = p.collect(n, q)
			took = time.Since(started)
		}()
		during := p.talk(0, all)
		t.Logf("QoS %d: %d of %d by # in %v; median latency %v before (%d messages), %v meanwhile (%d)",
			q, got, n, took.Round(time.Millisecond), median(before), len(before), median(during), len(during))
		if got != n {
			t.Errorf("QoS %d: %d retained messages came, want %d", q, got, n)
		}
		if median(during) > 2*median(before) {
			t.Errorf("QoS %d: the median latency went from %v to %v", q, median(before), median(during))
		}
	}
	t.Logf("afterwards: resident %d MB", p.status("VmRSS"))
}

func storeRetained(t *testing.T, dir string, n int) (payload int) {
	t.Helper()
	e, err := disk.Open(disk.Options{Dir: dir, Durability: disk.Async})
	if err != nil {
		t.Fatal(err)
	}
	room := make(chan struct{}, 10000)
	for i := range n {
		m, err := packet.NewPublish(&packet.Message{
			Topic: fmt.Sprintf("site/%d/dev/%d/temp", i%1000, i), Payload: []byte(fmt.Sprintf("%032d", i)), QoS: 1, Retain: true,
		}, uint32(time.Now().Unix()))
		if err != nil {
			t.Fatal(err)
		}
		room <- struct{}{}
		payload += 32
		if done, err := e.Publish(m, nil, store.Inbound{}, roomFor(room), 0); err != nil {
			t.Fatal(err)
		} else if done {
			<-room
		}
	}
	closeEngine(t, e)
	return payload
}

type roomFor chan struct{}

func (c roomFor) Done(uint64, error) { <-c }

// link connects to the program.
func (p *program) link(id string, filter string, q packet.QoS) net.Conn {
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Error(err)
		return nil
	}
	u := packet.Connect{Version: packet.V311, ClientID: id, CleanStart: true}
	b := u.Append(nil, packet.V311)
	if filter != "" {
		s := packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: filter, Options: packet.SubOptions(q)}}}
		b = s.Append(b, packet.V311)
	}
	if _, err := c.Write(b); err != nil {
		p.t.Error(err)
	}
	return c
}

// frames reads packets until f is satisfied.
func (p *program) frames(c net.Conn, f func(b []byte, hdr int) bool) {
	c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		n, hdr := 0, 0
		for n == 0 {
			b, err := r.Peek(max(1, min(r.Buffered(), 1024)))
			if err == nil {
				n, hdr, err = packet.Frame(b, 1<<20)
			}
			if err == nil && n == 0 {
				_, err = r.Peek(len(b) + 1)
			}
			if err != nil {
				p.t.Error(err)
				return
			}
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			p.t.Error(err)
			return
		}
		if f(b, hdr) {
			return
		}
	}
}

// collect subscribes to # and counts the retained messages.
func (p *program) collect(n int, q packet.QoS) int {
	c := p.link("all-"+strconv.Itoa(int(q)), "#", q)
	defer c.Close()
	got := 0
	seen := make(map[string]bool, n)
	var acks []byte
	p.frames(c, func(b []byte, hdr int) bool {
		var m packet.Publish
		if packet.FrameType(b) != packet.PUBLISH || m.Parse(b, hdr, packet.V311) != nil || !m.Retain() {
			return false
		}
		if m.QoS() == 1 {
			if acks = packet.AppendAck(acks, packet.PUBACK, packet.V311, m.ID, packet.Success); len(acks) >= 64 {
				c.Write(acks)
				acks = acks[:0]
			}
		}
		if name := string(m.Topic()); !seen[name] {
			seen[name] = true
			got++
		}
		return got == n
	})
	return got
}

// talk sends a message of QoS 0 each millisecond, and tells how long each took
// to its subscriber.
func (p *program) talk(d time.Duration, until chan struct{}) []time.Duration {
	sub, pub := p.link("hears", "live/x", 0), p.link("says", "", 0)
	defer sub.Close()
	defer pub.Close()
	base := time.Now()
	var took []time.Duration
	ready, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		p.frames(sub, func(b []byte, hdr int) bool {
			var m packet.Publish
			switch packet.FrameType(b) {
			case packet.SUBACK:
				close(ready)
			case packet.PUBLISH:
				if m.Parse(b, hdr, packet.V311) != nil || len(m.Payload()) != 8 {
					return true
				}
				took = append(took, time.Since(base)-time.Duration(binary.BigEndian.Uint64(m.Payload())))
			}
			return false
		})
	}()
	<-ready
	send := func(payload []byte) {
		m, _ := packet.NewPublish(&packet.Message{Topic: "live/x", Payload: payload}, 0)
		pub.Write(packet.AppendPublish(nil, m, packet.V311, packet.PublishOpts{}))
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	if until == nil {
		until = make(chan struct{})
		time.AfterFunc(d, func() { close(until) })
	}
	for going := true; going; {
		select {
		case <-until:
			going = false
		case <-tick.C:
			send(binary.BigEndian.AppendUint64(nil, uint64(time.Since(base))))
		}
	}
	send(nil)
	<-over
	return took
}

func median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
