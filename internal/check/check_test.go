package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/packet"
)

// slow are the checks that wait for seconds to pass.
func slow() []string {
	return []string{"keep-alive", "message-expiry", "session-expiry", "will-delay"}
}

// TestOwnBroker: our broker keeps every promise, and nothing of the checks is
// left in it.
func TestOwnBroker(t *testing.T) {
	t.Parallel()
	b, address := own(t, broker.Options{})
	for _, f := range judged(t, options(t, address)) {
		if f.Status == Broken || f.Status == Unknown {
			t.Errorf("%s: %s: %s", f.Name, f.Status, f.Detail)
		}
	}
	left(t, b)
}

// left says what is left in a broker when its connections are gone.
func left(t *testing.T, b *broker.Broker) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for b.Stats().Connected > 0 && time.Now().Before(deadline) {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
	if s := b.Stats(); s.Sessions > 0 || s.Retained > 0 || s.Subscriptions > 0 {
		t.Errorf("%d sessions, %d subscriptions and %d retained messages are left", s.Sessions, s.Subscriptions, s.Retained)
	}
}

// TestOwnBrokerOtherwise: so it does over WebSocket, and with the older versions.
func TestOwnBrokerOtherwise(t *testing.T) {
	t.Parallel()
	b, tcp := own(t, broker.Options{})
	ws, err := b.Listen(broker.Listener{URL: "ws://127.0.0.1:0/mqtt"})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		address string
		version packet.Version
	}{{ws, 0}, {tcp, packet.V311}, {tcp, packet.V31}} {
		o := options(t, x.address)
		o.Version, o.Skip = x.version, slow()
		for _, f := range judged(t, o) {
			if f.Status == Broken || f.Status == Unknown {
				t.Errorf("%s, version %v: %s: %s: %s", x.address, x.version, f.Name, f.Status, f.Detail)
			}
		}
	}
	left(t, b)
}

// TestAbsent: what a server says that it has not is absent, and it is found out
// whether it holds to that.
func TestAbsent(t *testing.T) {
	_, address := own(t, broker.Options{Retain: broker.RetainOptions{Disabled: true}, TopicAliasMaximum: -1, RefuseEmptyClientID: true})
	found := judged(t, options(t, address, "retained", "retain-unavailable", "topic-alias", "alias-maximum", "client-id-empty", "connack", "will-retained"))
	for name, want := range map[string]Finding{
		"retained":           {Status: Absent, Detail: "CONNACK has Retain Available 0"},
		"will-retained":      {Status: Absent, Detail: "CONNACK has Retain Available 0"},
		"retain-handling":    {Status: Absent, Detail: "CONNACK has Retain Available 0"},
		"retain-unavailable": {Status: Kept, Detail: "DISCONNECT Retain not supported (0x9A)"},
		"topic-alias":        {Status: Absent, Detail: "CONNACK has Topic Alias Maximum 0"},
		"alias-maximum":      {Status: Kept, Detail: "0; alias 1: DISCONNECT Topic alias invalid (0x94)"},
		"client-id-empty":    {Status: Absent, Detail: "CONNACK Client identifier not valid (0x85)"},
		"connack":            {Status: Kept, Detail: "receive maximum 1024; packets up to 1 MiB; topic aliases 0; no retained messages"},
	} {
		if f := found[name]; f.Status != want.Status || f.Detail != want.Detail {
			t.Errorf("%s: got %s: %s; want %s: %s", name, f.Status, f.Detail, want.Status, want.Detail)
		}
	}
	if got := found["connack"].Values["retain_available"]; got != false {
		t.Errorf("retain_available: got %v, want false", got)
	}
}

// nobody may do anything.
type nobody struct{}

func (nobody) Access(*broker.AccessRequest, func()) broker.Decision { return broker.Deny }
func (nobody) Epoch() uint32                                        { return 0 }

// TestDenied: that access is denied is no broken promise.
func TestDenied(t *testing.T) {
	_, address := own(t, broker.Options{Authorizer: nobody{}})
	o := options(t, address)
	o.Skip = slow()
	unknown := 0
	for _, f := range judged(t, o) {
		if f.Status == Broken {
			t.Errorf("%s: %s", f.Name, f.Detail)
		}
		if f.Status == Unknown && strings.Contains(f.Detail, "Not authorized") {
			unknown++
		}
	}
	if unknown < 20 {
		t.Errorf("only %d checks tell that they are not authorised", unknown)
	}
}

type gate struct{}

func (gate) Auth(r *broker.AuthRequest, done func(broker.AuthAnswer)) {
	if r.Client.Username == "anna" && string(r.Password) == "secret" {
		done(broker.AuthAnswer{Code: packet.Success})
		return
	}
	done(broker.AuthAnswer{Code: packet.BadUserNameOrPassword, Reason: "no such user"})
}

// TestCredentials: a server that lets nobody in has no findings.
func TestCredentials(t *testing.T) {
	_, address := own(t, broker.Options{Authenticator: gate{}})
	o := options(t, address, "qos-0")
	_, err := Run(t.Context(), o, nil)
	refused, ok := errors.AsType[*RefusedError](err)
	if want := "CONNACK: Bad user name or password (0x86): no such user"; !ok || err.Error() != want {
		t.Errorf("got %v (%v), want %s", err, refused, want)
	}
	o.Username, o.Password = "anna", []byte("secret")
	if f := judged(t, o)["qos-0"]; f.Status != Kept || f.Packets != nil {
		t.Errorf("got %s: %s, %v", f.Status, f.Detail, f.Packets)
	}

	// The packets of a broken promise show how it came to that, and no password.
	o = options(t, meddle(t, address, lose(true, packet.PUBACK)), "qos-1")
	o.Username, o.Password, o.Patience = "anna", []byte("secret"), 100*time.Millisecond
	text := ""
	for _, p := range judged(t, o)["qos-1"].Packets {
		text += p.String() + "\n"
	}
	if strings.Contains(text, "secret") {
		t.Errorf("the password is in the trace:\n%s", text)
	}
	for _, want := range []string{` ms  1 -> CONNECT 5.0 "mc`, ` user "anna" password`, ` ms  1 <- SUBACK m1 q1`, ` ms  2 -> PUBLISH q1 r0 d0 m1 "myelin-check/`, ` ms  1 <- PUBLISH q1`} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace has no %q:\n%s", want, text)
		}
	}
}

// TestTrace: it keeps the last packets only, and says of each what it can.
func TestTrace(t *testing.T) {
	tr := new(env).trial(row{})
	c := &conn{t: tr, number: 3, v: packet.V5}
	for range 2 * mostEvents {
		tr.note(c, false, tr.began, []byte{0xD0, 0})
	}
	for _, b := range [][]byte{{0xC0, 0}, {0xC1, 0}, {0x30}, make([]byte, longEvent+1)} {
		tr.note(c, true, tr.began.Add(1500*time.Microsecond), b)
	}
	tr.noteEnd(c, true)
	got := tr.trace.story()
	if len(got) != mostEvents || got[0].String() != "     0.00 ms  3 <- PINGRESP" {
		t.Errorf("%d kept, the first %v", len(got), got[0])
	}
	for i, want := range []string{
		"PINGREQ", "2 bytes that are no right packet, c100: fixed header: reserved flags: malformed packet (0x81)",
		"1 bytes, less than a packet", "RESERVED, 4097 bytes", "connection closed",
	} {
		p := got[mostEvents-5+i]
		if p.Text != want || !p.Sent || i < 4 && !strings.HasPrefix(p.String(), "     1.50 ms  3 -> ") {
			t.Errorf("got %v, want %s", p, want)
		}
	}
}

// TestSilentServer: a server that falls silent after its CONNACK has broken
// promises, each check comes to its end, and findings come in order.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	_, address := own(t, broker.Options{})
	o := options(t, meddle(t, address, func(_ *wire, fromServer bool, b []byte) [][]byte {
		if fromServer && packet.FrameType(b) != packet.CONNACK {
			return nil
		}
		return [][]byte{b}
	}))
	o.Patience, o.Parallel = 100*time.Millisecond, 64
	var told []string
	r, err := Run(t.Context(), o, func(f Finding) { told = append(told, f.Name) })
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, e := range List() {
		want = append(want, e.Name)
	}
	if !slices.Equal(told, want) {
		t.Errorf("told of %q", told)
	}
	if n := r.Count(Broken); n < 40 || n != len(r.Broken()) {
		t.Errorf("%d broken: %q", n, r.Broken())
	}
	for _, f := range r.Findings {
		if slices.Contains([]string{"qos-1", "retained", "shared", "session-resume", "will", "payload"}, f.Name) && f.Status != Broken {
			t.Errorf("%s: %s: %s", f.Name, f.Status, f.Detail)
		}
	}
}

// TestFar: a server that is far away is no worse than one that is near.
func TestFar(t *testing.T) {
	t.Parallel()
	_, address := own(t, broker.Options{})
	o := options(t, far(t, address, 60*time.Millisecond))
	o.Skip, o.Quiet, o.Patience, o.Parallel = append(slow(), "qos-0", "qos-1", "qos-2", "ping"), 0, 5*time.Second, 64
	for _, f := range judged(t, o) {
		if f.Status == Broken || f.Status == Unknown {
			t.Errorf("%s: %s: %s", f.Name, f.Status, f.Detail)
		}
	}
}

// TestTimeLimit: a check that takes too long is not known, and leaves nothing.
func TestTimeLimit(t *testing.T) {
	b, address := own(t, broker.Options{})
	o := options(t, address, "session-expiry", "will-delay", "ping")
	o.Timeout = 300 * time.Millisecond
	found := judged(t, o)
	for _, name := range []string{"session-expiry", "will-delay"} {
		if f := found[name]; f.Status != Unknown || f.Detail != "not done after 300ms" {
			t.Errorf("%s: got %s: %s", name, f.Status, f.Detail)
		}
	}
	if f := found["ping"]; f.Status != Kept {
		t.Errorf("ping: got %s: %s", f.Status, f.Detail)
	}
	left(t, b)
}

// TestInterrupted: the end of the context ends the run soon, with what was
// found, and what was made is removed.
func TestInterrupted(t *testing.T) {
	b, address := own(t, broker.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t, address)
	began := time.Now()
	r, err := Run(ctx, o, func(f Finding) {
		if f.Name == "version-5.0" {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || r == nil || len(r.Findings) < 4 || len(r.Findings) == len(List()) {
		t.Errorf("got %+v, %v", r, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	left(t, b)
}

// TestNoServer: nobody there, somebody else there, somebody who hangs up.
func TestNoServer(t *testing.T) {
	for name, x := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"closes":        {func(net.Conn) {}, "closed the connection where a CONNACK was expected"},
		"speaks HTTP":   {func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "the answer is no MQTT"},
		"sends PINGREQ": {func(c net.Conn) { _, _ = c.Write([]byte{0xC0, 0}) }, "PINGREQ where a CONNACK was expected"},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = c.Read(make([]byte, 1000))
					x.serve(c)
					_ = c.Close()
				}
			})
			r, err := Run(t.Context(), options(t, "tcp://"+ln.Addr().String(), "ping"), nil)
			if r != nil || err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("got %v, %v; want %q", r, err, x.want)
			}
			_ = ln.Close()
			wg.Wait()
			if r, err := Run(t.Context(), options(t, "tcp://"+ln.Addr().String(), "ping"), nil); r != nil || err == nil {
				t.Errorf("where nobody listens: got %v, %v", r, err)
			}
		})
	}
}

func TestSearch(t *testing.T) {
	for low := range 5 {
		for high := low; high < 40; high++ {
			for limit := low; limit <= high; limit++ {
				tries := 0
				got, err := search(low, high, func(n int) (bool, error) {
					tries++
					return n <= limit, nil
				})
				if got != limit || err != nil || tries > 8 {
					t.Fatalf("%d to %d: got %d after %d tries, %v; want %d", low, high, got, tries, err, limit)
				}
			}
		}
	}
}

// TestRoom: a payload of that length makes the longest packet that is allowed.
func TestRoom(t *testing.T) {
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		for q := range packet.ExactlyOnce + 1 {
			for _, most := range []int{50, 127, 128, 129, 130, 131, 200, 16384, 16385, 16386, 16387, 16388, 16389, 20000, 2097155, 2097156, 2097157, 2097158} {
				tr := (&env{version: v, connack: packet.Connack{MaxPacket: new(uint32(most))}}).trial(row{})
				m := &packet.Message{Topic: "some/topic", QoS: q}
				n, told := tr.room(m)
				length := func(n int) int {
					m.Payload = make([]byte, n)
					p, err := packet.NewPublish(m, 0)
					if err != nil {
						t.Fatal(err)
					}
					return packet.SizePublish(p, v, packet.PublishOpts{QoS: q})
				}
				if !told || length(n) > most || length(n+1) <= most {
					t.Errorf("version %v, QoS %d, %d bytes: %d, which makes %d, and one more makes %d", v, q, most, n, length(n), length(n+1))
				}
			}
		}
	}
}

func TestChoose(t *testing.T) {
	names := func(only, skip []string) string {
		rows, err := choose(only, skip)
		if err != nil {
			return err.Error()
		}
		var all []string
		for _, r := range rows {
			all = append(all, r.name)
		}
		return strings.Join(all, " ")
	}
	for _, x := range []struct {
		only, skip []string
		want       string
	}{
		{[]string{"retained"}, nil, "retained retain-handling retain-as-published"},
		{[]string{"retained", "ping"}, []string{"retain-handling"}, "ping retained retain-as-published"},
		{[]string{"ping"}, []string{"connection"}, "nothing is left of ping"},
		{[]string{"pong"}, nil, `there is no check "pong"`},
		{nil, []string{"pong"}, `there is no check "pong"`},
	} {
		if got := names(x.only, x.skip); got != x.want {
			t.Errorf("only %q, skip %q: got %q, want %q", x.only, x.skip, got, x.want)
		}
	}
	seen := map[string]bool{}
	for _, e := range List() {
		// A check that has a group's name can be asked for as the group only.
		if seen[e.Name] || e.About == "" {
			t.Errorf("%q is there twice, or says nothing", e.Name)
		}
		seen[e.Name] = true
	}
}
