package interop

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/myelin-mqtt/myelin/packet"
)

// The echo is a server in a process of its own that answers each packet at once, and holds nothing: it routes no
// message. One that is published to floodTopic has it send messages: how many, at which QoS, and of how many bytes is
// what the payload says.

const (
	floodTopic  = "flood"
	floodWindow = 100 // QoS 1 messages under way
	echoEnv     = "INTEROP_ECHO"
)

// echoAddr is where it listens, once startEcho was called.
var echoAddr string

// startEcho starts this test's program again, as the echo. It ends when its standard input does.
func startEcho() (stop func(), err error) {
	cmd := exec.Command(os.Args[0])
	// One processor, as it leaves the other to the client.
	cmd.Env = append(os.Environ(), echoEnv+"=1", "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("read the echo's address: %w", err)
	}
	echoAddr = strings.TrimSpace(line)
	return func() { in.Close(); _ = cmd.Wait() }, nil
}

// echoMain is the echo's process.
func echoMain() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		return 1
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go (&echo{c: c}).serve()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// echo is a connection of it.
type echo struct {
	c   net.Conn
	v   packet.Version
	out []byte

	// What is to be sent.
	left, inflight int
	qos            packet.QoS
	payload        []byte
	id             uint16
}

func (e *echo) serve() {
	defer e.c.Close()
	buf := make([]byte, 4096)
	n := 0
	for {
		k, err := e.c.Read(buf[n:])
		if n += k; err != nil {
			return
		}
		used := 0
		for {
			size, hdr, err := packet.Frame(buf[used:n], 0)
			if err != nil {
				fmt.Fprintln(os.Stderr, "echo:", err)
				return
			}
			if size == 0 {
				break
			}
			if err := e.take(buf[used:used+size], hdr); err != nil {
				fmt.Fprintln(os.Stderr, "echo:", err)
				return
			}
			used += size
		}
		n = copy(buf, buf[used:n])
		if n == len(buf) || used > len(buf)/2 && len(buf) < 64<<10 { // a client that says much
			buf = append(buf, make([]byte, max(64<<10, 2*len(buf))-len(buf))...)
		}
		for {
			e.flood()
			if len(e.out) == 0 {
				break
			}
			if _, err := e.c.Write(e.out); err != nil {
				return
			}
			e.out = e.out[:0]
		}
	}
}

// take answers a packet.
func (e *echo) take(b []byte, hdr int) error {
	switch packet.FrameType(b) {
	case packet.CONNECT:
		var p packet.Connect
		if err := p.Parse(b, hdr, 0); err != nil {
			return err
		}
		e.v = p.Version
		window := uint16(speedWindow)
		e.out = (&packet.Connack{ReceiveMax: &window}).Append(e.out, e.v)
	case packet.PUBLISH:
		var p packet.Publish
		if err := p.Parse(b, hdr, e.v); err != nil {
			return err
		}
		if p.QoS() == 1 {
			e.out = packet.AppendAck(e.out, packet.PUBACK, e.v, p.ID, packet.Success)
		}
		if string(p.Topic()) == floodTopic {
			size := 0
			if _, err := fmt.Sscan(string(p.Payload()), &e.left, &e.qos, &size); err != nil {
				return err
			}
			e.payload = make([]byte, size)
		}
	case packet.PUBACK:
		e.inflight--
	case packet.SUBSCRIBE:
		var p packet.Subscribe
		if err := p.Parse(b, hdr, e.v); err != nil {
			return err
		}
		codes := make([]packet.Reason, len(p.Filters))
		for i, f := range p.Filters {
			codes[i] = packet.Reason(f.Options & 3)
		}
		e.out = (&packet.Suback{ID: p.ID, Codes: codes}).Append(e.out, e.v)
	case packet.PINGREQ:
		e.out = (&packet.Pingresp{}).Append(e.out, e.v)
	}
	return nil
}

// flood appends what is to be sent, up to the window, and some at a time.
func (e *echo) flood() {
	m := packet.Message{Topic: speedTopic, Payload: e.payload}
	for e.left > 0 && len(e.out) < 32<<10 && (e.qos == 0 || e.inflight < floodWindow) {
		if e.qos > 0 {
			e.inflight++
			e.id = e.id%60_000 + 1
		}
		e.left--
		e.out = packet.AppendMessage(e.out, &m, e.v, packet.PublishOpts{QoS: e.qos, ID: e.id})
	}
}
