// Package acl holds the rules that say who may publish and subscribe where: a
// policy file of users, roles and rules, or an ACL file of Mosquitto, read into
// one model, and the broker.Authorizer that asks it. It does not authenticate
// anybody, and it does not know where the file is named: package cli does.
//
// policy.go is the model: a list of rules of which the first that matches
// decides. pattern.go compares topic filters, yaml.go and mosquitto.go read
// files, when.go has the conditions, and authorizer.go is what the broker
// asks. Start with Load, and with Policy.Decide.
package acl
