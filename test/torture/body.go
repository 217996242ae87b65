package main

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// bodyHead is what stands in front of the filling of a payload: stream (4 bytes), sequence number (8), checksum of
// everything else (4).
const bodyHead = 16

// appendBody appends the payload of message seq of a stream: size bytes, or bodyHead if that is more.
func appendBody(dst []byte, stream int, seq uint64, size int) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(stream))
	dst = binary.BigEndian.AppendUint64(dst, seq)
	dst = append(dst, 0, 0, 0, 0)
	x := seq*0x9E3779B97F4A7C15 + uint64(stream)
	for len(dst)-start < size {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		dst = binary.LittleEndian.AppendUint64(dst, x)
	}
	dst = dst[:start+max(size, bodyHead)]
	b := dst[start:]
	binary.BigEndian.PutUint32(b[12:], bodySum(b))
	return dst
}

// parseBody is the reverse. It fails if a bit has changed.
func parseBody(b []byte) (stream int, seq uint64, err error) {
	if len(b) < bodyHead {
		return 0, 0, errors.New("the payload is too short")
	}
	if binary.BigEndian.Uint32(b[12:]) != bodySum(b) {
		return 0, 0, errors.New("the payload's checksum is wrong")
	}
	return int(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint64(b[4:]), nil
}

func bodySum(b []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(b[:12]), crc32.IEEETable, b[bodyHead:])
}
