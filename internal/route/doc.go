// Package route answers who gets a message: the subscriptions of all sessions (Table), the answers that one loop remembers (Cache), shared subscriptions
// (Group), and the retained messages that a new subscription asks for (Retained). It is generic over the session's handle and the message and knows neither.
// It does no I/O, starts no goroutine, reads no clock, and decides nothing about access, downgrades of QoS or queues.
//
// Read table.go first: what a subscription is and how the table is cut into shards. Below it stand node.go and trie.go (where the subscribers of one
// filter hang), slots.go (the hash tables that readers use without a lock) and list.go (the subscribers themselves). walk.go collects the lists that match a
// name, merge.go makes one answer of them, cache.go keeps it. retained.go, sorted.go and cursor.go are the other half.
//
// # How readers do without locks
//
// Whatever a reader can reach is either never changed after it was published, or a single atomic pointer. A writer holds the lock of its shard, makes the new
// thing beside the old one, stores one pointer, and then raises the table's epoch. A reader first loads the epoch, then walks, and remembers its
// answer under that epoch: an answer that a writer overtook is thrown away at the next look. So a reader may see the table as it was when its walk began, never
// a mixture that lacks a subscription which was there all the time; and a walk that begins after a change returned sees that change.
package route
