package diskfull

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/packet"
)

// patience is how long the test waits for what must come.
const patience = 60 * time.Second

// program is a running broker.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	addr  string
	lines chan string // of its log
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "myelin")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/myelin-mqtt/myelin/cmd/myelin").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// serve starts the program, and waits until it listens.
func serve(t *testing.T, bin, data string) *program {
	t.Helper()
	cmd := exec.Command(bin, "serve", "--listen", "tcp://127.0.0.1:0", "--data", data, "--sys-interval", "1s")
	cmd.Env = append(os.Environ(), "MYELIN_QUEUE_MAX_MESSAGES=0", "MYELIN_QUEUE_MAX_BYTES=0")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: cmd, lines: make(chan string, 100_000)}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	go func() {
		defer close(p.lines)
		for r := bufio.NewScanner(out); r.Scan(); {
			p.lines <- r.Text()
		}
	}()
	_, url, _ := strings.Cut(p.says("msg=listening"), "url=tcp://")
	p.addr = strings.TrimSpace(url)
	return p
}

// says waits for a line of the log.
func (p *program) says(what string) string {
	p.t.Helper()
	end := time.After(patience)
	for {
		select {
		case l, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("the program ended before it said %q", what)
			}
			if strings.Contains(l, what) {
				return l
			}
		case <-end:
			p.t.Fatalf("the program does not say %q", what)
		}
	}
}

type client struct {
	t   *testing.T
	c   net.Conn
	v   packet.Version
	buf []byte
}

func (p *program) connect(v packet.Version, id string, clean bool) *client {
	p.t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	x := &client{t: p.t, c: c, v: v}
	x.send(&packet.Connect{Version: v, ClientID: id, CleanStart: clean, SessionExpiry: 1000})
	if a, ok := x.next().(*packet.Connack); !ok || a.Code != packet.Success {
		p.t.Fatalf("%s: got %v", id, a)
	}
	return x
}

func (x *client) send(all ...packet.Packet) {
	x.t.Helper()
	var b []byte
	for _, k := range all {
		b = k.Append(b, x.v)
	}
	if _, err := x.c.Write(b); err != nil {
		x.t.Fatal(err)
	}
}

// read is the next packet.
func (x *client) read() (packet.Packet, error) {
	chunk := make([]byte, 64<<10)
	for {
		k, n, err := packet.Parse(x.buf, 0, x.v)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			x.buf = x.buf[n:]
			return k, nil
		}
		x.c.SetReadDeadline(time.Now().Add(patience))
		got, err := x.c.Read(chunk)
		x.buf = append(x.buf, chunk[:got]...)
		if got == 0 && err != nil {
			return nil, err
		}
	}
}

func (x *client) next() packet.Packet {
	x.t.Helper()
	k, err := x.read()
	if err != nil {
		x.t.Fatal(err)
	}
	return k
}

// publish sends a message of QoS 1 and gives the code of its PUBACK.
func (x *client) publish(text string) packet.Reason {
	x.t.Helper()
	x.message(text, 1)
	a, ok := x.next().(*packet.Ack)
	if !ok {
		x.t.Fatalf("got %v", a)
	}
	return a.Code
}

func (x *client) message(text string, q packet.QoS) {
	x.t.Helper()
	m, err := packet.NewPublish(&packet.Message{Topic: "a", Payload: []byte(text), QoS: q}, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := x.c.Write(packet.AppendPublish(nil, m, x.v, packet.PublishOpts{QoS: q, ID: 7 * uint16(q)})); err != nil {
		x.t.Fatal(err)
	}
}

// drain takes n messages, and expects them in order from the first number on.
func (x *client) drain(first, n int) {
	x.t.Helper()
	for i := first; i < first+n; i++ {
		m, ok := x.next().(*packet.Publish)
		if want := fmt.Sprint(i, " "); !ok || !strings.HasPrefix(string(m.Payload()), want) {
			x.t.Fatalf("got %.20v, want message %s", m, want)
		}
		x.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
	}
}

// TestSmallDisk fills a disk of 256 MiB with messages, and then with another
// file to the last byte; the messages are taken, and there is room again. At the
// end the program is killed, and everything that it acknowledged is there.
func TestSmallDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a while")
	}
	disk := t.TempDir()
	if err := syscall.Mount("none", disk, "tmpfs", 0, "size=256m"); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := exec.Command("sh", "-c", "df "+disk+"; du -k "+disk+"/data/*").CombinedOutput()
			t.Logf("the disk:\n%s", out)
		}
		syscall.Unmount(disk, syscall.MNT_DETACH)
	})
	bin, data := build(t), filepath.Join(disk, "data")
	p := serve(t, bin, data)
	s := p.connect(packet.V5, "s", false)
	s.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a", Options: 1}}})
	s.next()
	s.c.Close()
	live := p.connect(packet.V5, "live", true)
	live.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a"}}})
	live.next()
	unsubscribe := func() {
		live.send(&packet.Unsubscribe{ID: 1, Filters: []string{"a"}})
		for {
			if _, ok := live.next().(*packet.Unsuback); ok {
				return
			}
		}
	}
	unsubscribe()

	pub, acked, code := p.connect(packet.V5, "pub", true), 0, packet.Success
	for ; code == packet.Success; acked++ {
		noise := make([]byte, 16<<10) // which no compression makes smaller
		rand.NewChaCha8([32]byte{byte(acked), byte(acked >> 8)}).Read(noise)
		code = pub.publish(fmt.Sprint(acked, " ") + string(noise))
	}
	acked-- // the last was refused
	if code != packet.QuotaExceeded {
		t.Fatalf("PUBACK %v", code)
	}
	t.Logf("%d messages of 16 KiB fit", acked)
	p.says("disk is full")
	old := p.connect(packet.V311, "old", true)
	old.message("x", 1)
	if k, err := old.read(); err != io.EOF {
		t.Errorf("3.1.1 gets %v, %v", k, err)
	}

	rest, err := os.Create(filepath.Join(disk, "rest")) // to the last byte
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(rest, zeros{})
	rest.Close()
	live.send(&packet.Subscribe{ID: 1, Filters: []packet.Subscription{{Filter: "a"}}})
	live.next()
	pub.message("zero", 0)
	if m, ok := live.next().(*packet.Publish); !ok || string(m.Payload()) != "zero" {
		t.Errorf("got %v", m)
	}
	unsubscribe()
	if code := pub.publish("x"); code != packet.QuotaExceeded {
		t.Errorf("PUBACK %v", code)
	}
	s = p.connect(packet.V5, "s", false) // in the reserve
	s.drain(0, acked/2)
	if err := os.Remove(rest.Name()); err != nil {
		t.Fatal(err)
	}
	s.drain(acked/2, acked-acked/2)
	s.c.Close()
	p.says("disk has room again") // though nobody has helped but who took the messages
	again := 0
	for ; again < 1000; again++ {
		if code := pub.publish(fmt.Sprint(again, " again")); code != packet.Success {
			t.Fatalf("PUBACK %v", code)
		}
	}
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p = serve(t, bin, data)
	s = p.connect(packet.V5, "s", false)
	n := 0
	for first := true; n < again; {
		m, ok := s.next().(*packet.Publish)
		if !ok {
			t.Fatalf("got %v", m)
		}
		s.send(&packet.Ack{Kind: packet.PUBACK, ID: m.ID})
		if strings.HasSuffix(string(m.Payload()), "again") {
			if !strings.HasPrefix(string(m.Payload()), fmt.Sprint(n, " ")) {
				t.Fatalf("got %s, want message %d", m.Payload(), n)
			}
			n++
		} else if first = first && m.Dup(); !first && n > 0 {
			t.Fatalf("%.20s comes behind the new ones", m.Payload())
		}
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
