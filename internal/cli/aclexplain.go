package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/myelin-mqtt/myelin/internal/acl"
	"github.com/myelin-mqtt/myelin/packet"
	"github.com/myelin-mqtt/myelin/topic"
)

func aclCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "acl",
		Short: "Work with the rules of who may publish and subscribe where",
		RunE:  group,
		Args:  cobra.ArbitraryArgs,
	}
	c.AddCommand(explainCommand())
	return c
}

// explanation is what `acl explain` tells.
type explanation struct {
	Allowed bool       `json:"allowed"`
	QoS     int        `json:"qos"` // granted, where it is a subscription
	Rule    string     `json:"rule"`
	Before  []acl.Step `json:"before"`
}

func explainCommand() *cobra.Command {
	var policy, format string
	var q acl.Query
	var qos int
	var asJSON bool
	c := &cobra.Command{
		Use:   "explain --policy FILE [flags] publish|subscribe TOPIC",
		Short: "Tell what the rules say about one publish or subscription, and why",
		Long: "Print the decision, the rule that makes it, and why the rules before it do not match.\n" +
			"It ends with 0 where it is allowed, with 1 where it is denied, and with 2 where the question or the file is not understood.",
		Example: "  myelin acl explain --policy rules.yaml -u ada -i c1 subscribe 'sensors/#'",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) != 2 || args[0] != "publish" && args[0] != "subscribe" || policy == "" || qos < 0 || qos > 2 {
				return usage("acl explain wants --policy FILE, publish or subscribe, and a topic; --qos is 0, 1 or 2", "see `myelin acl explain --help`")
			}
			p, faults := acl.Load(policy, format)
			if len(faults) > 0 {
				return &hinted{err: faults, code: exitUsage}
			}
			q.QoS, q.Publish, q.Topic = packet.QoS(qos), args[0] == "publish", args[1]
			q.TLS = strings.HasPrefix(q.Listener, "tls:") || strings.HasPrefix(q.Listener, "wss:")
			if err := topicOf(&q); err != nil {
				return usage(err.Error(), "")
			}
			d, before := p.Explain(&q)
			e := explanation{Allowed: d.Allow, QoS: int(d.QoS), Rule: d.Rule, Before: before}
			if err := e.print(c, asJSON); err != nil {
				return err
			}
			if !d.Allow {
				return &hinted{err: fmt.Errorf("denied by %s", d.Rule), code: exitFailure}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&policy, "policy", "", "`file` of rules")
	f.StringVar(&format, "format", acl.Auto, "what it is: auto, yaml or mosquitto")
	f.StringVarP(&q.User, "user", "u", "", "user `name`; none: a client without one")
	f.StringVarP(&q.Client, "client", "i", "", "client `identifier`")
	f.StringVar(&q.Address, "address", "", "`address` of the client, for conditions")
	f.StringVar(&q.Listener, "listener", "", "`URL` of the listener, for conditions; tls:// and wss:// are encrypted")
	f.IntVarP(&qos, "qos", "q", 0, "quality of service")
	f.BoolVarP(&q.Retain, "retain", "r", false, "a retained message")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// topicOf checks the topic, and takes $share away.
func topicOf(q *acl.Query) error {
	if q.Publish {
		return topic.CheckName(q.Topic)
	}
	f, err := topic.ParseFilter(q.Topic)
	q.Topic = f.Filter
	return err
}

func (e *explanation) print(c *cobra.Command, asJSON bool) error {
	w := c.OutOrStdout()
	if asJSON {
		return json.NewEncoder(w).Encode(e)
	}
	for _, s := range e.Before {
		if _, err := fmt.Fprintf(w, "%s: no match: %s\n", s.Rule, s.Why); err != nil {
			return err
		}
	}
	verdict := "denied"
	if e.Allowed {
		verdict = fmt.Sprintf("allowed, QoS %d", e.QoS)
	}
	_, err := fmt.Fprintf(w, "%s: %s\n", e.Rule, verdict)
	return err
}
