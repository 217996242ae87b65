package client

import (
	"fmt"
	"testing"
)

// BenchmarkFileCommit keeps messages of 100 bytes, n in a commit, with their
// identifiers and the end of those before.
func BenchmarkFileCommit(b *testing.B) {
	for _, o := range []FileOptions{{}, {NoSync: true}} {
		for _, n := range []int{1, 100} {
			b.Run(fmt.Sprintf("nosync=%v/messages=%d", o.NoSync, n), func(b *testing.B) {
				f := openFile(b, b.TempDir(), o)
				packet := make([]byte, 100)
				rs := make([]Record, 0, 3*n)
				seq := uint64(n)
				b.ReportAllocs()
				for b.Loop() {
					rs = rs[:0]
					for range n {
						rs = append(rs, Record{Kind: RecordMessage, Seq: seq, At: 1 << 30, Packet: packet},
							Record{Kind: RecordSent, Seq: seq, ID: uint16(seq)}, Record{Kind: RecordDone, Seq: seq - uint64(n)})
						seq++
					}
					if err := f.Commit(rs); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
			})
		}
	}
}

// BenchmarkFileOpen opens and loads 100,000 messages of 100 bytes, of a program
// that was killed: the log is written anew.
func BenchmarkFileOpen(b *testing.B) {
	d := newMemFolder()
	f := mustOpenLog(b, d)
	for i := range uint64(1000) {
		var rs []Record
		for j := range uint64(100) {
			rs = append(rs, Record{Kind: RecordMessage, Seq: i*100 + j, Packet: make([]byte, 100)})
		}
		mustCommit(b, f, rs...)
	}
	for b.Loop() {
		if s := mustLoad(b, mustOpenLog(b, d.killed())); len(s.Out) != 100_000 {
			b.Fatal(len(s.Out))
		}
	}
}
