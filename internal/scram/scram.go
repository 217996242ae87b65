// Package scram is SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides: a proof that
// a client knows a password, and that the server keeps what follows from it,
// without the password ever being sent. There is no channel binding.
//
// A Verifier is what a server keeps (verifier.go); Server and Client are the two
// sides of one exchange of four messages. The package reads no clock and does no
// input or output. Start reading at Server.
package scram

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Method is the name of the mechanism, as MQTT's Authentication Method.
const Method = "SCRAM-SHA-256"

// Limits of what the other side may send.
const (
	maxMessage = 8 << 10 // bytes of a message
	maxNonce   = 1 << 10 // bytes of the nonces of both together
)

var (
	// ErrMalformed: the other side's message is not one of the mechanism.
	ErrMalformed = errors.New("not a message of SCRAM")
	// ErrProof: the other side does not know the password, or what is kept of it.
	ErrProof = errors.New("the proof is wrong")
	// ErrBinding: the client wants what this package does not have.
	ErrBinding = errors.New("channel binding is not supported")
)

// nonceBytes are drawn for each exchange, 24 characters in a message.
const nonceBytes = 18

func newNonce() string {
	b := make([]byte, nonceBytes)
	_, _ = rand.Read(b) // it never fails
	return base64.StdEncoding.EncodeToString(b)
}

// gs2 is the head of a client's first message: no channel binding.
const gs2 = "n,,"

// Server is the server's side of one exchange.
type Server struct {
	// User is who the client says it is, after First.
	User string

	head   string // of the client's first message
	nonce  string // of both
	signed string // the messages so far, as the proof signs them
	want   string // what the client's final message begins with
	v      Verifier
	known  bool
}

// First reads the client's first message, and finds User.
func (s *Server) First(message []byte) error {
	text, err := plain(message)
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(text, ",")
	authzid, bare, ok2 := strings.Cut(rest, ",")
	switch {
	case !ok || !ok2:
		return ErrMalformed
	case strings.HasPrefix(head, "p="):
		return ErrBinding
	case head != "n" && head != "y":
		return ErrMalformed
	case authzid != "":
		return fmt.Errorf("%w: an identity to act for is not supported", ErrMalformed)
	}
	user, nonce, ok := strings.Cut(bare, ",")
	if !ok || !strings.HasPrefix(user, "n=") || !strings.HasPrefix(nonce, "r=") {
		return ErrMalformed // an extension that must be understood begins with m=
	}
	nonce, _, _ = strings.Cut(nonce[2:], ",") // extensions after it may be ignored
	if s.User, ok = unescape(user[2:]); !ok || s.User == "" {
		return fmt.Errorf("%w: the user name", ErrMalformed)
	}
	if !printable(nonce) || len(nonce) > maxNonce {
		return fmt.Errorf("%w: the nonce", ErrMalformed)
	}
	s.head, s.nonce, s.signed = head+",,", nonce, bare
	return nil
}

// Challenge is the server's first message, with what it keeps of the user's
// password. known false: there is no such user, v is a made-up one, and Final
// fails as it does for a wrong password.
func (s *Server) Challenge(v Verifier, known bool) []byte {
	s.v, s.known = v, known
	s.nonce += newNonce()
	first := "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(v.Salt) + ",i=" + strconv.Itoa(v.Iterations)
	s.signed += "," + first + ","
	s.want = "c=" + base64.StdEncoding.EncodeToString([]byte(s.head)) + ",r=" + s.nonce
	return []byte(first)
}

// Final reads the client's final message. It returns the server's, which proves
// to the client that the server keeps what follows from the password.
func (s *Server) Final(message []byte) ([]byte, error) {
	text, err := plain(message)
	if err != nil {
		return nil, err
	}
	without, proof, ok := cutLast(text, ",p=")
	if !ok || s.want == "" || without != s.want && !strings.HasPrefix(without, s.want+",") {
		return nil, fmt.Errorf("%w: the final one of the client", ErrMalformed)
	}
	signed := s.signed + without
	p, err := base64.StdEncoding.DecodeString(proof)
	if err != nil || len(p) != sha256.Size {
		return nil, fmt.Errorf("%w: the proof", ErrMalformed)
	}
	key := make([]byte, sha256.Size)
	subtle.XORBytes(key, p, mac(s.v.StoredKey, signed))
	stored := sha256.Sum256(key)
	if subtle.ConstantTimeCompare(stored[:], s.v.StoredKey) != 1 || !s.known {
		return nil, ErrProof
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(mac(s.v.ServerKey, signed))), nil
}

// Client is the client's side of one exchange.
type Client struct {
	User     string
	Password []byte
	// MaxIterations is how much work the server may ask for, 0: 10,000,000.
	MaxIterations int

	bare, nonce string
	signature   []byte // that the server must send
}

const (
	minIterations = 4096 // RFC 7677
	maxIterations = 10_000_000
)

// First is the client's first message.
func (c *Client) First() []byte {
	c.nonce = newNonce()
	c.bare = "n=" + escape(c.User) + ",r=" + c.nonce
	c.signature = nil
	return []byte(gs2 + c.bare)
}

// Final answers the server's first message.
func (c *Client) Final(message []byte) ([]byte, error) {
	text, err := plain(message)
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(text, ",", 4)
	if len(parts) < 3 || !strings.HasPrefix(parts[0], "r=") || !strings.HasPrefix(parts[1], "s=") || !strings.HasPrefix(parts[2], "i=") {
		return nil, fmt.Errorf("%w: the first one of the server", ErrMalformed)
	}
	nonce := parts[0][2:]
	if c.nonce == "" || !strings.HasPrefix(nonce, c.nonce) || len(nonce) == len(c.nonce) || !printable(nonce) {
		return nil, fmt.Errorf("%w: the nonce is not an answer to the client's", ErrMalformed)
	}
	salt, err := base64.StdEncoding.DecodeString(parts[1][2:])
	if err != nil || len(salt) == 0 {
		return nil, fmt.Errorf("%w: the salt", ErrMalformed)
	}
	most := c.MaxIterations
	if most == 0 {
		most = maxIterations
	}
	n, err := strconv.Atoi(parts[2][2:])
	if err != nil || n < minIterations || n > most {
		return nil, fmt.Errorf("%w: the server wants %q iterations, %d to %d are allowed", ErrMalformed, parts[2][2:], minIterations, most)
	}
	salted, err := saltedPassword(c.Password, salt, n)
	if err != nil {
		return nil, err
	}
	without := "c=" + base64.StdEncoding.EncodeToString([]byte(gs2)) + ",r=" + nonce
	signed := c.bare + "," + text + "," + without
	key := mac(salted, clientKey)
	stored := sha256.Sum256(key)
	proof := make([]byte, sha256.Size)
	subtle.XORBytes(proof, key, mac(stored[:], signed))
	c.signature = mac(mac(salted, serverKey), signed)
	c.nonce = "" // for one answer only
	return []byte(without + ",p=" + base64.StdEncoding.EncodeToString(proof)), nil
}

// Finish checks the server's final message.
func (c *Client) Finish(message []byte) error {
	text, err := plain(message)
	if err != nil {
		return err
	}
	v, ok := strings.CutPrefix(text, "v=")
	if !ok {
		return fmt.Errorf("%w: the final one of the server", ErrMalformed)
	}
	v, _, _ = strings.Cut(v, ",")
	sig, err := base64.StdEncoding.DecodeString(v)
	if err != nil || c.signature == nil || subtle.ConstantTimeCompare(sig, c.signature) != 1 {
		return fmt.Errorf("the server does not know the password: %w", ErrProof)
	}
	return nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// plain is a message as text, if it can be one.
func plain(m []byte) (string, error) {
	if len(m) == 0 || len(m) > maxMessage || bytes.IndexByte(m, 0) >= 0 {
		return "", ErrMalformed
	}
	return string(m), nil
}

// printable tells whether a nonce has the characters that one may have.
func printable(nonce string) bool {
	for i := range len(nonce) {
		if c := nonce[i]; c < 0x21 || c > 0x7e || c == ',' {
			return false
		}
	}
	return nonce != ""
}

func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// escape writes a user name: a comma and an equals sign have a meaning.
func escape(user string) string {
	return strings.NewReplacer("=", "=3D", ",", "=2C").Replace(user)
}

func unescape(name string) (string, bool) {
	if !strings.Contains(name, "=") {
		return name, true
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(name, "=")
		b.WriteString(before)
		if !ok {
			return b.String(), true
		}
		switch {
		case strings.HasPrefix(after, "3D"):
			b.WriteByte('=')
		case strings.HasPrefix(after, "2C"):
			b.WriteByte(',')
		default:
			return "", false
		}
		name = after[2:]
	}
}
