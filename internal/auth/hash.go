package auth

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"

	"github.com/myelin-mqtt/myelin/internal/scram"
)

// scheme is how a password was hashed.
type scheme uint8

const (
	argon2id scheme = iota // $argon2id$v=19$m=…,t=…,p=…$SALT$HASH
	bcrypted               // $2a$, $2b$, $2y$
	sha512ed               // Mosquitto's $6$SALT$HASH
	pbkdf2ed               // Mosquitto's $7$ITERATIONS$SALT$HASH
	scrammed               // $scram-sha-256$i=…,s=…$STORED KEY$SERVER KEY
)

// Costs of new hashes: 19 MiB and about 20 ms each, so that many clients can come
// back at a time.
const (
	argonMemory = 19 << 10 // KiB
	argonPasses = 2
	argonLanes  = 1
	saltBytes   = 16
	sumBytes    = 32
)

// The most that a hash in a file may cost: somebody who can add a line must not
// be able to stop the broker with it.
const (
	maxArgonMemory = 256 << 10 // KiB
	maxArgonWork   = 4 << 20   // KiB, all passes together
	maxArgonLanes  = 64
	maxBcryptCost  = 15
	maxIterations  = 10_000_000
	maxSaltBytes   = 1 << 10
	maxHashText    = 4 << 10
)

// maxPassword is the longest password that is looked at, in bytes.
const maxPassword = 4 << 10

// hash is one hashed password.
type hash struct {
	scheme scheme
	text   string // as it is written
	salt   []byte
	sum    []byte
	n      int // iterations, or passes
	memory int // KiB
	lanes  int
	scram  scram.Verifier
}

// matches hashes the password and compares. It takes as long for a right one as
// for a wrong one.
func (h *hash) matches(password []byte) bool {
	var is []byte
	switch h.scheme {
	case argon2id:
		is = argon2.IDKey(password, h.salt, uint32(h.n), uint32(h.memory), uint8(h.lanes), uint32(len(h.sum)))
	case bcrypted:
		return bcrypt.CompareHashAndPassword([]byte(h.text), password) == nil
	case sha512ed:
		s := sha512.New()
		s.Write(password)
		s.Write(h.salt)
		is = s.Sum(nil)
	case pbkdf2ed:
		var err error
		if is, err = pbkdf2.Key(sha512.New, string(password), h.salt, h.n, len(h.sum)); err != nil {
			return false
		}
	case scrammed:
		return h.scram.Matches(password)
	}
	return subtle.ConstantTimeCompare(is, h.sum) == 1
}

// newHash hashes a password with argon2id.
func newHash(password []byte) string {
	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // it never fails
	sum := argon2.IDKey(password, salt, argonPasses, argonMemory, argonLanes, sumBytes)
	b := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes, b(salt), b(sum))
}

// parseHash reads a hash. Its errors do not show what they read.
func parseHash(text string) (*hash, error) {
	if len(text) > maxHashText {
		return nil, errors.New("the hash is too long")
	}
	h := &hash{text: text}
	var err error
	switch {
	case strings.HasPrefix(text, "$argon2id$"):
		err = h.parseArgon2(strings.Split(text, "$"))
	case strings.HasPrefix(text, "$2a$"), strings.HasPrefix(text, "$2b$"), strings.HasPrefix(text, "$2y$"):
		err = h.parseBcrypt()
	case strings.HasPrefix(text, "$6$"):
		err = h.parseSHA512(strings.Split(text, "$"))
	case strings.HasPrefix(text, "$7$"):
		err = h.parsePBKDF2(strings.Split(text, "$"))
	case strings.HasPrefix(text, "$scram-sha-256$"):
		h.scheme = scrammed
		h.scram, err = scram.Parse(text)
	case strings.HasPrefix(text, "$"):
		err = hinted("the hash is of a kind that is not known", "it can be argon2id, bcrypt, scram-sha-256, or Mosquitto's $6$ and $7$; `myelin passwd` makes one")
	default:
		err = hinted("no hash after the user name", "a password is not written into the file: `myelin passwd` writes its hash")
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

// parseArgon2 reads the string format of the Password Hashing Competition.
func (h *hash) parseArgon2(parts []string) error {
	const wants = "argon2id: wants $argon2id$v=19$m=…,t=…,p=…$SALT$HASH"
	h.scheme = argon2id
	if len(parts) != 6 {
		return errors.New(wants)
	}
	if parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return errors.New("argon2id: only version 19 is known")
	}
	costs := strings.Split(parts[3], ",")
	if len(costs) != 3 {
		return errors.New(wants)
	}
	for i, c := range []struct {
		name string
		to   *int
		most int
	}{{"m=", &h.memory, maxArgonMemory}, {"t=", &h.n, maxArgonWork}, {"p=", &h.lanes, maxArgonLanes}} {
		n, err := strconv.Atoi(strings.TrimPrefix(costs[i], c.name))
		if err != nil || !strings.HasPrefix(costs[i], c.name) || n < 1 {
			return errors.New(wants)
		}
		if n > c.most {
			return fmt.Errorf("argon2id: %s may be %d at most", strings.TrimSuffix(c.name, "="), c.most)
		}
		*c.to = n
	}
	if h.memory < 8*h.lanes {
		return errors.New("argon2id: m must be at least 8 times p")
	}
	if h.memory*h.n > maxArgonWork {
		return fmt.Errorf("argon2id: m times t may be %d at most", maxArgonWork)
	}
	return h.binary(base64.RawStdEncoding, parts[4], parts[5], 4, 64)
}

func (h *hash) parseBcrypt() error {
	h.scheme = bcrypted
	cost, err := bcrypt.Cost([]byte(h.text))
	if err != nil || len(h.text) != 60 {
		return errors.New("bcrypt: wants $2b$COST$ and 53 characters")
	}
	if cost > maxBcryptCost {
		return fmt.Errorf("bcrypt: a cost of %d, at most %d", cost, maxBcryptCost)
	}
	return nil
}

// parseSHA512 reads Mosquitto's own $6$, which is one round of SHA-512 over the
// password and a salt, and not the $6$ of crypt(3).
func (h *hash) parseSHA512(parts []string) error {
	h.scheme = sha512ed
	if len(parts) == 4 && len(parts[3]) == 86 || len(parts) == 5 && strings.HasPrefix(parts[2], "rounds=") {
		return hinted("a $6$ of crypt(3), as `openssl passwd -6` writes it, and not Mosquitto's", "hash the password anew with `myelin passwd`")
	}
	if len(parts) != 4 {
		return errors.New("wants $6$SALT$HASH")
	}
	return h.binary(base64.StdEncoding, parts[2], parts[3], sha512.Size, sha512.Size)
}

func (h *hash) parsePBKDF2(parts []string) error {
	h.scheme = pbkdf2ed
	if len(parts) != 5 {
		return errors.New("wants $7$ITERATIONS$SALT$HASH")
	}
	n, err := strconv.Atoi(parts[2])
	if err != nil || n < 1 || n > maxIterations {
		return fmt.Errorf("wants 1 to %d iterations after $7$", maxIterations)
	}
	h.n = n
	return h.binary(base64.StdEncoding, parts[3], parts[4], 16, sha512.Size)
}

// binary reads the salt and the sum, the latter of least to most bytes.
func (h *hash) binary(enc *base64.Encoding, salt, sum string, least, most int) (err error) {
	if h.salt, err = enc.DecodeString(salt); err != nil || len(h.salt) == 0 || len(h.salt) > maxSaltBytes {
		return fmt.Errorf("the salt is not Base64 of 1 to %d bytes", maxSaltBytes)
	}
	if h.sum, err = enc.DecodeString(sum); err != nil || len(h.sum) < least || len(h.sum) > most {
		return fmt.Errorf("the hash is not Base64 of %d to %d bytes", least, most)
	}
	return nil
}
