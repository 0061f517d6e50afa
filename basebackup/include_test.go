package basebackup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIncludes(t *testing.T) {
	const text = "# include 'no'\n" +
		"include 'a b.conf' # 'no'\n" +
		"  INCLUDE_dir = 'conf.d'\t# include files ending in .conf\n" +
		"include_if_exists='it''s\\'x'\r\n" +
		"include bare/x-1.conf\n" +
		"include \"quoted hba.conf\"\n" +
		"include=eq.conf#no\n" +
		"include 'open\n" +
		"include\n" +
		"included = 'no'\n" +
		"include_dirs 'no'\n" +
		"log_line_prefix = '%u @no'\n" +
		"host all @users,bob,@\"the admins\" 10.0.0.1/32 scram-sha-256 # @no\n" +
		"host \"@no\" x@no all trust\n" +
		"@first"
	want := []Include{
		{IncludeFile, "a b.conf"}, {IncludeDirectory, "conf.d"}, {IncludeIfExists, "it's'x"}, {IncludeFile, "bare/x-1.conf"},
		{IncludeFile, "quoted hba.conf"}, {IncludeFile, "eq.conf"},
		{IncludeIfExists, "users"}, {IncludeIfExists, "the admins"}, {IncludeIfExists, "first"},
	}
	if d := cmp.Diff(want, Includes([]byte(text))); d != "" {
		t.Error(d)
	}
}
