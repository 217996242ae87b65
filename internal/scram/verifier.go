package scram

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Verifier is what a server keeps of a password. It does not let anybody log in
// who reads it, but lets them try passwords.
type Verifier struct {
	Iterations           int // of PBKDF2
	Salt                 []byte
	StoredKey, ServerKey []byte // 32 bytes each
}

// The texts that keys are derived with.
const (
	clientKey = "Client Key"
	serverKey = "Server Key"
)

// DefaultIterations is what New is called with where nobody says otherwise.
const DefaultIterations = 32768

// maxSalt bounds the salt of a verifier, in bytes.
const maxSalt = 1 << 10

// New derives a verifier from a password, with a salt of its own.
func New(password []byte, iterations int) (Verifier, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // it never fails
	return derive(password, salt, iterations)
}

func derive(password, salt []byte, iterations int) (Verifier, error) {
	salted, err := saltedPassword(password, salt, iterations)
	if err != nil {
		return Verifier{}, err
	}
	stored := sha256.Sum256(mac(salted, clientKey))
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: mac(salted, serverKey)}, nil
}

// saltedPassword takes the password byte for byte: it is not normalised, so that
// one with letters outside of ASCII must be typed alike everywhere.
func saltedPassword(password, salt []byte, iterations int) ([]byte, error) {
	k, err := pbkdf2.Key(sha256.New, string(password), salt, iterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return k, nil
}

// Matches tells whether a password is the one that the verifier is of.
func (v Verifier) Matches(password []byte) bool {
	is, err := derive(password, v.Salt, v.Iterations)
	return err == nil && subtle.ConstantTimeCompare(is.StoredKey, v.StoredKey) == 1
}

// MadeUp is the verifier of nobody, for a user who does not exist: always the
// same for a name, as it would be for a user, and told apart from others only
// with the key. iterations are those of the users that exist.
func MadeUp(key []byte, user string, iterations, saltBytes int) Verifier {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(user))
	seed := h.Sum(nil)
	salt := seed
	for len(salt) < saltBytes {
		salt = append(salt, mac(seed, strconv.Itoa(len(salt)))...)
	}
	return Verifier{Iterations: iterations, Salt: salt[:saltBytes], StoredKey: mac(seed, clientKey), ServerKey: mac(seed, serverKey)}
}

// prefix of the text of a verifier.
const prefix = "$scram-sha-256$"

// String writes a verifier as a file of passwords has it:
// $scram-sha-256$i=ITERATIONS,s=SALT$STORED KEY$SERVER KEY, the last three in Base64.
func (v Verifier) String() string {
	b := base64.StdEncoding.EncodeToString
	return prefix + "i=" + strconv.Itoa(v.Iterations) + ",s=" + b(v.Salt) + "$" + b(v.StoredKey) + "$" + b(v.ServerKey)
}

// Parse reads what String writes. Its errors do not show what they read.
func Parse(text string) (Verifier, error) {
	rest, ok := strings.CutPrefix(text, prefix)
	parts := strings.Split(rest, "$")
	if !ok || len(parts) != 3 {
		return Verifier{}, errors.New("wants " + prefix + "i=…,s=…$…$…")
	}
	i, s, ok := strings.Cut(parts[0], ",s=")
	n, err := strconv.Atoi(strings.TrimPrefix(i, "i="))
	if !ok || !strings.HasPrefix(i, "i=") || err != nil || n < minIterations || n > maxIterations {
		return Verifier{}, fmt.Errorf("wants %d to %d iterations, and a salt", minIterations, maxIterations)
	}
	v := Verifier{Iterations: n}
	for _, x := range []struct {
		to          *[]byte
		text        string
		least, most int
	}{{&v.Salt, s, 1, maxSalt}, {&v.StoredKey, parts[1], sha256.Size, sha256.Size}, {&v.ServerKey, parts[2], sha256.Size, sha256.Size}} {
		b, err := base64.StdEncoding.DecodeString(x.text)
		if err != nil || len(b) < x.least || len(b) > x.most {
			return Verifier{}, errors.New("the salt or a key is not Base64, or has the wrong length")
		}
		*x.to = b
	}
	return v, nil
}
