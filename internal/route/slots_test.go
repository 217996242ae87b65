package route

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// TestSlots drives a table up through its parts and down again, with hashes that collide, and compares it with a map.
func TestSlots(t *testing.T) {
	var s *slots[*sess]
	grave := &node[*sess]{from: isGrave}
	hash := func(i int) uint32 { return uint32(i/2) * 0x9e3779b1 }                // two nodes for each hash
	key := func(i int) string { return fmt.Sprint(i/2) + []string{"", "x"}[i%2] } // of which one is the beginning of the other
	there := map[int]bool{}
	check := func(n int) {
		t.Helper()
		for i := range n {
			c := s.whole(hash(i), key(i))
			if got := c != nil; got != there[i] {
				t.Fatalf("with %d nodes: %d is there: %v", len(there), i, got)
			}
			if l := s.level(hash(i), key(i)); l != c {
				t.Fatalf("with %d nodes: %d is found elsewhere by its level", len(there), i)
			}
			if there[i] && c.Load().key() != key(i) {
				t.Fatalf("with %d nodes: %q stands for %q", len(there), c.Load().key(), key(i))
			}
		}
		found := 0
		for h, n := range s.all() {
			found++
			var i int
			digits, odd := strings.CutSuffix(n.key(), "x")
			fmt.Sscan(digits, &i)
			if i *= 2; odd {
				i++
			}
			if h != stored(hash(i)) || !there[i] {
				t.Fatalf("%q should not be there", n.key())
			}
		}
		if found != len(there) || s != nil && int(s.live) != found {
			t.Fatalf("found %d nodes, want %d", found, len(there))
		}
	}
	remove := func(i int) {
		s = s.remove(hash(i), s.whole(hash(i), key(i)), grave)
		delete(there, i)
	}
	const n = 3 * manyNodes
	for i := range n {
		s = s.add(hash(i), newNode[*sess](key(i), 0))
		there[i] = true
		if i%5 == 4 { // graves among the living
			remove(i - 2)
		}
		if i%1000 == 0 {
			check(i + 5)
		}
	}
	if s.parts == nil {
		t.Error("a large table has no parts")
	}
	for i := range n {
		if there[i] {
			remove(i)
		}
		if i%1000 == 0 {
			check(n)
		}
	}
	if s != nil {
		t.Errorf("an empty table has %d nodes", s.live)
	}
	if n := unsafe.Sizeof(slots[*sess]{}); n > 64 {
		t.Errorf("slots has %d bytes", n)
	}
}

// TestSlotsShrink: a table that was large does not stay large.
func TestSlotsShrink(t *testing.T) {
	var s *slots[*sess]
	const n = 20_000
	for i := range n {
		s = s.add(uint32(i)*0x9e3779b1, newNode[*sess](fmt.Sprint(i), 0))
	}
	for i := range n - 3 {
		s = s.remove(uint32(i)*0x9e3779b1, s.whole(uint32(i)*0x9e3779b1, fmt.Sprint(i)), &node[*sess]{from: isGrave})
	}
	if s.parts != nil || len(s.hashes) > 32 {
		t.Errorf("parts %v, %d cells for 3 nodes", s.parts != nil, len(s.hashes))
	}
}
