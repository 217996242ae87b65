package certs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// staple reads the authority's answer about a certificate. One that is out of
// date is left out, as clients would refuse it; until is the end of one that is
// used, zero: it has none.
func (l *loader) staple(file string, leaf *x509.Certificate) (der []byte, until time.Time) {
	text := l.read(file)
	if text == nil {
		return nil, until
	}
	until, err := parseStaple(text, leaf.SerialNumber)
	switch {
	case err != nil:
		l.fault(file, "OCSP answer: "+err.Error(), "`openssl ocsp -issuer CA -cert CERT -url URL -respout FILE` writes one")
		return nil, time.Time{}
	case !until.IsZero() && l.now.After(until):
		l.warn("%s: the OCSP answer is out of date since %s, and not sent", file, until.Format(time.RFC3339))
		return nil, time.Time{}
	}
	return text, until
}

// The parts of an answer that are looked at, RFC 6960, 4.2.1.
type (
	ocspResponse struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type     asn1.ObjectIdentifier
			Response []byte
		} `asn1:"explicit,tag:0,optional"`
	}
	ocspBasic struct {
		Data struct {
			Version   int `asn1:"explicit,tag:0,optional"`
			Responder asn1.RawValue
			Produced  time.Time `asn1:"generalized"`
			Single    []ocspSingle
			More      asn1.RawValue `asn1:"optional"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
		Certs     asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	ocspSingle struct {
		ID struct {
			Hash      pkix.AlgorithmIdentifier
			Name, Key []byte
			Serial    *big.Int
		}
		Status asn1.RawValue // [0]: good, [1]: revoked, [2]: unknown
		This   time.Time     `asn1:"generalized"`
		Next   time.Time     `asn1:"generalized,explicit,tag:0,optional"`
		More   asn1.RawValue `asn1:"optional"`
	}
)

// parseStaple finds until when an answer says that the certificate with the
// serial number is good. Its signature is for the client to check.
func parseStaple(der []byte, serial *big.Int) (until time.Time, err error) {
	var r ocspResponse
	if rest, err := asn1.Unmarshal(der, &r); err != nil || len(rest) > 0 {
		return until, errors.New("it cannot be read")
	}
	if r.Status != 0 {
		return until, fmt.Errorf("it is the refusal %d", r.Status)
	}
	var b ocspBasic
	if rest, err := asn1.Unmarshal(r.Bytes.Response, &b); err != nil || len(rest) > 0 {
		return until, errors.New("it cannot be read")
	}
	for _, s := range b.Data.Single {
		if s.ID.Serial == nil || s.ID.Serial.Cmp(serial) != 0 {
			continue
		}
		if s.Status.Class != asn1.ClassContextSpecific || s.Status.Tag != 0 {
			return until, errors.New("it does not say that the certificate is good")
		}
		return s.Next, nil
	}
	return until, errors.New("it is about another certificate")
}
