package cli

import (
	"net/netip"
	"slices"
	"time"

	"github.com/myelin-mqtt/myelin/broker"
	"github.com/myelin-mqtt/myelin/internal/config"
)

// link joins settings to the broker's option that they become. The table of
// links is the only place that knows both.
type link struct {
	key    string // of package config
	option string // what the broker's Reload calls it
	put    func(o *broker.Options, c config.Config)
}

func links() []link {
	return []link{
		{"listeners", "listeners", func(o *broker.Options, c config.Config) {
			o.Listeners = nil
			for _, l := range c.Listeners {
				o.Listeners = append(o.Listeners, broker.Listener{URL: l.URL, Access: access(l, c)})
			}
		}},
		{"access.allow", "listeners", nil},
		{"access.deny", "listeners", nil},
		{"access.max_connections_per_address", "listeners", nil},
		{"access.rate", "listeners", nil},
		{"access.rate_per_address", "listeners", nil},
		{"access.proxies", "listeners", nil},
		{"io", "io", func(o *broker.Options, c config.Config) { o.IO = c.IO }},
		{"loops", "loops", func(o *broker.Options, c config.Config) { o.Loops = c.Loops }},
		{"data", "data_dir", func(o *broker.Options, c config.Config) { o.DataDir = c.Data }},
		{"durability", "durability", func(o *broker.Options, c config.Config) {
			if c.Durability != "fsync" { // the broker's default where there is a directory
				o.Durability = c.Durability
			}
		}},
		{"disk.min_free", "min_free_disk", func(o *broker.Options, c config.Config) { o.MinFreeDisk = int64(c.Disk.MinFree) }},
		{"shutdown_grace", "shutdown_grace", func(o *broker.Options, c config.Config) { o.ShutdownGrace = c.ShutdownGrace }},
		{"allow_empty_client_id", "refuse_empty_client_id", func(o *broker.Options, c config.Config) { o.RefuseEmptyClientID = !c.AllowEmptyClientID }},
		{"limits.max_connections", "max_connections", func(o *broker.Options, c config.Config) { o.MaxConnections = c.Limits.MaxConnections }},
		{"limits.connect_timeout", "connect_timeout", func(o *broker.Options, c config.Config) { o.ConnectTimeout = c.Limits.ConnectTimeout }},
		{"limits.max_packet_size", "max_packet_size", func(o *broker.Options, c config.Config) { o.MaxPacketSize = int(c.Limits.MaxPacketSize) }},
		{"limits.max_connect_packet", "max_connect_size", func(o *broker.Options, c config.Config) { o.MaxConnectSize = int(c.Limits.MaxConnectPacket) }},
		{"limits.max_keep_alive", "max_keep_alive", func(o *broker.Options, c config.Config) { o.MaxKeepAlive = uint16(c.Limits.MaxKeepAlive / time.Second) }},
		{"limits.receive_maximum", "receive_maximum", func(o *broker.Options, c config.Config) { o.ReceiveMaximum = uint16(c.Limits.ReceiveMaximum) }},
		{"limits.max_inflight", "max_inflight", func(o *broker.Options, c config.Config) { o.MaxInflight = uint16(c.Limits.MaxInflight) }},
		{"limits.max_inflight_bytes", "max_inflight_bytes", func(o *broker.Options, c config.Config) { o.MaxInflightBytes = int(c.Limits.MaxInflightBytes) }},
		{"limits.topic_alias_maximum", "topic_alias_maximum", func(o *broker.Options, c config.Config) { o.TopicAliasMaximum = zeroIsNone(c.Limits.TopicAliasMaximum) }},
		{"limits.topic_alias_outbound", "topic_alias_outbound", func(o *broker.Options, c config.Config) {
			o.TopicAliasOutbound = zeroIsNone(c.Limits.TopicAliasOutbound)
		}},
		{"limits.max_topic_levels", "max_topic_levels", func(o *broker.Options, c config.Config) { o.MaxTopicLevels = c.Limits.MaxTopicLevels }},
		{"limits.max_subscriptions", "max_subscriptions", func(o *broker.Options, c config.Config) { o.MaxSubscriptions = c.Limits.MaxSubscriptions }},
		{"limits.max_session_expiry", "max_session_expiry", func(o *broker.Options, c config.Config) {
			o.MaxSessionExpiry = uint32(c.Limits.MaxSessionExpiry / time.Second)
		}},
		{"limits.max_outbound_bytes", "max_outbound_bytes", func(o *broker.Options, c config.Config) { o.MaxOutboundBytes = int(c.Limits.MaxOutboundBytes) }},
		{"queue.max_messages", "queue", func(o *broker.Options, c config.Config) { o.Queue.MaxMessages = zeroIsNone(c.Queue.MaxMessages) }},
		{"queue.max_bytes", "queue", func(o *broker.Options, c config.Config) { o.Queue.MaxBytes = zeroIsNone(int(c.Queue.MaxBytes)) }},
		{"queue.total_messages", "queue", func(o *broker.Options, c config.Config) {
			o.Queue.TotalMessages = zeroIsNone(c.Queue.TotalMessages)
		}},
		{"queue.total_bytes", "queue", func(o *broker.Options, c config.Config) { o.Queue.TotalBytes = int(c.Queue.TotalBytes) }},
		{"queue.policy", "queue", func(o *broker.Options, c config.Config) { o.Queue.Policy = policies()[c.Queue.Policy] }},
		{"queue.qos0", "queue", func(o *broker.Options, c config.Config) { o.Queue.QoS0 = c.Queue.QoS0 }},
		{"shared.strategy", "shared", func(o *broker.Options, c config.Config) { o.Shared = strategies()[c.Shared.Strategy] }},
		{"retain.enabled", "retain", func(o *broker.Options, c config.Config) { o.Retain.Disabled = !c.Retain.Enabled }},
		{"retain.max_messages", "retain", func(o *broker.Options, c config.Config) { o.Retain.MaxMessages = c.Retain.MaxMessages }},
		{"retain.max_bytes", "retain", func(o *broker.Options, c config.Config) { o.Retain.MaxBytes = int64(c.Retain.MaxBytes) }},
		{"sys.interval", "sys_interval", func(o *broker.Options, c config.Config) {
			o.SysInterval = c.Sys.Interval
			if c.Sys.Interval == 0 {
				o.SysInterval = -1
			}
		}},
	}
}

func policies() map[string]broker.QueuePolicy {
	return map[string]broker.QueuePolicy{"drop_oldest": broker.DropOldest, "drop_new": broker.DropNew, "refuse": broker.Refuse}
}

func strategies() map[string]broker.Strategy {
	return map[string]broker.Strategy{
		"round_robin": broker.RoundRobin, "random": broker.Random, "sticky": broker.Sticky, "least_inflight": broker.LeastInflight,
	}
}

// zeroIsNone translates a setting whose zero means none to the broker's
// options, whose zero means the default.
func zeroIsNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// options translates a configuration; what is not in a file is the caller's.
func options(c config.Config) broker.Options {
	var o broker.Options
	for _, l := range links() {
		if l.put != nil { // else another link has its key, too
			l.put(&o, c)
		}
	}
	return o
}

// keysOf names the settings behind options that the broker's Reload names.
func keysOf(options []string) []string {
	var keys []string
	for _, l := range links() {
		if slices.Contains(options, l.option) {
			keys = append(keys, l.key)
		}
	}
	return keys
}

// access says who may connect by a listener. Package config has checked the lists.
func access(l config.Listener, c config.Config) broker.Access {
	a := c.Access
	if l.Access != nil {
		a = *l.Access
	}
	list := func(texts []string) (ps []netip.Prefix) {
		for _, s := range texts {
			if p, err := config.ParsePrefix(s); err == nil {
				ps = append(ps, p)
			}
		}
		return ps
	}
	return broker.Access{
		Allow: list(a.Allow), Deny: list(a.Deny), MaxConnsPerAddr: a.MaxConnectionsPerAddr,
		Rate: float64(a.Rate), RatePerAddr: float64(a.RatePerAddr), Proxies: list(a.Proxies),
	}
}
