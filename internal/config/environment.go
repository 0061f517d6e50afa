package config

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
)

// What the variables that override keys begin with.
const (
	repositoryVariables = "WALDEN_REPOSITORY"
	clusterVariables    = "WALDEN_CLUSTERS"
)

func parseEnviron(environ []string) map[string]string {
	m := make(map[string]string)
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "WALDEN_") {
			m[k] = v
		}
	}
	return m
}

// applyEnvironment overrides every key that has a variable: the key's path in
// upper case, joined by underscores, behind WALDEN_ (repository.s3.endpoint is
// WALDEN_REPOSITORY_S3_ENDPOINT; a dash in a cluster's name becomes an
// underscore). An empty variable counts as not set. As in the file, a key that
// does not exist is an error: it may be a misspelt one.
func (c *Config) applyEnvironment(env map[string]string) error {
	o := override{env: env, known: make(map[string]bool)}
	if err := o.structure(reflect.ValueOf(&c.Repository).Elem(), repositoryVariables); err != nil {
		return err
	}
	names := make(map[string]string) // variable prefix → cluster
	for n := range c.Clusters {
		names[clusterVariables+"_"+variable(n)] = n
	}
	for k := range env {
		rest, ok := strings.CutPrefix(k, clusterVariables+"_")
		if !ok {
			continue
		}
		for _, leaf := range leaves(reflect.TypeFor[Cluster]()) {
			if n, ok := strings.CutSuffix(rest, "_"+leaf); ok && n != "" && names[clusterVariables+"_"+n] == "" {
				names[clusterVariables+"_"+n] = strings.ToLower(n)
			}
		}
	}
	for prefix, n := range names {
		cl := c.Clusters[n]
		if err := o.structure(reflect.ValueOf(&cl).Elem(), prefix); err != nil {
			return err
		}
		if c.Clusters == nil {
			c.Clusters = make(map[string]Cluster)
		}
		c.Clusters[n] = cl
	}
	return o.unknown()
}

// override applies the environment, and notes which variables mean something.
type override struct {
	env   map[string]string
	known map[string]bool
}

// unknown refuses variables that look like keys and are none.
func (o override) unknown() error {
	var names []string
	for k, v := range o.env {
		isKey := strings.HasPrefix(k, repositoryVariables+"_") || strings.HasPrefix(k, clusterVariables+"_")
		if isKey && v != "" && !o.known[k] {
			names = append(names, k)
		}
	}
	if len(names) == 0 {
		return nil
	}
	sort.Strings(names)
	return fmt.Errorf("environment variable %s: the configuration has no such key", strings.Join(names, ", "))
}

func variable(key string) string {
	return strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

func yamlName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name
}

func leaves(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		name, kind := variable(yamlName(t.Field(i))), t.Field(i).Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if kind.Kind() != reflect.Struct {
			out = append(out, name)
			continue
		}
		for _, leaf := range leaves(kind) {
			out = append(out, name+"_"+leaf)
		}
	}
	return out
}

func (o override) structure(v reflect.Value, prefix string) error {
	for i := range v.NumField() {
		name := prefix + "_" + variable(yamlName(v.Type().Field(i)))
		field := v.Field(i)
		if field.Kind() == reflect.Struct {
			if err := o.structure(field, name); err != nil {
				return err
			}
			continue
		}
		if field.Kind() == reflect.Pointer {
			if err := o.section(field, name); err != nil {
				return err
			}
			continue
		}
		o.known[name] = true
		value := o.env[name]
		if value == "" {
			continue
		}
		switch field.Kind() {
		case reflect.String:
			field.SetString(value)
		case reflect.Bool:
			b, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("environment variable %s: %q is neither true nor false", name, value)
			}
			field.SetBool(b)
		default:
			return fmt.Errorf("environment variable %s: unsupported type %s", name, field.Kind())
		}
	}
	return nil
}

// section overrides an optional section, which exists as soon as a variable sets
// one of its keys.
func (o override) section(field reflect.Value, prefix string) error {
	section := reflect.New(field.Type().Elem())
	if !field.IsNil() {
		section.Elem().Set(field.Elem())
	}
	before := section.Elem().Interface()
	if err := o.structure(section.Elem(), prefix); err != nil {
		return err
	}
	if section.Elem().Interface() != before {
		field.Set(section)
	}
	return nil
}
