// Package check finds out what an MQTT server can do, and whether it keeps the
// promises of the standard and of its own CONNACK. It is a client that counts
// packets, not a load: each check runs in sessions and on topics of its own, and
// takes away what it made. It does not print, and holds nothing of our broker.
//
// A check is a function and a row in the table of table.go. It tells by its
// error what it found: nil, a promise was kept; broken and its like make the
// other verdicts.
//
// Start with Run in check.go, then table.go; trial.go is what a check has at
// hand, conn.go its connections, and the rest are the checks, a file for each
// group.
package check
