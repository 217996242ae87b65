package interop

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/test/chaos"
)

// Our client keeps its promises with Mosquitto, too, over connections that
// break. MYELIN_CHAOS=1000 is a long run; see package chaos. Mosquitto 2.0.11
// sends a client that comes back one message more than its Receive Maximum, so
// that the client ends some of the connections by itself.
func TestChaosMosquitto(t *testing.T) {
	for _, l := range []chaos.Load{
		{Name: "qos 2 5.0", Version: packet.V5, QoS: 2},
		{Name: "qos 2 3.1.1", Version: packet.V311, QoS: 2},
		{Name: "qos 1 5.0", Version: packet.V5, QoS: 1},
		{Name: "qos 1 3.1.1", Version: packet.V311, QoS: 1},
		{Name: "deaths 5.0", Version: packet.V5, QoS: 2, Graves: 60},
		{Name: "deaths 3.1.1", Version: packet.V311, QoS: 2, Graves: 60},
	} {
		l.Mix, l.Faults = chaos.Cuts(), 30
		t.Run(l.Name, func(t *testing.T) { l.Test(t, mosquitto) })
	}
}

// mosquitto starts the broker, as it is shipped but without limits to its
// queues, until the test ends.
func mosquitto(t *testing.T) (url string) {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto" // which is not on everybody's path
	}
	addr, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	conf := fmt.Sprintf("listener %s %s\nallow_anonymous true\nmax_queued_messages 0\nmax_queued_bytes 0\n", port, host)
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	name := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &broker{log: new(logBuffer), done: make(chan error, 1), cmd: exec.Command(path, "-c", name)}
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = dir, b.log, b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		t.Fatalf("start mosquitto: %v (deps.sh installs it)", err)
	}
	go func() { b.done <- b.cmd.Wait() }()
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Errorf("stop mosquitto: %v", err)
		}
		if t.Failed() {
			t.Logf("its log: %s", b.log)
		}
	})
	if err := b.accepts(addr); err != nil {
		t.Fatalf("%v\n%s", err, b.log)
	}
	return "tcp://" + addr
}
