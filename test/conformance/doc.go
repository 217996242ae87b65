// Package conformance holds the running program to the MQTT standards: it speaks raw packets over sockets, with a speaker of its own, so
// that a fault in the project's packet code cannot hide itself here.
//
// Everything in it is a test behind the build tag `conformance`:
//
//	go test -tags conformance -count=1 ./test/conformance/...
//
// builds the program, starts it once on free loopback ports, and runs every case in parallel. MYELIN_BIN names a program built already;
// MYELIN_URL=host:port runs the cases against any other broker (MYELIN_WS_URL=host:port/path for its WebSocket listener).
// The flag -table FILE writes the statements and what came of them as Markdown; -rewrite writes testdata/malformed.tsv anew;
// -ws runs the cases and the rows of that table over WebSocket; -serve "--io goroutine" starts the program with more arguments.
//
// Start reading at main_test.go (the program under test) and case_test.go (what a case is). wire_test.go builds packets, valid or not;
// decode_test.go reads, strictly, what the server sends; client_test.go is the connection with its expectations; ws_test.go carries it in
// WebSocket frames. The cases are in the files *_cases_test.go; malformed_*_test.go generates and runs the table of bad packets.
// testdata/statements.tsv maps every normative statement of 5.0 and 3.1.1, and every known edge case, to its cases or to the reason why a
// server cannot be held to it; statements_test.go checks that nothing is missing there.
//
// The package imports nothing of the project.
package conformance
