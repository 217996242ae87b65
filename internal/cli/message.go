package cli

import (
	"github.com/spf13/cobra"
)

// register adds the flags of a message that a command publishes, and has -D
// publish set its properties.
func (m *messageFlags) register(c *cobra.Command) {
	g := newGroup(c, "Message")
	g.text(&m.topic, "topic", "t", "`topic` to publish to, if -L does not name it")
	number(g, &m.qos, 0, 2, "qos", "q", "quality of service")
	g.toggle(&m.retain, "retain", "r", "have the server keep it for those who subscribe later")
}

// registerMessageProperties adds the MQTT 5 properties, behind the flags that
// most people look for.
func (m *messageFlags) registerMessageProperties(c *cobra.Command) {
	m.registerProperties(newGroup(c, "MQTT 5 properties of the message"), "")
}
