// Package lint holds the house rules that no linter checks; they are its
// tests, which make lint runs with the linter.
package lint
