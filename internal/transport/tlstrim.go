package transport

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// trim gives back the input buffers of a tls.Conn that are empty: they keep the size of the largest record, and of the
// ClientHello, for as long as the connection lives. There is no other way to them. If they are not what they were when
// this was written, nothing happens but that connections are larger; a test tells.
func (l *tlsConn) trim() {
	for _, at := range l.c.l.s.trims {
		b := (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(l.tc), at))
		if b.Len() == 0 && b.Cap() > 0 {
			*b = bytes.Buffer{}
		}
	}
}

// inputBuffers finds the places of the buffers in a tls.Conn.
func inputBuffers() (at []uintptr) {
	t := reflect.TypeFor[tls.Conn]()
	for _, name := range []string{"rawInput", "hand"} {
		if f, ok := t.FieldByName(name); ok && f.Type == reflect.TypeFor[bytes.Buffer]() {
			at = append(at, f.Offset)
		}
	}
	return at
}
