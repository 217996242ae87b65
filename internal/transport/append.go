package transport

// Append2 is Append of head and then of body, with nothing in between.
func (c *Conn) Append2(t *Turn, head, body []byte) {
	c.mu.Lock()
	if !c.closed {
		c.out.add(t, head)
		c.out.add(t, body)
		c.touch(t)
	}
	c.mu.Unlock()
}
