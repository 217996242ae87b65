package broker

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/internal/store"
	"github.com/myelin-mqtt/myelin/internal/store/storetest"
	"github.com/myelin-mqtt/myelin/packet"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected output of testdata/script")

// TestScripts runs testdata/script/*.txt: a line that begins with a letter is
// a command, lines that begin with two blanks are what the clients received
// after it, and the rest is comment. The commands are the methods of script.
func TestScripts(t *testing.T) {
	atOnce(t)
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			each(t, func(t *testing.T, io string) { runScript(t, file, io, 0) })
			for seed := range uint64(5) {
				t.Run(fmt.Sprint("late", seed), func(t *testing.T) { runScript(t, file, "goroutine", seed+1) })
			}
		})
	}
}

// runScript runs one script. Where seed is not 0, the store answers everything
// late and in random order, and what a client receives after a command may
// come in another order.
func runScript(t *testing.T, file, io string, seed uint64) {
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, peers: map[string]*peer{}, o: Options{IO: io, SysInterval: -1, TopicAliasOutbound: -1}}
	if seed != 0 {
		s.o.wrapStore = func(e store.Engine) store.Engine {
			s.late = storetest.Async(e, seed)
			return s.late
		}
	}
	var got bytes.Buffer
	for n, line := range strings.Split(strings.TrimSuffix(string(want), "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		fmt.Fprintln(&got, line)
		if line == "" || !(line[0] >= 'a' && line[0] <= 'z') {
			continue
		}
		s.line = fmt.Sprintf("%s:%d: %s", file, n+1, line)
		s.do(strings.Fields(line))
		for _, l := range s.settle() {
			fmt.Fprintln(&got, "  "+l)
		}
	}
	if seed != 0 {
		if a, b := sorted(got.String()), sorted(string(want)); a != b {
			t.Errorf("%s, seed %d: got\n%s\nwant\n%s", file, seed, a, b)
		}
		return
	}
	if *rewrite {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got.Bytes(), want)
	}
}

// sorted sorts what was received after each command.
func sorted(script string) string {
	lines := strings.Split(script, "\n")
	for i := 0; i < len(lines); {
		j := i
		for j < len(lines) && strings.HasPrefix(lines[j], "  ") {
			j++
		}
		slices.Sort(lines[i:j])
		i = max(j, i+1)
	}
	return strings.Join(lines, "\n")
}

// script is a broker with named clients.
type script struct {
	t     *testing.T
	line  string
	o     Options
	b     *running
	peers map[string]*peer
	order []string
	late  *storetest.Engine // nil: the store answers at once
}

func (s *script) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s: %s", s.line, fmt.Sprintf(format, args...))
}

// words are the arguments of a command: plain ones, and key=value.
type words struct {
	s     *script
	plain []string
	named map[string]string
}

func (s *script) words(in []string) *words {
	w := &words{s: s, named: map[string]string{}}
	for _, x := range in {
		if k, v, ok := strings.Cut(x, "="); ok {
			w.named[k] = v
		} else {
			w.plain = append(w.plain, x)
		}
	}
	return w
}

func (w *words) num(name string, or int) int {
	v, ok := w.named[name]
	if !ok {
		return or
	}
	n, err := strconv.ParseUint(v, 0, 32)
	if err != nil {
		w.s.fatalf("%s: %v", name, err)
	}
	return int(n)
}

func (w *words) has(flag string) bool { return slices.Contains(w.plain, flag) }

// do runs one command.
func (s *script) do(f []string) {
	w := s.words(f[1:])
	if f[0] == "options" {
		s.options(w)
		return
	}
	if s.b == nil {
		s.b = start(s.t, s.o)
		s.b.stopped.Store(time.Now().UnixNano())
	}
	if f[0] == "advance" {
		d, err := time.ParseDuration(w.plain[0])
		if err != nil {
			s.fatalf("%v", err)
		}
		s.advance(d)
		return
	}
	name := w.plain[0]
	w.plain = w.plain[1:]
	if f[0] == "connect" {
		s.connect(name, w)
		return
	}
	p := s.peers[name]
	if p == nil {
		s.fatalf("%s is not connected", name)
	}
	code := packet.Reason(w.num("code", 0))
	id := uint16(w.num("id", 1))
	switch f[0] {
	case "publish":
		s.publish(p, w)
	case "subscribe":
		x := &packet.Subscribe{ID: id, SubID: uint32(w.num("sub", 0))}
		o := packet.SubOptions(w.num("q", 0) | w.num("handling", 0)<<packet.RetainHandlingShift)
		if _, ok := w.named["nolocal"]; ok {
			o |= packet.NoLocal
		}
		if _, ok := w.named["published"]; ok {
			o |= packet.RetainAsPublished
		}
		for _, filter := range w.plain {
			x.Filters = append(x.Filters, packet.Subscription{Filter: filter, Options: o})
		}
		p.send(x)
	case "unsubscribe":
		p.send(&packet.Unsubscribe{ID: id, Filters: w.plain})
	case "puback":
		p.send(&packet.Ack{Kind: packet.PUBACK, ID: id, Code: code})
	case "pubrec":
		p.send(&packet.Ack{Kind: packet.PUBREC, ID: id, Code: code})
	case "pubrel":
		p.send(&packet.Ack{Kind: packet.PUBREL, ID: id, Code: code})
	case "pubcomp":
		p.send(&packet.Ack{Kind: packet.PUBCOMP, ID: id, Code: code})
	case "disconnect":
		d := &packet.Disconnect{Code: code}
		if _, ok := w.named["expiry"]; ok {
			d.SessionExpiry, d.HasSessionExpiry = uint32(w.num("expiry", 0)), true
		}
		p.send(d)
	case "drop":
		p.c.Close()
		delete(s.peers, name)
		s.t.Helper()
		s.left()
	case "raw":
		b, err := hex.DecodeString(strings.Join(w.plain, ""))
		if err != nil {
			s.fatalf("%v", err)
		}
		p.raw(b)
	case "kick":
		if !s.b.Disconnect(name, code) {
			s.fatalf("not connected")
		}
	default:
		s.fatalf("no such command")
	}
}

// left waits until the broker knows of no more connections than there are peers.
func (s *script) left() {
	eventually(s.t, "connection gone", func() bool { return s.b.Stats().Connected <= int64(len(s.peers)) })
}

func (s *script) options(w *words) {
	o := &s.o
	o.Queue.MaxMessages = w.num("queue", 0)
	o.MaxInflight = uint16(w.num("inflight", 0))
	o.ReceiveMaximum = uint16(w.num("receive", 0))
	o.TopicAliasOutbound = w.num("alias", 0) - 1
	o.MaxKeepAlive = uint16(w.num("alive", 0))
	o.MaxSessionExpiry = uint32(w.num("expiry", 0))
	o.MaxPacketSize = w.num("size", 0)
	o.ResponseInformation = w.named["response"]
	o.Queue.QoS0 = w.has("qos0")
	o.Retain.Disabled = w.has("noretain")
	switch w.named["policy"] {
	case "refuse":
		o.Queue.Policy = Refuse
	case "new":
		o.Queue.Policy = DropNew
	}
}

func (s *script) connect(name string, w *words) {
	c := packet.Connect{Version: packet.Version(w.num("v", 5)), ClientID: name, CleanStart: w.has("clean"), RequestProblemInfo: !w.has("noproblem"),
		KeepAlive: uint16(w.num("alive", 0)), SessionExpiry: uint32(w.num("expiry", 0)), ReceiveMax: uint16(w.num("rm", 0)),
		MaxPacket: uint32(w.num("max", 0)), AliasMax: uint16(w.num("alias", 0)), RequestResponseInfo: w.has("response")}
	if id, ok := w.named["as"]; ok {
		c.ClientID = id
	}
	if m, ok := w.named["method"]; ok {
		c.AuthMethod, c.HasAuthMethod = m, true
	}
	if topic, ok := w.named["will"]; ok {
		c.Will = &packet.Will{Message: packet.Message{Topic: topic, Payload: []byte(w.named["p"]), QoS: packet.QoS(w.num("wq", 0)), Retain: w.has("wretain")},
			Delay: uint32(w.num("delay", 0))}
	}
	p := s.b.dial(c.Version)
	if old := s.peers[name]; old == nil {
		s.order = append(s.order, name)
	} else {
		s.peers["old "+name] = old
		s.order = append(s.order, "old "+name)
	}
	s.peers[name] = p
	p.send(&c)
}

func (s *script) publish(p *peer, w *words) {
	q := packet.QoS(w.num("q", 0))
	m := packet.Message{Topic: w.plain[0], QoS: q, Retain: w.has("retain"), Payload: []byte(w.named["p"])}
	if _, ok := w.named["expiry"]; ok {
		m.Expiry, m.HasExpiry = uint32(w.num("expiry", 0)), true
	}
	if v, ok := w.named["user"]; ok {
		for _, kv := range strings.Split(v, ",") {
			m.User = append(m.User, packet.UserProperty{Key: kv, Value: kv})
		}
	}
	x, err := packet.NewPublish(&m, 0)
	if err != nil {
		s.fatalf("%v", err)
	}
	o := packet.PublishOpts{QoS: q, Retain: m.Retain, Dup: w.has("dup"), Alias: uint16(w.num("alias", 0)), OmitTopic: w.has("omit"), Expiry: m.Expiry}
	if q > 0 {
		o.ID = uint16(w.num("id", 1))
	}
	if n := w.num("sub", 0); n > 0 {
		o.SubIDs = []uint32{uint32(n)}
	}
	p.raw(packet.AppendPublish(nil, x, p.v, o))
}

// advance moves the broker's clock, and does what is due.
func (s *script) advance(d time.Duration) {
	b := s.b.Broker
	b.stopped.Add(int64(d))
	b.look()
	for {
		x, _ := b.expirer.next(b.clock())
		if x == nil {
			return
		}
		b.expire(x)
	}
}

// settle waits until nothing is on its way any more, and returns what the
// clients received. Loops wake each other, so a ping alone proves nothing: no
// connection may have word waiting for it, before a round of pings and after.
func (s *script) settle() (out []string) {
	got := map[string][]string{}
	for round := 0; ; round++ {
		eventually(s.t, "quiet", s.quiet)
		if news := s.ping(got); round > 0 && !news && s.quiet() {
			break
		}
	}
	for _, name := range s.order {
		out = append(out, got[name]...)
	}
	s.order = slices.DeleteFunc(s.order, func(name string) bool { return s.peers[name] == nil })
	return out
}

// quiet tells whether nothing is on its way within the broker.
func (s *script) quiet() bool {
	return s.b == nil || (s.late == nil || s.late.Idle()) && s.b.quiet()
}

// ping has every client answered, and notes what came before the answers.
func (s *script) ping(got map[string][]string) (news bool) {
	for _, name := range s.order {
		p := s.peers[name]
		if p == nil {
			continue
		}
		p.c.Write((&packet.Pingreq{}).Append(nil, p.v))
		for {
			x, err := p.read()
			if err != nil {
				got[name] = append(got[name], name+": "+err.Error())
				delete(s.peers, name)
				p.c.Close()
				s.left()
				news = true
				break
			}
			if x.Type() == packet.PINGRESP {
				break
			}
			got[name] = append(got[name], name+": "+describe(x))
			news = true
		}
	}
	return news
}

// describe is the packet with a PUBLISH's payload.
func describe(x packet.Packet) string {
	if p, ok := x.(*packet.Publish); ok && len(p.Payload()) > 0 {
		return fmt.Sprintf("%v %q", x, p.Payload())
	}
	if a, ok := x.(*packet.Connack); ok && a.AssignedClientID != "" {
		a.AssignedClientID = "*"
	}
	return fmt.Sprint(x)
}
