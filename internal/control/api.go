package control

import "time"

// SocketName is the name of the socket in the data directory.
const SocketName = "control.sock"

// The paths of the API.
const (
	pathState  = "/v1/store/state"  // GET
	pathQueues = "/v1/store/queues" // GET ?limit=20&sort=bytes|messages
	pathBackup = "/v1/store/backup" // POST BackupRequest
)

// State is the answer of /v1/store/state.
type State struct {
	PID           int       `json:"pid"`
	Version       string    `json:"version"`
	Started       time.Time `json:"started"`
	Data          string    `json:"data"` // the data directory, absolute
	Durability    string    `json:"durability"`
	Store         string    `json:"store"`     // ok; full: the disk is; failed: nothing is acknowledged until a restart
	DiskFree      int64     `json:"disk_free"` // bytes of room on the disk, -1: not known
	Sessions      int       `json:"sessions"`
	Connected     int64     `json:"connected"`
	Queued        int       `json:"queued"` // messages that wait for sessions
	QueuedBytes   int64     `json:"queued_bytes"`
	Retained      int       `json:"retained"`
	RetainedBytes int64     `json:"retained_bytes"`
}

// Queues is the answer of /v1/store/queues.
type Queues struct {
	Holders  int      `json:"holders"`  // sessions that hold something
	Messages int      `json:"messages"` // a message counts for each session that it waits for
	Bytes    int64    `json:"bytes"`    // topics and payloads
	Top      []Holder `json:"top"`      // those that hold most, the most first
}

// Holder is a session with what it holds: messages that wait for it, or are in
// flight to its client.
type Holder struct {
	ClientID  string `json:"client_id"`
	Messages  int    `json:"messages"`
	Bytes     int64  `json:"bytes"`
	Connected bool   `json:"connected"`
}

// BackupRequest is what /v1/store/backup is sent.
type BackupRequest struct {
	Dir string `json:"dir"` // absolute; it must not exist, or be empty
}

// Backup is the answer of /v1/store/backup.
type Backup struct {
	Dir string `json:"dir"`
}

// Problem is the answer where something went wrong.
type Problem struct {
	What string `json:"error"`
}
