//go:build conformance

package conformance

import (
	"fmt"
	"slices"
)

// sample is a valid occurrence of each property of 5.0.
func sample(id byte) []byte {
	switch id {
	case pPayloadFormat, pProblemInfo, pResponseInfoReq, pMaximumQoS, pRetainAvailable, pWildcards, pSubIDs, pShared:
		return pByte(id, 1)
	case pServerKeepAlive, pReceiveMax, pAliasMax, pAlias:
		return pU16(id, 1)
	case pMessageExpiry, pSessionExpiry, pWillDelay, pMaximumPacket:
		return pU32(id, 1000)
	case pSubscriptionID:
		return pVar(id, 1)
	case pUser:
		return pUserPair("k", "v")
	}
	return pStr(id, text)
}

var allProperties = []byte{pPayloadFormat, pMessageExpiry, pContentType, pResponseTopic, pCorrelation, pSubscriptionID, pSessionExpiry, pAssignedID,
	pServerKeepAlive, pAuthMethod, pAuthData, pProblemInfo, pWillDelay, pResponseInfoReq, pResponseInfo, pServerReference, pReasonString,
	pReceiveMax, pAliasMax, pAlias, pMaximumQoS, pRetainAvailable, pUser, pMaximumPacket, pWildcards, pSubIDs, pShared}

// place is where properties may stand in what a client sends.
type place struct {
	typ     byte
	name    string
	allowed []byte
	strings []byte // those among them that are UTF-8 strings
	build   func(props ...[]byte) []byte
	// rest is the packet with anything in place of the properties and their length.
	rest func(b []byte) []byte
}

func places() []place {
	connectHead := cat(protocol(v5), raw(2), u16(60))
	willHead := cat(protocol(v5), raw(6), u16(60), raw(0), str("client"))
	list := []place{
		{tCONNECT, "", []byte{pSessionExpiry, pReceiveMax, pMaximumPacket, pAliasMax, pResponseInfoReq, pProblemInfo, pUser, pAuthMethod, pAuthData},
			[]byte{pAuthMethod}, nil, func(b []byte) []byte { return frame(tCONNECT<<4, connectHead, b, str("client")) }},
		{tCONNECT, "will-", []byte{pWillDelay, pPayloadFormat, pMessageExpiry, pContentType, pResponseTopic, pCorrelation, pUser},
			[]byte{pContentType, pResponseTopic}, nil,
			func(b []byte) []byte { return frame(tCONNECT<<4, willHead, b, str("a/b"), str("gone")) }},
		{tPUBLISH, "", []byte{pPayloadFormat, pMessageExpiry, pAlias, pResponseTopic, pCorrelation, pUser, pSubscriptionID, pContentType},
			[]byte{pContentType, pResponseTopic}, nil,
			func(b []byte) []byte { return frame(tPUBLISH<<4|2, str("a/b"), u16(9), b, []byte("payload")) }},
		{tSUBSCRIBE, "", []byte{pSubscriptionID, pUser}, nil, nil,
			func(b []byte) []byte { return frame(tSUBSCRIBE<<4|2, u16(9), b, str("a/b"), raw(1)) }},
		{tUNSUBSCRIBE, "", []byte{pUser}, nil, nil,
			func(b []byte) []byte { return frame(tUNSUBSCRIBE<<4|2, u16(9), b, str("a/b")) }},
		{tDISCONNECT, "", []byte{pSessionExpiry, pReasonString, pUser, pServerReference}, []byte{pReasonString}, nil,
			func(b []byte) []byte { return frame(tDISCONNECT<<4, raw(4), b) }},
	}
	for _, t := range []byte{tPUBACK, tPUBREC, tPUBREL, tPUBCOMP} {
		list = append(list, place{t, "", []byte{pReasonString, pUser}, []byte{pReasonString}, nil,
			func(b []byte) []byte { return frame(t<<4|ackFlags(t), u16(9), raw(0), b) }})
	}
	for i := range list {
		rest := list[i].rest
		list[i].build = func(props ...[]byte) []byte { return rest(properties(props...)) }
	}
	return list
}

// propertyFaults adds, for every place where properties may stand, every property that may not, the others twice, cut, and with bad values.
func (g *generator) propertyFaults() {
	if g.v < v5 {
		return
	}
	for _, p := range places() {
		add := func(name string, b []byte, codes ...byte) {
			if p.typ == tCONNECT {
				g.first(p.name+name, b, codes...)
			} else {
				g.later(p.typ, p.name+name, b, codes...)
			}
		}
		for _, id := range allProperties {
			one := sample(id)
			name := fmt.Sprintf("property-%02x", id)
			if !slices.Contains(p.allowed, id) {
				add(name+"-foreign", p.build(one), 0x81)
				add(name+"-foreign-second", p.build(pUserPair("k", "v"), one), 0x81)
				continue
			}
			if id != pUser && !(id == pSubscriptionID && p.typ == tPUBLISH) {
				add(name+"-twice", p.build(one, one), 0x82)
				add(name+"-twice-apart", p.build(one, pUserPair("k", "v"), one), 0x82)
			}
			for n := 1; n < len(one); n++ {
				add(fmt.Sprintf("%s-cut-%d", name, n), p.build(one[:n]), 0x81)
			}
		}
		g.propertyUnknown(p, add)
		g.propertyLengths(p, add)
		g.propertyStrings(p, add)
	}
	g.propertyValues()
}

func (g *generator) propertyUnknown(p place, add func(string, []byte, ...byte)) {
	for _, id := range []byte{0x00, 0x04, 0x05, 0x07, 0x0A, 0x0C, 0x10, 0x14, 0x1B, 0x1D, 0x20, 0x2B, 0x7F} {
		add(fmt.Sprintf("property-%02x-unknown", id), p.build(raw(id, 0)), 0x81)
	}
	add("property-two-byte-identifier", p.build(raw(0x80, 0x01, 0)), 0x81)
	add("property-identifier-not-minimal", p.build(cat(raw(pUser|0x80, 0), pUserPair("k", "v")[1:])), 0x81)
}

func (g *generator) propertyLengths(p place, add func(string, []byte, ...byte)) {
	user := pUserPair("k", "v")
	n := byte(len(user))
	add("property-length-short", p.rest(cat(raw(n-1), user)), 0x81)
	add("property-length-beyond", p.rest(cat(raw(0x7F), user)), 0x81)
	add("property-length-far-beyond", p.rest(cat(raw(0xFF, 0xFF, 0xFF, 0x7F), user)), 0x81)
	add("property-length-not-minimal", p.rest(cat(raw(n|0x80, 0), user)), 0x81)
	add("property-length-zero-not-minimal", p.rest(raw(0x80, 0)), 0x81)
	add("property-length-five-bytes", p.rest(cat(raw(n|0x80, 0x80, 0x80, 0x80, 0), user)), 0x81)
	add("property-length-five-bytes-ff", p.rest(cat(raw(0xFF, 0xFF, 0xFF, 0xFF, 0x7F), user)), 0x81)
	add("property-string-beyond", p.build(raw(pUser, 0, 1, 'k', 0xFF, 0xFF, 'v')), 0x81)
}

func (g *generator) propertyStrings(p place, add func(string, []byte, ...byte)) {
	for _, f := range faults() {
		s := notUTF8[f]
		for _, id := range p.strings {
			add(fmt.Sprintf("property-%02x-%s", id, f), p.build(pStr(id, s)), 0x81)
		}
		add("user-key-"+f, p.build(pUserPair(s, "v")), 0x81)
		add("user-value-"+f, p.build(pUserPair("k", s)), 0x81)
	}
}

// propertyValues adds values that a property cannot have.
func (g *generator) propertyValues() {
	at := func(i int, name string, b []byte, codes ...byte) {
		p := places()[i]
		if p.typ == tCONNECT {
			g.first(p.name+name, p.build(b), codes...)
		} else {
			g.both(p.typ, p.name+name, p.build(b), codes...)
		}
	}
	const inConnect, inWill, inPublish, inSubscribe = 0, 1, 2, 3
	at(inConnect, "receive-maximum-0", pU16(pReceiveMax, 0), 0x82)
	at(inConnect, "maximum-packet-size-0", pU32(pMaximumPacket, 0), 0x82)
	at(inConnect, "auth-data-without-method", pStr(pAuthData, "d"), 0x82)
	for _, n := range []byte{2, 0x7F, 0xFF} {
		at(inConnect, fmt.Sprintf("problem-information-%d", n), pByte(pProblemInfo, n), 0x81, 0x82)
		at(inConnect, fmt.Sprintf("response-information-%d", n), pByte(pResponseInfoReq, n), 0x81, 0x82)
		at(inWill, fmt.Sprintf("payload-format-%d", n), pByte(pPayloadFormat, n), 0x81, 0x82)
		at(inPublish, fmt.Sprintf("payload-format-%d", n), pByte(pPayloadFormat, n), 0x81, 0x82)
	}
	for _, s := range []string{"#", "+", "a/#", "a/+/b", "a#"} {
		at(inWill, "response-topic-"+s, pStr(pResponseTopic, s), 0x81, 0x82, 0x90)
		at(inPublish, "response-topic-"+s, pStr(pResponseTopic, s), 0x81, 0x82, 0x90)
	}
	at(inPublish, "alias-0", pU16(pAlias, 0), 0x94)
	at(inPublish, "subscription-id-1", pVar(pSubscriptionID, 1), 0x82)
	at(inPublish, "subscription-id-0", pVar(pSubscriptionID, 0), 0x82)
	at(inPublish, "subscription-id-largest", pVar(pSubscriptionID, 268435455), 0x82)
	at(inSubscribe, "subscription-id-0", pVar(pSubscriptionID, 0), 0x82)
	at(inSubscribe, "subscription-id-five-bytes", raw(pSubscriptionID, 0x80, 0x80, 0x80, 0x80, 1), 0x81)
	at(inSubscribe, "subscription-id-not-minimal", raw(pSubscriptionID, 0x81, 0), 0x81)
	for _, id := range []byte{pMessageExpiry, pCorrelation} { // what belongs in PUBLISH must not hide in the wrong form
		at(inPublish, fmt.Sprintf("property-%02x-then-rubbish", id), cat(sample(id), raw(0xFF)), 0x81)
	}
}
