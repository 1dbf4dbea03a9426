package main

import (
	"slices"
	"testing"
)

func TestExtraFlagsStandAfterDashes(t *testing.T) {
	for _, one := range []struct {
		args, extra []string
		refused     bool
	}{
		{args: []string{"--dir", "d"}},
		{args: []string{"--dir", "d", "--"}},
		{args: []string{"--dir", "d", "--", "--v=4", "-h"}, extra: []string{"--v=4", "-h"}},
		{args: []string{"--dir", "d", "word"}, refused: true},
		{args: []string{"word", "--", "--v=4"}, refused: true},
	} {
		fs := flagSet("serve", serveAbout)
		fs.String("dir", "", "")
		if err := fs.Parse(one.args); err != nil {
			t.Fatal(err)
		}
		extra, err := afterDashes(fs)
		if (err != nil) != one.refused || !slices.Equal(extra, one.extra) {
			t.Errorf("%q: got %q, %v", one.args, extra, err)
		}
	}
}

func TestTheSameFolderKeepsItsTokens(t *testing.T) {
	t.Chdir(t.TempDir())
	first, err := loadOrMakeTokens()
	if err != nil {
		t.Fatal(err)
	}
	second, err := loadOrMakeTokens()
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{adminUser, readinessUser, "system:node:n3"} {
		if first[user] == "" || first[user] != second[user] {
			t.Errorf("%s: first %q, then %q", user, first[user], second[user])
		}
	}
	if got := second["user-63"]; got != "token-user-63" {
		t.Errorf("user-63 has the token %q", got)
	}
}
