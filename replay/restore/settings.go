package restore

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/replay/databases"
	"github.com/walden-pg/walden/replay/plan"
)

// settings are the lines for postgresql.auto.conf.
type settings struct {
	lines   []plan.Setting
	cleared []string
}

// targetSettings are those of which at most one may be set; a backup of a
// cluster that was itself restored still has its own.
var targetSettings = []string{
	"recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid",
}

// makeSettings decides on what is appended to postgresql.auto.conf. Later lines
// win over earlier ones.
func makeSettings(p *plan.Plan, m *basebackup.Manifest, o Options) (settings, error) {
	var s settings
	if strings.TrimSpace(o.RestoreCommand) == "" {
		return s, fmt.Errorf("restore: no restore_command given: PostgreSQL needs one to fetch the WAL")
	}
	s.add("restore_command", o.RestoreCommand)
	s.clearHarm(m.Major, o.KeepArchiving)
	if o.Databases.IsPartial() {
		// Without it PostgreSQL ends at the first reference to a page that is
		// hollow; recovery.Options.Whole makes up for what it hides.
		s.add("ignore_invalid_pages", "on")
	}
	if err := s.addTarget(p, o); err != nil {
		return s, err
	}
	for _, name := range slices.Sorted(maps.Keys(o.Set)) {
		if err := checkSetting(name); err != nil {
			return s, err
		}
		s.add(name, o.Set[name])
		s.cleared = slices.DeleteFunc(s.cleared, func(c string) bool { return strings.EqualFold(c, name) })
	}
	for _, line := range s.lines {
		if strings.ContainsRune(line.Value, 0) {
			return s, fmt.Errorf("restore: the value of %s holds a zero byte", line.Name)
		}
	}
	return s, nil
}

func (s *settings) add(name, value string) {
	s.lines = append(s.lines, plan.Setting{Name: name, Value: value})
}

// clearHarm switches off what would let the restored cluster act on others: on
// the archive of the one it came from, on its standbys and publishers.
func (s *settings) clearHarm(major int, keepArchiving bool) {
	harm := []plan.Setting{}
	if !keepArchiving {
		harm = append(harm, plan.Setting{Name: "archive_mode", Value: "off"}, plan.Setting{Name: "archive_command"})
		if major >= 15 {
			harm = append(harm, plan.Setting{Name: "archive_library"})
		}
		// Subscriptions would take over the original's slots at the publisher.
		harm = append(harm, plan.Setting{Name: "max_logical_replication_workers", Value: "0"})
	}
	harm = append(harm,
		plan.Setting{Name: "synchronous_standby_names"}, plan.Setting{Name: "primary_conninfo"},
		plan.Setting{Name: "primary_slot_name"},
		// A standby's would delete from the archive.
		plan.Setting{Name: "archive_cleanup_command"}, plan.Setting{Name: "recovery_end_command"})
	for _, h := range harm {
		s.lines = append(s.lines, h)
		s.cleared = append(s.cleared, h.Name)
	}
}

// addTarget adds the plan's settings, and empties the targets that it has not.
func (s *settings) addTarget(p *plan.Plan, o Options) error {
	if o.Action == "" {
		o.Action = ActionPause
	}
	if !slices.Contains([]Action{ActionPause, ActionPromote, ActionShutdown}, o.Action) {
		return fmt.Errorf("restore: unknown action %q: it is %s, %s or %s", o.Action, ActionPause, ActionPromote, ActionShutdown)
	}
	// Empty ones first: the server takes its settings one after the other, and
	// an empty target makes it forget the one it has (assign_recovery_target_xid
	// and its like in xlogrecovery.c).
	for _, name := range targetSettings {
		s.add(name, "")
	}
	for _, line := range p.Settings {
		if err := checkName(line.Name); err != nil {
			return err
		}
		isTarget := slices.Contains(targetSettings, line.Name)
		if isTarget && line.Value == "" {
			continue
		}
		// A standby follows a timeline, but stops nowhere.
		if o.Standby && line.Name != "recovery_target_timeline" {
			continue
		}
		if o.Standby && p.Follow != "" {
			line.Value = p.Follow
		}
		if isTarget {
			s.lines = slices.DeleteFunc(s.lines, func(l plan.Setting) bool { return l.Name == line.Name })
		}
		s.lines = append(s.lines, line)
	}
	if !o.Standby {
		s.add("recovery_target_action", string(o.Action))
		// That of a delayed standby would hold this recovery up as well.
		s.add("recovery_min_apply_delay", "0")
	}
	return nil
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?$`)

func checkName(name string) error {
	if !settingName.MatchString(name) {
		return fmt.Errorf("restore: %q is not the name of a setting", name)
	}
	return nil
}

// checkSetting refuses settings of the user's that would undo the plan.
func checkSetting(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	lower := strings.ToLower(name)
	switch {
	case strings.HasPrefix(lower, "recovery_target"):
		return fmt.Errorf("restore: %s is the plan's to set: give the target in its own flags", name)
	case slices.Contains([]string{"data_directory", "config_file", "hba_file", "ident_file", "external_pid_file"}, lower):
		return fmt.Errorf("restore: %s has no effect in postgresql.auto.conf: give it when the server is started", name)
	}
	return nil
}

const (
	// autoConf is the file that settings are appended to.
	autoConf = "postgresql.auto.conf"
	// blockBegins is how a restore's settings begin there; the date follows.
	blockBegins = "# Written by walden on "
)

// block is the text that is appended to postgresql.auto.conf.
func (s *settings) block(backup, target string, choice *databases.Choice, now time.Time) string {
	what := ""
	if choice != nil {
		what = fmt.Sprintf("of %s alone, ", oneLine(choice.String()))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s%s: restore %sof backup %s to %s.\n", blockBegins,
		now.UTC().Format("2006-01-02 15:04:05 MST"), what, backup, oneLine(target))
	if choice != nil && len(choice.Hollow) > 0 {
		b.WriteString("# This is no whole cluster: the files of its other databases are zeros. Drop those databases.\n")
	}
	for _, l := range s.lines {
		fmt.Fprintf(&b, "%s = %s\n", l.Name, quote(l.Value))
	}
	return b.String()
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// quote writes a value as the server's configuration file reads it: quotes are
// doubled, backslashes begin escapes (guc-file.l, DeescapeQuotedString).
func quote(v string) string {
	return "'" + strings.NewReplacer(`'`, `''`, `\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "\b", `\b`, "\f", `\f`).Replace(v) + "'"
}
