package drill

import (
	"fmt"
	"strings"
)

// ParseAssertions reads a file of assertions. A statement ends with a semicolon at the end of a
// line. Lines that begin with "--" are comments; the last one before a statement names it, and
//
//	-- database: NAME
//
// says where those that follow run.
func ParseAssertions(text string) ([]Assertion, error) {
	var list []Assertion
	var sql []string
	name, database, began := "", "", 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		comment, isComment := strings.CutPrefix(strings.TrimSpace(line), "--")
		switch {
		case isComment && len(sql) == 0:
			comment = strings.TrimSpace(comment)
			if db, ok := strings.CutPrefix(comment, "database:"); ok {
				database, name = strings.TrimSpace(db), ""
				continue
			}
			name = comment
			continue
		case line == "" && len(sql) == 0:
			continue
		case len(sql) == 0:
			began = i + 1
		}
		body, ended := strings.CutSuffix(line, ";")
		sql = append(sql, body)
		if !ended {
			continue
		}
		statement := strings.TrimSpace(strings.Join(sql, "\n"))
		if statement == "" {
			return nil, fmt.Errorf("line %d: the statement is empty", i+1)
		}
		list = append(list, Assertion{Name: name, Database: database, SQL: statement})
		sql, name = nil, ""
	}
	if len(sql) > 0 {
		return nil, fmt.Errorf("line %d: the statement does not end: a semicolon at the end of a line is missing", began)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("it holds no statement")
	}
	return list, nil
}
