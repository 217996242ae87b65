package cli

import (
	"errors"

	"github.com/myelin-mqtt/myelin/internal/acl"
	"github.com/myelin-mqtt/myelin/internal/config"
)

// loadRules reads the file of access rules, nil where none is named. Its own
// tests have to pass.
func loadRules(c config.Config) (*acl.Policy, error) {
	if c.Authorization.Policy == "" {
		return nil, nil
	}
	p, faults := acl.Load(c.Authorization.Policy, c.Authorization.Format)
	if len(faults) == 0 {
		faults = p.Run()
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return p, nil
}

// openRules makes the broker's Authorizer, where there are rules.
func (d *daemon) openRules(c config.Config) error {
	p, err := loadRules(c)
	if p == nil || err != nil {
		return err
	}
	d.rules = acl.NewAuthorizer(p)
	return nil
}

// reloadRules reads the file of access rules that the daemon was started with
// again. One with a fault changes nothing.
func (d *daemon) reloadRules() {
	if d.rules == nil {
		return
	}
	p, err := loadRules(d.started)
	var faults config.Faults
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			d.log.Error("access rules not reloaded", "err", f.String(), "hint", f.Hint)
		}
	case err != nil:
		d.log.Error("access rules not reloaded", "err", err)
	default:
		d.rules.Set(p)
		d.broker.Rejudge()
		d.log.Info("access rules reloaded", "file", p.Name)
	}
}
