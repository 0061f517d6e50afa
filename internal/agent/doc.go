// Package agent does by itself, again and again, what a person would have to
// remember: it takes base backups on an interval.
package agent
