package broker

import (
	"slices"
)

// option is one field of Options as Reload sees it.
type option struct {
	name string
	same func(a, b *Options) bool
	keep func(from, to *Options)
}

func field[T any](name string, get func(o *Options) *T, same func(a, b T) bool) option {
	return option{
		name: name,
		same: func(a, b *Options) bool { return same(*get(a), *get(b)) },
		keep: func(from, to *Options) { *get(to) = *get(from) },
	}
}

func plain[T comparable](name string, get func(o *Options) *T) option {
	return field(name, get, func(a, b T) bool { return a == b })
}

// wired keeps what a program gave to New: it cannot be compared, and reloading
// a file is no reason to lose it.
func wired(from, to *Options) {
	to.NoListeners, to.Authenticator, to.Authorizer, to.Events, to.Logger = from.NoListeners, from.Authenticator, from.Authorizer, from.Events, from.Logger
	to.wrapStore = from.wrapStore
	to.dataFS, to.tuneDisk = from.dataFS, from.tuneDisk
}

// fixedOptions need a restart.
var fixedOptions = []option{
	field("listeners", func(o *Options) *[]Listener { return &o.Listeners }, func(a, b []Listener) bool {
		return slices.EqualFunc(a, b, Listener.same)
	}),
	plain("io", func(o *Options) *string { return &o.IO }),
	plain("loops", func(o *Options) *int { return &o.Loops }),
	plain("max_connections", func(o *Options) *int { return &o.MaxConnections }),
	field("connect_timeout", func(o *Options) *int64 { return (*int64)(&o.ConnectTimeout) }, func(a, b int64) bool { return a == b }),
	plain("data_dir", func(o *Options) *string { return &o.DataDir }),
	plain("durability", func(o *Options) *string { return &o.Durability }),
	plain("min_free_disk", func(o *Options) *int64 { return &o.MinFreeDisk }),
	plain("queue", func(o *Options) *QueueOptions { return &o.Queue }),
	plain("retain", func(o *Options) *RetainOptions { return &o.Retain }),
	field("sys_interval", func(o *Options) *int64 { return (*int64)(&o.SysInterval) }, func(a, b int64) bool { return a == b }),
	plain("version", func(o *Options) *string { return &o.Version }),
}

// liveOptions take effect at once, or for the next connection.
var liveOptions = []option{
	plain("max_packet_size", func(o *Options) *int { return &o.MaxPacketSize }),
	plain("max_connect_size", func(o *Options) *int { return &o.MaxConnectSize }),
	plain("max_keep_alive", func(o *Options) *uint16 { return &o.MaxKeepAlive }),
	plain("receive_maximum", func(o *Options) *uint16 { return &o.ReceiveMaximum }),
	plain("max_inflight", func(o *Options) *uint16 { return &o.MaxInflight }),
	plain("max_inflight_bytes", func(o *Options) *int { return &o.MaxInflightBytes }),
	plain("topic_alias_maximum", func(o *Options) *int { return &o.TopicAliasMaximum }),
	plain("topic_alias_outbound", func(o *Options) *int { return &o.TopicAliasOutbound }),
	plain("max_topic_levels", func(o *Options) *int { return &o.MaxTopicLevels }),
	plain("max_subscriptions", func(o *Options) *int { return &o.MaxSubscriptions }),
	plain("max_session_expiry", func(o *Options) *uint32 { return &o.MaxSessionExpiry }),
	plain("max_outbound_bytes", func(o *Options) *int { return &o.MaxOutboundBytes }),
	plain("refuse_empty_client_id", func(o *Options) *bool { return &o.RefuseEmptyClientID }),
	plain("shared", func(o *Options) *Strategy { return &o.Shared }),
	plain("response_information", func(o *Options) *string { return &o.ResponseInformation }),
	field("shutdown_grace", func(o *Options) *int64 { return (*int64)(&o.ShutdownGrace) }, func(a, b int64) bool { return a == b }),
}
