//go:build conformance

package conformance

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// testCase is one behaviour that a server is held to, in the versions named. Its result is the result of the statements that cite it.
type testCase struct {
	name     string
	versions []byte
	run      func(e *env)
}

// The sets of versions that cases are for.
var (
	all   = []byte{v31, v311, v5}
	four  = []byte{v311}
	five  = []byte{v5}
	since = []byte{v311, v5} // since 3.1.1
)

// env is what a case runs in: one version, and names of its own.
type env struct {
	*testing.T
	v      byte
	prefix string
	n      atomic.Int32
}

// unique is a short name that no other case uses.
func (e *env) unique() string { return fmt.Sprintf("%s%d", e.prefix, e.n.Add(1)) }

// topic is a topic of this case's own.
func (e *env) topic(name string) string { return "conformance/" + e.prefix + "/" + name }

// dial opens a connection and sends nothing.
func (e *env) dial() *client {
	e.Helper()
	return e.dialVersion(e.v)
}

func (e *env) dialVersion(v byte) *client {
	e.Helper()
	nc, err := dial()
	if err != nil {
		e.Fatalf("dial: %v", err)
	}
	return newClient(e, v, nc)
}

func dial() (net.Conn, error) {
	if target.overWS {
		return dialWS(target.ws, "mqtt")
	}
	return dialTCP(target.tcp)
}

// begin opens a connection, sends a CONNECT, and does not wait for the answer.
func (e *env) begin(k connect) *client {
	e.Helper()
	c := e.dial()
	c.hail(k)
	return c
}

// hail sends the CONNECT.
func (c *client) hail(k connect) {
	c.e.Helper()
	if k.id == "" && !k.noID {
		k.id = c.e.unique()
	}
	c.id = k.id
	c.send(k.bytes(c.v))
}

// connect opens a connection that must be accepted.
func (e *env) connect(k connect) *client {
	e.Helper()
	c := e.begin(k)
	return c.welcome()
}

// welcome waits for the CONNACK, which must be a success.
func (c *client) welcome() *client {
	c.e.Helper()
	c.hello = c.next()
	if c.hello.typ != tCONNACK || c.hello.code != 0 {
		c.e.Fatalf("%s: got %s, want CONNACK 0", c.id, c.hello)
	}
	return c
}

// client is a clean client with nothing special.
func (e *env) client() *client {
	e.Helper()
	return e.connect(connect{})
}

// pair is a client for publishing, and one that has subscribed to the topic.
func (e *env) pair(topic string, options byte, props ...[]byte) (pub, sub *client) {
	e.Helper()
	pub, sub = e.client(), e.client()
	sub.want(topic, options, props...)
	return pub, sub
}

// lasting is a CONNECT whose session stays behind the connection.
func lasting(id string) connect { return connect{id: id, resume: true, expiry: 300} }

// healthy proves that the server still serves others.
func (e *env) healthy() {
	e.Helper()
	pub, sub := e.pair(e.topic("healthy"), 1)
	pub.publish(message{topic: e.topic("healthy"), payload: "well", qos: 1})
	sub.receive("well")
	pub.disconnect()
	sub.disconnect()
}

// results are the outcomes of the cases, by "name/version".
type results struct {
	mu   sync.Mutex
	list map[string]string
}

func (r *results) put(name string, v byte, t *testing.T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case t.Failed():
		r.list[name+"/"+versionNames[v]] = "fail"
	case t.Skipped():
		r.list[name+"/"+versionNames[v]] = "skip"
	default:
		r.list[name+"/"+versionNames[v]] = "pass"
	}
}

var versionNames = map[byte]string{v31: "3.1", v311: "3.1.1", v5: "5.0"}

// allCases is every case there is.
func allCases() []testCase {
	return slices.Concat(connectCases(), authCases(), sessionCases(), willCases(), publishCases(), retainCases(), propertyCases(),
		aliasCases(), flowCases(), quotaCases(), subscribeCases(), unsubscribeCases(), sharedCases(), topicCases(), errorCases(), wsCases(),
		badCases(), serverCases(), furtherCases(), loadCases(),
		configCases(), edgeCases(), tableCases())
}

// TestCases runs every case in every version that it is for, all in parallel, beside a pair of clients that must not notice, and then
// judges the statements.
func TestCases(t *testing.T) {
	res := &results{list: map[string]string{}}
	watch := startWitness(t)
	t.Run("case", func(t *testing.T) {
		for i, c := range allCases() {
			for _, v := range c.versions {
				t.Run(c.name+"/"+versionNames[v], func(t *testing.T) {
					t.Parallel()
					t.Cleanup(func() { res.put(c.name, v, t) })
					c.run(&env{T: t, v: v, prefix: fmt.Sprintf("%s%d%d", target.run, i, v) + "x"})
				})
			}
		}
	})
	watch.stop(t)
	judge(t, res.list)
}

// TestCaseNames holds the names of the cases apart.
func TestCaseNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range allCases() {
		if seen[c.name] || strings.ContainsAny(c.name, " /,") || len(c.versions) == 0 {
			t.Errorf("case %q: named twice, ill named, or for no version", c.name)
		}
		seen[c.name] = true
	}
}

func dialTCP(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, patience) }
