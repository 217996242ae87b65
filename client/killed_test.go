package client_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/client"
)

// childEnv tells a process that TestKilled has started what to do: the server's
// URL, the folder of its session, and how many messages there are to be in all.
const childEnv = "MYELIN_TEST_KILLED"

// TestKilled: a program that publishes at QoS 2 is killed again and again, at any
// moment, and started again on its folder. Every message that the library had
// taken arrives exactly once, and in order.
func TestKilled(t *testing.T) {
	if job := os.Getenv(childEnv); job != "" {
		publisher(t, strings.Split(job, "|"))
		return
	}
	lives := 10
	if n, err := strconv.Atoi(os.Getenv("MYELIN_CHAOS")); err == nil {
		lives = max(lives, n/10)
	}
	_, url := serve(t, broker.Options{Queue: broker.QueueOptions{MaxMessages: -1, MaxBytes: -1}})
	got := make(chan uint32, 1<<16)
	sub := connect(t, url, client.Options{})
	subscribe(t, sub, func(m *client.Received) { got <- binary.BigEndian.Uint32(m.Payload) }, client.Filter("killed", 2))

	dir := filepath.Join(t.TempDir(), "session")
	chance := rand.New(rand.NewPCG(1, uint64(lives)))
	next := uint32(0) // the next message to come
	arrive := func() {
		select {
		case n := <-got:
			if n != next {
				t.Fatalf("message %d came, want %d", n, next)
			}
			next++
		case <-time.After(patience):
			t.Fatalf("message %d did not come", next)
		}
	}
	given := 0 // messages that PublishAsync had taken, as the programs have told
	for range lives {
		p := child(t, url, dir, 1<<30)
		if p.begin < given {
			t.Fatalf("%d messages were given to the library, and the folder has kept %d", given, p.begin)
		}
		for range chance.IntN(60) {
			arrive()
		}
		given = p.kill()
	}
	p := child(t, url, dir, given+100)
	if err := p.wait(); err != nil {
		t.Fatalf("the last program: %v", err)
	}
	if p.begin < given {
		t.Fatalf("%d messages were given to the library, and the folder has kept %d", given, p.begin)
	}
	for next < uint32(max(p.begin, given+100)) {
		arrive()
	}
	publish(t, sub, "killed", "\xFF\xFF\xFF\xFF", 2) // behind all
	if n := <-got; n != 1<<32-1 {
		t.Errorf("message %d came, and %d was the last", n, next-1)
	}
	t.Logf("%d messages of %d programs", next, lives+1)
}

// publisher is the program that is killed. It tells how many messages the folder
// has kept, and each that it has given to the library.
func publisher(t *testing.T, job []string) {
	total, err := strconv.Atoi(job[2])
	if err != nil {
		t.Fatal(err)
	}
	f, err := client.OpenFile(job[1], client.FileOptions{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	kept := &counted{Store: f}
	c := connect(t, job[0], client.Options{ClientID: "killed", SessionExpiry: time.Hour, Store: kept, MaxInflight: 20, QueueMessages: 100})
	fmt.Printf("begin %d\n", kept.n)
	for n := kept.n; n < total; n++ {
		m := &client.Message{Topic: "killed", QoS: 2, Payload: binary.BigEndian.AppendUint32(nil, uint32(n))}
		if err := c.PublishAsync(ctx(t), m, nil); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("given %d\n", n+1)
	}
	if err := c.Disconnect(ctx(t)); err != nil {
		t.Fatal(err)
	}
}

// counted is a store that tells how many messages it has ever kept.
type counted struct {
	client.Store
	n int
}

func (c *counted) Load() (client.State, error) {
	s, err := c.Store.Load()
	c.n = int(max(s.Next, 1) - 1) // the first message is number 1
	return s, err
}

// program is a process of publisher.
type program struct {
	cmd   *exec.Cmd
	begin int
	given chan int // how many messages it had given when it ended
}

func child(t *testing.T, url, dir string, total int) *program {
	t.Helper()
	p := &program{cmd: exec.Command(os.Args[0], "-test.run=^TestKilled$"), given: make(chan int, 1)}
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%s|%d", childEnv, url, dir, total))
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "begin %d", &p.begin); err == nil {
			break
		}
		t.Log(lines.Text())
	}
	go func() {
		given := p.begin
		for lines.Scan() {
			fmt.Sscanf(lines.Text(), "given %d", &given)
		}
		p.given <- given
	}()
	return p
}

// kill ends the program at once, and tells how many messages it had given.
func (p *program) kill() int {
	p.cmd.Process.Kill()
	given := <-p.given
	p.cmd.Wait()
	return given
}

// wait waits for the program's own end.
func (p *program) wait() error {
	<-p.given
	return p.cmd.Wait()
}
