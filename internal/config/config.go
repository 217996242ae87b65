// Package config turns a YAML file, the environment and the command line's
// flags into one plain struct, and reports everything that is wrong with them
// in one run, each fault with its place and what to try.
//
// One table (keys.go) says which settings exist. The file's keys, the
// environment's names, the flags and docs/configuration.md all come from it. A
// flag beats the environment, the environment beats the file, the file beats
// the default.
//
// The package does not know what the settings do: package cli hands them to
// the broker. It starts no goroutine and reads nothing but the file that it is
// given. Start reading at Load.
package config

import "time"

// Config is every setting of `myelin serve`, with defaults filled in. The
// units, defaults and bounds of each are in the table of keys.go and in
// docs/configuration.md.
type Config struct {
	Listeners          []Listener    // where clients connect; at least one
	IO                 string        // connection driver: auto, reactor or goroutine
	Loops              int           // event loops; 0: one for each processor
	Data               string        // directory for state that outlives the program
	Durability         string        // what an acknowledgement promises: fsync, async or memory, which does not use the directory
	ShutdownGrace      time.Duration // time for a drain before connections are cut
	AllowEmptyClientID bool          // assign an identifier to a client that sends none
	Pprof              string        // loopback address for net/http/pprof; "": off

	Access         Access // of listeners that have none of their own
	TLS            TLS    // likewise
	Authentication Authentication

	Disk   Disk
	Log    Log
	Limits Limits
	Queue  Queue
	Shared Shared
	Retain Retain
	Sys    Sys

	Authorization Authorization
}

// Listener is one place where clients connect.
type Listener struct {
	URL string // tcp or tls://host:port, unix:///path, ws or wss://host:port/path
	TLS *TLS   // of tls and wss; nil for the others. What it leaves out is section tls's.
	// Access is the listener's own, with what it leaves out from section access;
	// nil: it has none.
	Access *Access
}

// Access says who may connect by a listener. Lists are of addresses and networks,
// such as 192.0.2.7 and 2001:db8::/32.
type Access struct {
	Allow, Deny           []string // none in Allow: all but those in Deny
	MaxConnectionsPerAddr int      // 0: no limit
	Rate, RatePerAddr     int      // new connections a second; 0: no limit
	Proxies               []string // whose connections begin with a PROXY header
}

// TLS is how connections are encrypted, and who may make them. Files are as they
// are to be opened: relative paths in a configuration file count from its folder.
type TLS struct {
	Cert, Key, OCSP []string // files of certificates; the first is the default. Key: one for each, or none; OCSP too, "" for none
	ClientCA        string   // file of authorities whose certificates clients may show
	ClientCerts     string   // none, optional or required
	CRL             []string // files of revocation lists
	CRLMode         string   // strict: without a list that is up to date nobody is let in; lenient
	MinVersion      string   // 1.2 or 1.3
	MaxVersion      string
	UsernameFrom    string        // template over a client's certificate; "": the CONNECT's
	ClientIDFrom    string        // likewise
	Reload          time.Duration // between two looks at the files; 0: only at SIGHUP
}

// Authentication says who may connect.
type Authentication struct {
	Methods      []string      // asked in this order; none: everybody may connect
	PasswordFile string        // users and hashes of passwords
	Workers      int           // passwords hashed at a time; 0: half the processors
	Queue        int           // passwords that may wait for that
	Remember     time.Duration // how long a right password is not hashed again; 0: never
	SlowDown     time.Duration // delay of the first refusal, doubling; 0: none
	SlowDownMax  time.Duration // and the longest
}

// Disk says when the disk of the data directory counts as full.
type Disk struct {
	MinFree Size // free bytes that are left alone; 0: 64 MiB, but at most an eighth of the disk
}

// Log says what is logged and how.
type Log struct {
	Level  string // debug, info, warn or error
	Format string // text or json
}

// Limits bound what one client, or all of them together, can take.
type Limits struct {
	MaxConnections     int           // open connections; 0: no limit
	ConnectTimeout     time.Duration // from accept to a complete CONNECT
	MaxPacketSize      Size          // a packet from a client
	MaxConnectPacket   Size          // a packet from a client that is not yet accepted
	MaxKeepAlive       time.Duration // keep alive imposed on clients; 0: theirs
	ReceiveMaximum     int           // unacknowledged QoS 1 and 2 messages from a client
	MaxInflight        int           // unacknowledged QoS 1 and 2 messages to a client
	MaxInflightBytes   Size          // bytes of the latter
	TopicAliasMaximum  int           // topic aliases a client may set; 0: none
	TopicAliasOutbound int           // topic aliases set for a client; 0: none
	MaxTopicLevels     int           // levels of a topic name or filter; 0: no limit
	MaxSubscriptions   int           // subscriptions of one client; 0: no limit
	MaxSessionExpiry   time.Duration // whole seconds; 0: as the client asks
	MaxOutboundBytes   Size          // bytes waiting for one connection's socket before QoS 0 is dropped
}

// Queue bounds what waits for a client that is away or slow.
type Queue struct {
	MaxMessages   int    // messages of one client; 0: no limit
	TotalMessages int    // of all durable sessions; 0: no limit
	TotalBytes    Size   // 0: no limit on disk
	MaxBytes      Size   // bytes of one client; 0: no limit
	Policy        string // drop_oldest, drop_new or refuse
	QoS0          bool   // whether QoS 0 messages wait for a client that is away
}

// Shared says how a shared subscription chooses a member.
type Shared struct {
	Strategy string // round_robin, random, sticky or least_inflight
}

// Retain bounds the retained messages.
type Retain struct {
	Enabled     bool // off: MQTT 5 clients may not send RETAIN, and nothing is retained
	MaxMessages int  // 0: no limit
	MaxBytes    Size // topics and payloads together; 0: no limit
}

// Sys says how often $SYS topics are brought up to date.
type Sys struct {
	Interval time.Duration // 0: no $SYS topics
}

// Authorization says where the rules are of who may publish and subscribe where.
type Authorization struct {
	Policy string // file; "": everybody may everything
	Format string // auto, yaml or mosquitto
}

// Default returns the settings of a broker that nobody configured: it listens
// on loopback only.
func Default() Config {
	return Config{
		Listeners: []Listener{
			{URL: "tcp://127.0.0.1:1883"},
			{URL: "ws://127.0.0.1:8083/mqtt"},
		},
		IO:                 "auto",
		Data:               "myelin-data",
		Durability:         "fsync",
		ShutdownGrace:      10 * time.Second,
		AllowEmptyClientID: true,
		TLS:                TLS{ClientCerts: "none", CRLMode: "strict", MinVersion: "1.2", MaxVersion: "1.3", Reload: 5 * time.Second},
		Authentication: Authentication{
			Queue: 1024, Remember: 10 * time.Minute, SlowDown: 250 * time.Millisecond, SlowDownMax: 5 * time.Second,
		},
		Log: Log{Level: "info", Format: "text"},
		Limits: Limits{
			ConnectTimeout:     10 * time.Second,
			MaxPacketSize:      1 << 20,
			MaxConnectPacket:   128 << 10,
			ReceiveMaximum:     1024,
			MaxInflight:        1024,
			MaxInflightBytes:   4 << 20,
			TopicAliasMaximum:  64,
			TopicAliasOutbound: 32,
			MaxOutboundBytes:   4 << 20,
		},
		Queue:  Queue{TotalMessages: 10_000_000, MaxMessages: 10_000, MaxBytes: 32 << 20, Policy: "drop_oldest"},
		Shared: Shared{Strategy: "round_robin"},
		Retain: Retain{Enabled: true},
		Sys:    Sys{Interval: 10 * time.Second},

		Authorization: Authorization{Format: "auto"},
	}
}
