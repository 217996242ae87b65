package config

import (
	"slices"
	"strings"
	"time"

	"github.com/myelin-mqtt/myelin/internal/certs"
)

// Key is one setting: its names, its bounds and its place in a Config.
type Key struct {
	Name   string   // in the file, as section.key: "limits.max_packet_size"
	Env    string   // in the environment: "MYELIN_LIMITS_MAX_PACKET_SIZE"
	Flag   string   // on the command line, without dashes: "limits-max-packet-size"
	Doc    string   // one or two sentences, what it does and what zero means
	Values []string // the words it may be; nil: any value of its kind
	Kind   Kind
	Fixed  bool // a change needs a restart; else a reload takes it

	min, max int64                              // bounds, in units, bytes or nanoseconds
	whole    int64                              // the value is a multiple of this
	field    func(c *Config) any                // a pointer to the setting
	path     bool                               // names files: in a file, relative to its folder
	check    func(v string) (what, hint string) // what only this key demands; "": fine
}

// Kind says how a setting's value is written.
type Kind uint8

// The kinds of values.
const (
	Text   Kind = iota // any text
	Word               // one of Key.Values
	Switch             // true or false
	Count              // a whole number
	Bytes              // 512, 64KiB, 1MB
	Span               // 10s, 1m30s, 2h
	URLs               // the listeners
	Texts              // one text or more
	Words              // some of Key.Values
)

// String names what a person writes.
func (k Kind) String() string {
	return [...]string{"text", "word", "true or false", "number", "size", "duration", "list of URLs", "text or list of texts", "list of words"}[k]
}

// Keys returns the table of all settings, in the order of the file and of the
// documentation.
func Keys() []Key {
	keys := slices.Concat(topKeys(), accessKeys(), authKeys(), authorizationKeys(), tlsKeys(), diskKeys(), logKeys(), limitKeys(), queueKeys(), otherKeys())
	for i := range keys {
		keys[i].Fixed = slices.Contains(fixed(), keys[i].Name)
	}
	return keys
}

// fixed are the keys that a reload cannot change. What is said here is checked
// against the broker by package cli.
func fixed() []string {
	return []string{
		"listeners", "access.allow", "access.deny", "access.max_connections_per_address", "access.rate", "access.rate_per_address", "access.proxies", "io", "loops", "data", "durability", "disk.min_free", "pprof", "log.format", "authentication.methods", "authentication.password_file",
		"authentication.workers", "authentication.queue", "authentication.remember", "authentication.slow_down", "authentication.slow_down_max", "limits.max_connections", "limits.connect_timeout",
		"queue.max_messages", "queue.max_bytes", "queue.total_messages", "queue.total_bytes", "queue.policy", "queue.qos0",
		"retain.enabled", "retain.max_messages", "retain.max_bytes", "sys.interval",
		"authorization.policy", "authorization.format",
	}
}

func topKeys() []Key {
	listen := newKey("listeners", URLs, func(c *Config) any { return &c.Listeners },
		"Where clients connect: `tcp://host:port`, `tls://host:port`, `unix:///path/of/socket`, `ws://host:port/path` or `wss://host:port/path` (path `/mqtt` if left out). "+
			"In the file a line is a URL, or `url` with what else the listener has, such as a section `tls` of its own. "+
			"An empty host is every address of the machine. As a flag, once for each URL; in the environment, separated by commas. "+
			"They replace the list of the file, which replaces the default.")
	listen.Flag, listen.Env = "listen", "MYELIN_LISTEN"
	data := newKey("data", Text, func(c *Config) any { return &c.Data },
		"Directory for what outlives the program: sessions with their queues, and retained messages. It is made, with mode 0700, if it is not there. "+
			"A relative path in the file, and the default, count from the file's folder; a relative path in the environment or a flag, and the default where there is no file, from the working directory.")
	data.check = checkData
	pprof := newKey("pprof", Text, func(c *Config) any { return &c.Pprof },
		"Loopback address (`127.0.0.1:6060`) that serves Go's profiles under /debug/pprof/. Empty: off.")
	pprof.check = checkPprof
	return []Key{
		listen,
		word("io", func(c *Config) any { return &c.IO }, []string{"auto", "reactor", "goroutine"},
			"Connection driver: `reactor` (Linux only: one event loop for each processor), `goroutine` (one goroutine for each connection, everywhere), or `auto`: the best of this system."),
		count("loops", func(c *Config) any { return &c.Loops }, 0, 1024,
			"Event loops of the reactor. 0: one for each processor that the program may use."),
		data,
		word("durability", func(c *Config) any { return &c.Durability }, []string{"fsync", "async", "memory"},
			"What an acknowledgement promises: `fsync`, that the message is on the disk; `async`, that it is within a second; `memory`, nothing beyond the end of the program: `data` is neither used nor made."),
		span("shutdown_grace", func(c *Config) any { return &c.ShutdownGrace }, 10*time.Millisecond, time.Hour, 1,
			"How long a stop (SIGTERM) may take to say goodbye to clients and write out what waits for them. After that their connections are cut."),
		toggle("allow_empty_client_id", func(c *Config) any { return &c.AllowEmptyClientID },
			"Whether a client without a client identifier is let in and given one. `false` refuses it."),
		pprof,
	}
}

// accessKeys are those of section access, and of a listener's own.
func accessKeys() []Key {
	addresses := func(name string, field func(c *Config) any, doc string) Key {
		x := newKey(name, Texts, field, doc)
		x.check = func(v string) (what, hint string) { return checkPrefix(name, v) }
		return x
	}
	return []Key{
		addresses("access.allow", func(c *Config) any { return &c.Access.Allow },
			"Addresses and networks (`192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`) from which clients may connect. None: from everywhere. A listener may have a section `access` of its own. It does not matter for a Unix socket."),
		addresses("access.deny", func(c *Config) any { return &c.Access.Deny },
			"Addresses and networks from which nobody may connect, whatever `allow` says."),
		count("access.max_connections_per_address", func(c *Config) any { return &c.Access.MaxConnectionsPerAddr }, 0, 1<<30,
			"Open connections from one address (of IPv6: from one network of 64 bits) by one listener. 0: no limit."),
		count("access.rate", func(c *Config) any { return &c.Access.Rate }, 0, 1<<30,
			"New connections a second by one listener; up to those of a second may come at once, more are closed. 0: no limit."),
		count("access.rate_per_address", func(c *Config) any { return &c.Access.RatePerAddr }, 0, 1<<30,
			"New connections a second from one address, likewise. 0: no limit."),
		addresses("access.proxies", func(c *Config) any { return &c.Access.Proxies },
			"Addresses and networks of proxies: their connections must begin with a PROXY header, of version 1 or 2, and the address that it tells is the client's. Anybody else's header is garbage."),
	}
}

// tlsKeys are those of section tls, and of a listener's own.
func tlsKeys() []Key {
	file := func(name string, k Kind, field func(c *Config) any, doc string) Key {
		x := newKey(name, k, field, doc)
		x.path = true
		return x
	}
	template := func(name string, field func(c *Config) any, doc string) Key {
		x := newKey(name, Text, field, doc)
		x.check = func(v string) (what, hint string) { return checkTemplate(name, v) }
		return x
	}
	return []Key{
		file("tls.cert", Texts, func(c *Config) any { return &c.TLS.Cert },
			"PEM file of the server's certificate, with those between it and its authority behind it. A list: several, chosen by the name that a client asks for; the first is for all other names."),
		file("tls.key", Texts, func(c *Config) any { return &c.TLS.Key },
			"PEM file of the certificate's private key, not encrypted; of several certificates, one each in the same order. None: the keys stand in the certificates' files."),
		file("tls.ocsp", Texts, func(c *Config) any { return &c.TLS.OCSP },
			"File of the authority's OCSP answer for the certificate, DER, which clients are shown; of several certificates, one each in the same order, `\"\"` where there is none."),
		file("tls.client_ca", Text, func(c *Config) any { return &c.TLS.ClientCA },
			"PEM file of the authorities whose certificates clients may show."),
		word("tls.client_certs", func(c *Config) any { return &c.TLS.ClientCerts }, []string{"none", "optional", "required"},
			"Whether clients are asked for a certificate: not at all, but one that is shown must be good, or nobody comes in without."),
		file("tls.crl", Texts, func(c *Config) any { return &c.TLS.CRL },
			"File, or list of files, of revocation lists, PEM or DER, signed by authorities in `client_ca`. A client whose certificate they name is refused. None: nothing is revoked."),
		word("tls.crl_mode", func(c *Config) any { return &c.TLS.CRLMode }, []string{"strict", "lenient"},
			"Where there are revocation lists, and that of a client's authority is missing or out of date: `strict` refuses the client, `lenient` lets it in."),
		word("tls.min_version", func(c *Config) any { return &c.TLS.MinVersion }, []string{"1.2", "1.3"},
			"The oldest TLS version that is spoken."),
		word("tls.max_version", func(c *Config) any { return &c.TLS.MaxVersion }, []string{"1.2", "1.3"},
			"The newest TLS version that is spoken."),
		template("tls.username_from", func(c *Config) any { return &c.TLS.UsernameFrom },
			"The user name of a client with a certificate: a field of that, one of `"+strings.Join(certs.Fields(), "`, `")+"`, or a text with fields in braces, such as `{ou}/{cn}`. "+
				"It replaces what the CONNECT has; a certificate that does not give it is refused. None: the CONNECT's."),
		template("tls.client_id_from", func(c *Config) any { return &c.TLS.ClientIDFrom },
			"The client identifier of a client with a certificate, likewise. A client that sends none gets it, one that sends another is refused."),
		span("tls.reload", func(c *Config) any { return &c.TLS.Reload }, 0, time.Hour, time.Second,
			"How often there is a look whether the files have changed, in whole seconds; they are read again, all together, when they have. A set with a fault is refused, and the one before it stays. 0: only on SIGHUP."),
	}
}

func authKeys() []Key {
	methods := newKey("authentication.methods", Words, func(c *Config) any { return &c.Authentication.Methods },
		"The ways to authenticate, asked in this order: `password_file`, a user name and password of that file; `anonymous`, clients that show nothing. "+
			"A method says yes, no, or that it does not know such credentials; where none says yes, nobody comes in. Empty: everybody may connect.")
	methods.Values = []string{"password_file", "anonymous"}
	file := newKey("authentication.password_file", Text, func(c *Config) any { return &c.Authentication.PasswordFile },
		"File of users, lines `USER:HASH`, which `myelin passwd` writes; Mosquitto's are read, too. It is read again when it changes and at SIGHUP; one with a fault changes nothing. "+
			"A relative path in the file counts from the file's folder.")
	return []Key{
		methods,
		file,
		count("authentication.workers", func(c *Config) any { return &c.Authentication.Workers }, 0, 1024,
			"Passwords that are hashed at a time, each with a processor and, by default, 19 MiB. 0: half the processors that the program may use."),
		count("authentication.queue", func(c *Config) any { return &c.Authentication.Queue }, 1, 1<<20,
			"Clients whose passwords may wait for that. One more is told that the server is busy (MQTT 5: reason code 0x89)."),
		span("authentication.remember", func(c *Config) any { return &c.Authentication.Remember }, 0, 24*time.Hour, 1,
			"How long a client that comes back with the same password need not wait for it to be hashed. A keyed digest is remembered, in memory, never the password. 0: every time."),
		span("authentication.slow_down", func(c *Config) any { return &c.Authentication.SlowDown }, 0, time.Minute, 1,
			"How long the refusal of a wrong password takes; it doubles with each further one of the user, and of the address from its fifth on. Right passwords are not slowed. 0: no delay."),
		span("authentication.slow_down_max", func(c *Config) any { return &c.Authentication.SlowDownMax }, 0, time.Minute, 1,
			"The longest such delay."),
	}
}

func diskKeys() []Key {
	return []Key{
		size("disk.min_free", func(c *Config) any { return &c.Disk.MinFree }, 0, 1<<50,
			"Free room on the disk of the `data` directory below which it counts as full: messages of QoS 1 and 2 that would have to be stored are refused (MQTT 5: reason code 0x97) until there is a quarter more. "+
				"0: 64 MiB, but at most an eighth of the disk."),
	}
}

func logKeys() []Key {
	return []Key{
		word("log.level", func(c *Config) any { return &c.Log.Level }, []string{"debug", "info", "warn", "error"},
			"The least important lines that are logged."),
		word("log.format", func(c *Config) any { return &c.Log.Format }, []string{"text", "json"},
			"How lines are written to standard error."),
	}
}

func limitKeys() []Key {
	const huge = 1 << 40
	return []Key{
		count("limits.max_connections", func(c *Config) any { return &c.Limits.MaxConnections }, 0, 1<<30,
			"Open connections, all listeners together; one more is refused. 0: no limit."),
		span("limits.connect_timeout", func(c *Config) any { return &c.Limits.ConnectTimeout }, 10*time.Millisecond, time.Hour, 1,
			"How long a new connection may take until its CONNECT is complete."),
		size("limits.max_packet_size", func(c *Config) any { return &c.Limits.MaxPacketSize }, 16, 268_435_455,
			"The largest packet that a client may send. MQTT 5 clients are told."),
		size("limits.max_connect_packet", func(c *Config) any { return &c.Limits.MaxConnectPacket }, 16, 268_435_455,
			"The largest packet from a client that has not been let in yet. The smaller of this and max_packet_size counts."),
		span("limits.max_keep_alive", func(c *Config) any { return &c.Limits.MaxKeepAlive }, 0, 65_535*time.Second, time.Second,
			"The longest keep alive, in whole seconds. An MQTT 5 client that asks for more, or for none, is told this one; an older client is held to it. 0: what the client asks for."),
		count("limits.receive_maximum", func(c *Config) any { return &c.Limits.ReceiveMaximum }, 1, 65_535,
			"QoS 1 and 2 messages that a client may have under way to the broker, unacknowledged. MQTT 5 clients are told, and held to it."),
		count("limits.max_inflight", func(c *Config) any { return &c.Limits.MaxInflight }, 1, 65_535,
			"QoS 1 and 2 messages under way from the broker to one client, unacknowledged; the client's own receive maximum may lower it."),
		size("limits.max_inflight_bytes", func(c *Config) any { return &c.Limits.MaxInflightBytes }, 1024, huge,
			"Bytes of those messages. One message may always be under way, whatever its size."),
		count("limits.topic_alias_maximum", func(c *Config) any { return &c.Limits.TopicAliasMaximum }, 0, 65_535,
			"Topic aliases that an MQTT 5 client may set. 0: none."),
		count("limits.topic_alias_outbound", func(c *Config) any { return &c.Limits.TopicAliasOutbound }, 0, 65_535,
			"Topic aliases that the broker sets for an MQTT 5 client that allows them. 0: none."),
		count("limits.max_topic_levels", func(c *Config) any { return &c.Limits.MaxTopicLevels }, 0, 65_536,
			"Levels of a topic name or topic filter. 0: no limit."),
		count("limits.max_subscriptions", func(c *Config) any { return &c.Limits.MaxSubscriptions }, 0, 1<<30,
			"Subscriptions of one client. 0: no limit."),
		span("limits.max_session_expiry", func(c *Config) any { return &c.Limits.MaxSessionExpiry }, 0, 4_294_967_294*time.Second, time.Second,
			"The longest time, in whole seconds, that a session is kept for a client that is away. 0: what the client asks for."),
		size("limits.max_outbound_bytes", func(c *Config) any { return &c.Limits.MaxOutboundBytes }, 1024, huge,
			"Bytes waiting for one connection's socket. Beyond that QoS 0 messages to it are dropped and counted; QoS 1 and 2 messages wait in its queue."),
	}
}

func queueKeys() []Key {
	return []Key{
		count("queue.max_messages", func(c *Config) any { return &c.Queue.MaxMessages }, 0, 1<<30,
			"Messages that wait for one client that is away, or too slow. 0: no limit."),
		size("queue.max_bytes", func(c *Config) any { return &c.Queue.MaxBytes }, 0, 1<<40,
			"Bytes of the messages that wait for one client, topics and payloads together. 0: no limit."),
		count("queue.total_messages", func(c *Config) any { return &c.Queue.TotalMessages }, 0, 1<<40,
			"Messages that wait for all durable sessions together. `drop_oldest` then takes from the longest queue; the other policies spare who is connected. "+
				"What waits in memory for slow clients without a durable session has a bound of its own, as large; there who is slow pays. 0: no limit."),
		size("queue.total_bytes", func(c *Config) any { return &c.Queue.TotalBytes }, 0, 1<<50,
			"Bytes of those messages, topics and payloads together. On disk the space that is left bounds them, too. 0: no limit on disk, 1GiB for what is in memory."),
		word("queue.policy", func(c *Config) any { return &c.Queue.Policy }, []string{"drop_oldest", "drop_new", "refuse"},
			"What a full queue does: drop its oldest message, drop the new one, or refuse the publisher (MQTT 5: reason code 0x97)."),
		toggle("queue.qos0", func(c *Config) any { return &c.Queue.QoS0 },
			"Whether QoS 0 messages wait, too, for a client that is away."),
	}
}

func otherKeys() []Key {
	return []Key{
		word("shared.strategy", func(c *Config) any { return &c.Shared.Strategy }, []string{"round_robin", "random", "sticky", "least_inflight"},
			"Which member of a shared subscription gets a message: the next one in turn, any, always the same one for a publisher, or the one with the fewest messages under way."),
		toggle("retain.enabled", func(c *Config) any { return &c.Retain.Enabled },
			"Whether there are retained messages. `false`: an MQTT 5 client that sends one is disconnected (reason code 0x9A), an older client's message is delivered and not retained."),
		count("retain.max_messages", func(c *Config) any { return &c.Retain.MaxMessages }, 0, 1<<30,
			"Retained messages. One more is delivered and not retained. 0: no limit."),
		size("retain.max_bytes", func(c *Config) any { return &c.Retain.MaxBytes }, 0, 1<<40,
			"Bytes of the retained messages, topics and payloads together. 0: no limit."),
		span("sys.interval", func(c *Config) any { return &c.Sys.Interval }, 0, 24*time.Hour, time.Second,
			"How often the topics under $SYS/broker/ are brought up to date, in whole seconds. 0: there are none."),
	}
}

func authorizationKeys() []Key {
	return []Key{
		newKey("authorization.policy", Text, func(c *Config) any { return &c.Authorization.Policy },
			"File of the rules that say who may publish and subscribe where (see authorization.md): what no rule allows is denied. It is read again at SIGHUP; one with a fault is refused as a whole, and the rules stay as they were. "+
				"A relative path in the configuration file counts from that file's folder. Empty: everybody may do everything."),
		word("authorization.format", func(c *Config) any { return &c.Authorization.Format }, []string{"auto", "yaml", "mosquitto"},
			"What that file is: a policy in YAML, or an ACL file of Mosquitto. `auto`: YAML if its name ends in .yaml or .yml, else Mosquitto's."),
	}
}

func newKey(name string, k Kind, field func(*Config) any, doc string) Key {
	under := strings.ReplaceAll(name, ".", "_")
	return Key{
		Name: name, Kind: k, Doc: doc, field: field, whole: 1,
		Env:  envPrefix + strings.ToUpper(under),
		Flag: strings.ReplaceAll(under, "_", "-"),
	}
}

func word(name string, field func(*Config) any, values []string, doc string) Key {
	k := newKey(name, Word, field, doc)
	k.Values = values
	return k
}

func toggle(name string, field func(*Config) any, doc string) Key {
	return newKey(name, Switch, field, doc)
}

func count(name string, field func(*Config) any, least, most int64, doc string) Key {
	k := newKey(name, Count, field, doc)
	k.min, k.max = least, most
	return k
}

func size(name string, field func(*Config) any, least, most int64, doc string) Key {
	k := newKey(name, Bytes, field, doc)
	k.min, k.max = least, most
	return k
}

func span(name string, field func(*Config) any, least, most, whole time.Duration, doc string) Key {
	k := newKey(name, Span, field, doc)
	k.min, k.max, k.whole = int64(least), int64(most), int64(whole)
	return k
}

// section splits a key's name: "limits.max_inflight" is "limits" and
// "max_inflight", "loops" is "" and "loops".
func (k Key) section() (section, name string) {
	if s, n, ok := strings.Cut(k.Name, "."); ok {
		return s, n
	}
	return "", k.Name
}
