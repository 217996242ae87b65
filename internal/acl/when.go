package acl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"
)

// condition is the `when` of a rule. Its language has no loop but those over
// what it is given, and its memory is bounded, so that it always ends.
type condition struct {
	source  string
	program *vm.Program
	once    bool // it looks at what changes between two messages to one topic
}

// facts are what a condition can look at.
type facts struct {
	User     string `expr:"user"`
	Client   string `expr:"client"`
	Action   string `expr:"action"` // publish or subscribe
	Topic    string `expr:"topic"`
	QoS      int    `expr:"qos"`
	Retain   bool   `expr:"retain"`
	Address  string `expr:"address"` // without the port
	Listener string `expr:"listener"`
	TLS      bool   `expr:"tls"`
	Time     string `expr:"time"`    // 15:04
	Weekday  string `expr:"weekday"` // mon, tue, wed, thu, fri, sat, sun
}

const (
	mostCondition = 4096 // bytes
	mostNodes     = 500
)

// newCondition compiles a condition. Names and types are checked here.
func newCondition(source string) (*condition, error) {
	if len(source) > mostCondition {
		return nil, fmt.Errorf("longer than %d bytes", mostCondition)
	}
	look := &look{}
	program, err := expr.Compile(source, expr.Env(facts{}), expr.AsBool(), expr.MaxNodes(mostNodes),
		expr.DisableBuiltin("now"), expr.DisableBuiltin("date"), expr.DisableBuiltin("timezone"), expr.DisableBuiltin("duration"),
		expr.Function("within", within, new(func(address, network string) bool)), expr.Patch(look))
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return nil, errors.New(first)
	}
	if look.err != nil {
		return nil, look.err
	}
	return &condition{source: source, program: program, once: look.once}, nil
}

// look walks over a condition: what does it depend on, and are its networks
// networks?
type look struct {
	once bool
	err  error
}

// Visit implements ast.Visitor.
func (l *look) Visit(n *ast.Node) {
	switch x := (*n).(type) {
	case *ast.IdentifierNode:
		switch x.Value {
		case "time", "weekday", "qos":
			l.once = true
		}
	case *ast.CallNode:
		f, ok := x.Callee.(*ast.IdentifierNode)
		if !ok || f.Value != "within" || len(x.Arguments) != 2 {
			return
		}
		if s, ok := x.Arguments[1].(*ast.StringNode); ok {
			if _, err := netip.ParsePrefix(s.Value); err != nil && l.err == nil {
				l.err = fmt.Errorf("%q is no network such as 10.0.0.0/8", s.Value)
			}
		}
	}
}

// within is the function of that name: whether an address is in a network.
func within(args ...any) (any, error) {
	network, err := netip.ParsePrefix(args[1].(string))
	if err != nil {
		return nil, err
	}
	a, err := netip.ParseAddr(args[0].(string))
	if err != nil {
		return false, nil // a Unix socket has none
	}
	return network.Contains(a.Unmap().WithZone("")), nil
}

// holds computes the condition. One that fails is taken for what denies.
func (c *condition) holds(q *Query, allow bool) bool {
	at := q.Time
	if at.IsZero() {
		at = time.Now()
	}
	f := facts{
		User: q.User, Client: q.Client, Action: "subscribe", Topic: q.Topic, QoS: int(q.QoS), Retain: q.Retain,
		Address: q.Address, Listener: q.Listener, TLS: q.TLS,
		Time: at.Format("15:04"), Weekday: strings.ToLower(at.Weekday().String()[:3]),
	}
	if q.Publish {
		f.Action = "publish"
	}
	if host, _, err := net.SplitHostPort(q.Address); err == nil {
		f.Address = host
	}
	v, err := expr.Run(c.program, f)
	yes, ok := v.(bool)
	if err != nil || !ok {
		return !allow
	}
	return yes
}
