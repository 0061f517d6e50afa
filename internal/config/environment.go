package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
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
// underscore). An empty variable counts as not set.
func (c *Config) applyEnvironment(env map[string]string) error {
	if err := overrideStruct(reflect.ValueOf(&c.Repository).Elem(), "WALDEN_REPOSITORY", env); err != nil {
		return err
	}
	names := make(map[string]string) // variable prefix → cluster
	for n := range c.Clusters {
		names["WALDEN_CLUSTERS_"+variable(n)] = n
	}
	for k := range env {
		rest, ok := strings.CutPrefix(k, "WALDEN_CLUSTERS_")
		if !ok {
			continue
		}
		for _, leaf := range leaves(reflect.TypeFor[Cluster]()) {
			if n, ok := strings.CutSuffix(rest, "_"+leaf); ok && n != "" && names["WALDEN_CLUSTERS_"+n] == "" {
				names["WALDEN_CLUSTERS_"+n] = strings.ToLower(n)
			}
		}
	}
	for prefix, n := range names {
		cl := c.Clusters[n]
		if err := overrideStruct(reflect.ValueOf(&cl).Elem(), prefix, env); err != nil {
			return err
		}
		if c.Clusters == nil {
			c.Clusters = make(map[string]Cluster)
		}
		c.Clusters[n] = cl
	}
	return nil
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

func overrideStruct(v reflect.Value, prefix string, env map[string]string) error {
	for i := range v.NumField() {
		name := prefix + "_" + variable(yamlName(v.Type().Field(i)))
		field := v.Field(i)
		if field.Kind() == reflect.Struct {
			if err := overrideStruct(field, name, env); err != nil {
				return err
			}
			continue
		}
		if field.Kind() == reflect.Pointer {
			if err := overridePointer(field, name, env); err != nil {
				return err
			}
			continue
		}
		value := env[name]
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

// overridePointer overrides an optional section, which exists as soon as a
// variable sets one of its keys.
func overridePointer(field reflect.Value, prefix string, env map[string]string) error {
	section := reflect.New(field.Type().Elem())
	if !field.IsNil() {
		section.Elem().Set(field.Elem())
	}
	before := section.Elem().Interface()
	if err := overrideStruct(section.Elem(), prefix, env); err != nil {
		return err
	}
	if section.Elem().Interface() != before {
		field.Set(section)
	}
	return nil
}
