package transport

import (
	"net"
	"testing"
)

func dialWS(t testing.TB, nc net.Conn) net.Conn { t.Skip("no ws yet"); return nc }
