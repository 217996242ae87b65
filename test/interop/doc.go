// Package interop holds tests of the broker with clients that other people wrote: Eclipse Paho for Go in both its
// versions, the command line tools of Mosquitto, and npm's mqtt over TCP and WebSocket.
//
// It has no code besides its tests, and is a module of its own so that none of those clients becomes a dependency of
// the product. deps.sh installs what the tests need; broker_test.go starts the program under test and is where to start
// reading; then one file for each family of clients. chaos_test.go is the other way around: our client with Mosquitto's
// broker. speed_test.go measures our client beside Paho's. check_test.go runs `myelin check` against Mosquitto's
// broker and ours.
//
// Environment:
//
//	MYELIN_BIN  the program to start (default ../../bin/myelin)
//	MYELIN_IO   the connection drivers to test, comma separated (default reactor,goroutine)
//	MYELIN_TCP  host:port of a broker that runs already; nothing is started then
//	MYELIN_WS   ws://host:port/path of that broker; without it nothing is tested over WebSocket
package interop
